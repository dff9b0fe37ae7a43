"""What there is to choose from: methods, encoders, templates, lexicons."""
