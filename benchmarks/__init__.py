"""Benchmarks, run as `python -m benchmarks.NAME`; each compares two sides within one run."""
