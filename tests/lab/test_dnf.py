"""Machines with dnf 4."""

from tests.lab.families import DNF, FamilyStories


class TestDnf(FamilyStories):
    family = DNF
