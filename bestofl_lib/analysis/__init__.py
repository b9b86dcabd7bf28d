"""Every figure: exact estimators, curves, complementarity, claims."""
