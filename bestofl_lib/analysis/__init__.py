"""What it adds up to: exact estimators, curves, complementarity, claims."""
