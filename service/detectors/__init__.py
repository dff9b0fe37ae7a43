"""Stored detectors: their records, specs, database tables, and the fitted detectors in memory."""
