"""Training: batches, the one loop, and selection without target labels."""
