"""Two policies as a user writes them, with a field each."""

from clustersim.policies import ALL, BatchingPolicy, Router, Step, blocks_for


class OneByOne(BatchingPolicy):
    """Admit the first waiting prompt that fits, whole; decode everything that runs."""

    max_batch: int = 32

    def next_step(self, view):
        step = Step(decode=ALL)
        for seq in view.waiting[:1]:
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens)
            if need * view.block_tokens <= view.free_kv_tokens and len(view.running) < self.max_batch:
                step.prefill[seq] = seq.prefill_left
        return step


class LastReplica(Router):
    """Send everything to the replica that is so many places from the last."""

    back: int = 0

    def route(self, request, replicas):
        return replicas.count - 1 - self.back
