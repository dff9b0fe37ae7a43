"""Calibrations of stored detectors."""
