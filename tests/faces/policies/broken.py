"""Policies that break their contract, each in its own way."""

from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router, Step


class NoMethod(BatchingPolicy):
    """Forget to decide."""


class Misspells(BatchingPolicy):
    """Ask the view for what it has not."""

    def next_step(self, view):
        return Step(prefill={seq: seq.prefill_left for seq in view.wating})


class Seventeen(BatchingPolicy):
    """Return a number."""

    def next_step(self, view):
        return 17


class ByNumber(BatchingPolicy):
    """Name requests by their numbers."""

    def next_step(self, view):
        return Step(prefill={seq.id: seq.prefill_left for seq in view.waiting})


class HalfToken(BatchingPolicy):
    """Prefill halves of tokens."""

    def next_step(self, view):
        return Step(prefill={seq: seq.prefill_left / 8 for seq in view.waiting})


class TooMuch(BatchingPolicy):
    """Prefill more than is left."""

    def next_step(self, view):
        return Step(prefill=dict.fromkeys(view.waiting, 100_000))


class Idle(BatchingPolicy):
    """Choose nobody, ever."""

    def next_step(self, view):
        return Step()


class Outside(Router):
    """Send requests to a replica that there is not."""

    def route(self, request, replicas):
        return replicas.count


class Careless(Router):
    """Divide by nothing."""

    def route(self, request, replicas):
        return request.id // (replicas.count - 1)


class Undecided(Admission):
    """Say neither yes nor no."""

    def admit(self, request, replicas, replica):
        return None


class Negative(ArrivalShape):
    """Let requests come at less than no rate."""

    def rate(self, t_s):
        return t_s - 10.0
