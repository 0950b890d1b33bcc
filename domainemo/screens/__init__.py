"""Screens: which samples of the target are believed, and who learns from them."""
