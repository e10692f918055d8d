"""Operations on scopes: union, and a further condition."""

from collections.abc import Iterable

from inventory.scope import Scope


def build_union(scopes: Iterable[str]) -> str:
    """Return a scope that matches each machine of these scopes."""
    return " or ".join(scopes)


def narrow_scope(scope: str, term: str) -> str:
    """Return the scope with one more condition. The condition applies to each part of an `or`.

    Args:
        scope: any scope.
        term: a term such as ``zone=Europe/Berlin``.

    Raises:
        InventoryError: the scope or the term is invalid.
    """
    whole, (extra,) = Scope.parse(scope), Scope.parse(term).terms
    return str(Scope((*whole.terms, extra), tuple(Scope((*part.terms, extra)) for part in whole.alternatives)))
