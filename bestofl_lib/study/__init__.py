"""Runs notebooks in order, only those that changed, and records it: plan, parameters, freshness, execution, run.

A study is a YAML file with parameters; a notebook is a function with one cell of defaults; a run folder holds what
they make. The package knows files, digests and papermill. It knows nothing of what a table means or how a page looks:
the report is asked for from `display`.
"""
