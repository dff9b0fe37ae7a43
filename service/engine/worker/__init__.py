"""Device workers: processes, protocol, decoding."""
