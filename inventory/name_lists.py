"""Lists of names in messages."""

from collections.abc import Sequence


def join_first_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, at most ``limit``, and the number of the others."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
