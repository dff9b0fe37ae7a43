"""Caches in memory, and work that is shared by those who ask for it at once."""
