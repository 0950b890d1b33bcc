"""Samplings: how windows become the samples that a network sees."""
