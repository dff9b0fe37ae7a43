"""Reads request bodies into checked records: JSON, forms and uploaded files; readiness and disconnected clients."""
