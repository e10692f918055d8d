"""The roles of people and programs. Each allows its own acts, and none includes another, except that all may look."""

from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    """What a login may do. ``approve`` and ``run`` are apart, so that two people are needed where approval is asked."""

    VIEW = "view"
    APPROVE = "approve"
    RUN = "run"


def parse_roles(words: Iterable[str]) -> frozenset[Role]:
    """Return the roles that some words name. A proxy sends the groups of its users too: unknown words are no roles."""
    known = {role.value: role for role in Role}
    return frozenset(known[word.strip()] for word in words if word.strip() in known)
