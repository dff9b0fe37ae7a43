"""What survives a restart: keys, detectors and calibrations in SQL, vectors and scores in files."""
