"""Alignments of moments, kernels and covariances."""
