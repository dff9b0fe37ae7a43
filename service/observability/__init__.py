"""Logs, metrics and traces; never an image, a class name or a key."""
