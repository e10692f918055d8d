"""The roles of people and programs. Each allows its own acts, and none includes another, except that all may look."""

from enum import StrEnum


class Role(StrEnum):
    """What a login may do. ``approve`` and ``run`` are apart, so that two people are needed where approval is asked."""

    VIEW = "view"
    APPROVE = "approve"
    RUN = "run"
