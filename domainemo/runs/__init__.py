"""The life of a run: plan folds, train them, join labels to predictions, write."""
