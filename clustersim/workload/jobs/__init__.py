"""Workloads of jobs: columns, readers of published traces, generators."""

from clustersim.workload.jobs.columns import Jobs, make_jobs
from clustersim.workload.jobs.draw import draw_jobs
from clustersim.workload.jobs.reading import formats, read_jobs
from clustersim.workload.jobs.special import ReadOptions, gavel_throughputs

__all__ = ["Jobs", "ReadOptions", "draw_jobs", "formats", "gavel_throughputs", "make_jobs", "read_jobs"]
