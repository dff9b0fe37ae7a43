"""Reads and writes files: atomic writes, the disk cache, banks and features, packaged data."""
