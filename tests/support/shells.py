"""The shells that machines' scripts have to run in."""

SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
"""By name, how a shell is started."""
