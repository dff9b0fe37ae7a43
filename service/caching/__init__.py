"""Caches in memory, and work that concurrent callers share."""
