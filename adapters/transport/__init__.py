"""Optimal transport between the domains."""
