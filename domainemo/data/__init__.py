"""Data: recordings as windows, how they are sampled, normalised, read and made up."""
