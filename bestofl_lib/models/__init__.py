"""What a Transformers model is, for sampling and for rewards alike."""
