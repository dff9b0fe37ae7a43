"""Calibrations of stored detectors: made from uploaded ID images, and stored."""
