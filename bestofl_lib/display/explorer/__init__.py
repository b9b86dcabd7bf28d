"""The explorer of one run's candidates, a widget for notebooks."""
