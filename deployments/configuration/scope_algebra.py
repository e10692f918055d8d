"""Scopes put together: the union of several, and each part of one narrowed."""

from collections.abc import Iterable

from inventory.scope import Scope


def build_union(scopes: Iterable[str]) -> str:
    """Return the scope of all machines that are in one of some scopes."""
    return " or ".join(scopes)


def narrow_scope(scope: str, term: str) -> str:
    """Return a scope with one more condition, which has to hold on every side of its `or`.

    Args:
        scope: any.
        term: such as ``zone=Europe/Berlin``.

    Raises:
        InventoryError: either makes no sense.
    """
    whole, (extra,) = Scope.parse(scope), Scope.parse(term).terms
    return str(Scope((*whole.terms, extra), tuple(Scope((*part.terms, extra)) for part in whole.alternatives)))
