"""Attacks on the doors of fleetpatch, from outside: by another user, another origin, another port, or SQL."""
