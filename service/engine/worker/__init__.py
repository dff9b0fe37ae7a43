"""Device workers: processes, protocol, heads, decoding."""
