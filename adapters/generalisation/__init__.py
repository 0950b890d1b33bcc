"""Training for a target that nobody has seen."""
