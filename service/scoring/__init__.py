"""Scores uploaded images and decides whether they are out-of-distribution."""
