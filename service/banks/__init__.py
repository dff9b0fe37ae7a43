"""Text banks: made, mined or uploaded."""
