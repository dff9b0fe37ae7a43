"""What survives a restart: rows in a database, and blobs of vectors and scores in files."""
