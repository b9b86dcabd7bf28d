"""What a model wrote: sampling, storing, importing and reading candidates."""
