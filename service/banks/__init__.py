"""Stored banks: vectors of names or of labelled images, uploaded or made by the server."""
