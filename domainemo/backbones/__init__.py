"""Backbones: one network a file, brain regions beside them."""
