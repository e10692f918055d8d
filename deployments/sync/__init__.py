"""Writes configurations to Prefect: compares desired and actual state, and applies the changes."""
