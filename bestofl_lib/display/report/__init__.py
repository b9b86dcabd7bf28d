"""The pages of a report: the notebooks of a run, its atlas, the comparison of two runs."""
