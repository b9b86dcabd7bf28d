"""What is asked: problems in parallel languages, and the prompts made of them."""
