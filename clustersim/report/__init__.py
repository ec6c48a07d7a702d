"""A run or a sweep as one offline HTML file."""

from clustersim.report.page import write

__all__ = ["write"]
