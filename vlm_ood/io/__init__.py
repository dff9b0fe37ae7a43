"""Files: whole or not at all, caches, banks and features, what the package ships."""
