"""What a person sees: charts, the explorer, the report."""
