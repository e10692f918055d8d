"""Lists of names in messages."""

from collections.abc import Sequence


def join_first_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, at most ``limit``, and the number of the others."""
    first_names = ", ".join(names[:limit])
    return f"{first_names} and {len(names) - limit} more" if len(names) > limit else first_names


def format_count(number: float, singular: str, verbs: tuple[str, str] | None = None) -> str:
    """Return a number with its noun: "1 machine", "3 machines", "0 entries". A narrow space separates thousands.

    Args:
        number: of the things.
        singular: the noun for one.
        verbs: what follows: ("is", "are") gives "1 machine is" or "3 machines are".
    """
    is_one = number == 1
    plural = f"{singular[:-1]}ies" if singular.endswith("y") and singular[-2] not in "aeiou" else f"{singular}s"
    plural = f"{singular}es" if singular.endswith(("ch", "sh", "s", "x")) else plural
    verb = f" {verbs[0] if is_one else verbs[1]}" if verbs else ""
    return f"{number:,} {singular if is_one else plural}{verb}".replace(",", "\u202f")
