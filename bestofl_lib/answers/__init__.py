"""What was read from completions, apart from what was written."""
