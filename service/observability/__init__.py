"""Logs, metrics and traces; they never contain an image, a class name or a key."""
