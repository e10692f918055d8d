"""Machines with zypper."""

from tests.lab.families import ZYPPER, FamilyStories


class TestZypper(FamilyStories):
    family = ZYPPER
