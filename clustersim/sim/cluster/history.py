"""What finished jobs have shown of durations: all that a scheduler without estimates can learn."""

from __future__ import annotations


class History:
    """Mean durations of finished jobs, by user and over all, and their services."""

    def __init__(self) -> None:
        self.services: list[float] = []
        """Accelerator-seconds of the finished jobs, in the order in which they ended."""
        self._sums: dict[str, tuple[float, int]] = {}
        self._all = (0.0, 0)

    def note(self, user: str, duration_s: float, service: float) -> None:
        """Count a finished job with its accelerator-seconds."""
        self.services.append(service)
        total_s, count = self._sums.get(user, (0.0, 0))
        self._sums[user] = (total_s + duration_s, count + 1)
        self._all = (self._all[0] + duration_s, self._all[1] + 1)

    def mean_s(self, user: str) -> float:
        """Return the mean of *user*'s jobs; of all, if none has finished; infinity at first."""
        total_s, count = self._sums.get(user, self._all)
        return total_s / count if count else float("inf")
