"""Costs in ratios taken in one run: `python -m benchmarks.NAME`."""
