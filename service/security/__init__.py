"""Access by key, rate limits, limits of bodies and connections, headers for browsers, and fetching of URLs."""
