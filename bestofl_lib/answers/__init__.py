"""What was read from completions, kept apart from what was written."""
