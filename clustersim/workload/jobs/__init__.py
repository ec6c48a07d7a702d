"""Workloads of jobs: columns, readers of published traces, generators."""

from clustersim.workload.jobs.columns import Jobs, make_jobs

__all__ = ["Jobs", "make_jobs"]
