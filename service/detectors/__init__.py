"""Detectors: class names and a method, kept under an id."""
