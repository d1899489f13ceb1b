"""What a run finds unusual, and a threshold for it."""
