"""Uploaded images: fetching, encoding, and the record of the answer per image."""
