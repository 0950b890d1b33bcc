"""Evaluation: run folds, join labels to final predictions, score, compare."""
