"""The roles of people and programs. Each allows its own acts, and none includes another, except that all may look.

``run`` and ``approve`` may be limited to machines: ``run@env=stage`` needs every machine of a run in that scope. ``&``
joins conditions (``run@env=stage&os=linux``); of several such roles, each adds its machines. ``view`` is never limited.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum

from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.scope import Scope


class Role(StrEnum):
    """What a login may do. ``approve`` and ``run`` are apart, so that two people are needed where approval is asked."""

    VIEW = "view"
    APPROVE = "approve"
    RUN = "run"


_AND = "&"
_KNOWN = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class Grants:
    """The roles of a login, and to which machines they are limited."""

    roles: frozenset[Role]
    # Scope expressions by role. A role without one is not limited.
    scopes: Mapping[Role, str] = field(default_factory=dict)


def parse_roles(words: Iterable[str]) -> frozenset[Role]:
    """Return the roles without a limit that some words name. A proxy sends other groups too: they are no roles."""
    return frozenset(_KNOWN[word.strip()] for word in words if word.strip() in _KNOWN)


def parse_grants(words: Iterable[str]) -> Grants:
    """Return the roles that some words name, with their limits. Words that are none, or not valid, are no roles."""
    words = [word.strip() for word in words]
    unlimited = parse_roles(words)
    limited: dict[Role, list[str]] = {}
    for word in words:
        try:
            role, scope = parse_limited_role(word)
        except InventoryError:
            continue
        if scope and role not in unlimited:
            limited.setdefault(role, []).append(scope)
    return Grants(unlimited | limited.keys(), {role: " or ".join(scopes) for role, scopes in limited.items()})


def parse_limited_role(word: str) -> tuple[Role, str]:
    """Return the role of a word, and its scope; "" if it is not limited.

    Raises:
        InventoryError: it is no role, its scope is not valid, or the role can't be limited.
    """
    name, separator, terms = word.strip().partition("@")
    if name not in _KNOWN:
        raise InventoryError(f"{word} is no role", hint=f"Roles are {', '.join(Role)}; run@env=stage limits one.")
    role = _KNOWN[name]
    if not separator:
        return role, ""
    if role is Role.VIEW:
        raise InventoryError("the role view can't be limited", hint="All may look at everything: write `view`.")
    scope = Scope.parse(terms.replace(_AND, ","))
    if scope.alternatives:
        raise InventoryError(f"{word!r} has an `or`", hint="Give the role twice, each with its own scope.")
    return role, str(scope)
