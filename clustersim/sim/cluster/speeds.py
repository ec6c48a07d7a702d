"""How fast a job runs where it was put, in units of its speed as requested. No clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clustersim.policies.cluster import JobView

Profile = Mapping[tuple[str, int], float]
"""Speed by kind and number of accelerators; any unit, only ratios count."""


@dataclass(frozen=True, slots=True, eq=False)
class Speeds:
    """Known speeds of profiles; where none is known, a power of the accelerators."""

    scaling: float = 1.0
    across_nodes: float = 1.0
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    reference: str = ""
    """The kind of accelerator on which a job's duration was measured."""

    def throughput(self, job: JobView, accelerators: int, kind: str = "") -> float:
        """Return what the profile of *job* says for *kind* (the reference by default), else its speed."""
        profile = self.profiles.get(job.profile)
        if profile is None:
            return self.speed(job, accelerators, kind)
        return profile.get((kind or self.reference, accelerators), 0.0)

    def speed(self, job: JobView, accelerators: int, kind: str = "", is_spread: bool = False) -> float:
        """Return the speed of *job* on so many accelerators of *kind*; 1 as requested on the reference."""
        factor = self.across_nodes if is_spread else 1.0
        profile = self.profiles.get(job.profile) if self.profiles else None
        if profile is not None and (kind, accelerators) in profile:
            known = profile.get((self.reference, job.accelerators), 0.0)
            return factor * profile[kind, accelerators] / known if known else factor
        if accelerators == job.accelerators or not job.accelerators:
            return factor
        return factor * float((accelerators / job.accelerators) ** self.scaling)
