"""Attacks on a running server, one phase per attack, and whether it holds its bounds meanwhile."""
