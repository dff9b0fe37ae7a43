"""Images to scores and decisions."""
