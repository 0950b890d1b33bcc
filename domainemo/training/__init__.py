"""Training: batches, the one fit loop, and selection without target labels."""
