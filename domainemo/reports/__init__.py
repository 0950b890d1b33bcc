"""Figures of what a run has found."""
