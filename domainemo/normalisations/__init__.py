"""Normalisations: how values are scaled by what a fold allows to be seen."""
