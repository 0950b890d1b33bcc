"""Controls: what can be predicted from next to nothing, on the same folds."""
