"""One contract for all providers of machines: each runs the same tests."""
