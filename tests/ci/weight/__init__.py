"""What this checkout weighs, in figures: `python -m tests.ci.weight --help`."""
