"""Benchmarks: data sets x protocols x backbones x adapters, to one table."""
