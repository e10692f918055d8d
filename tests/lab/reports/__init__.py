"""Situations from public bug reports, on real machines. ``make reports`` plays them all and prints each verdict."""
