"""Images that callers send: fetched, encoded, and one answer per image."""
