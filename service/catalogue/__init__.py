"""Records of the lists of methods, encoders, templates and lexicons."""
