"""Prices of a training step: plans in, seconds and bytes out, vectorised over plans. No clock."""
