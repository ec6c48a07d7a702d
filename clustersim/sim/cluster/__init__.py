"""A cluster that jobs share, exact to the event."""

from clustersim.sim.cluster.run import ClusterOutcome, KnownSpeeds, simulate_cluster, without_oversized

__all__ = ["ClusterOutcome", "KnownSpeeds", "simulate_cluster", "without_oversized"]
