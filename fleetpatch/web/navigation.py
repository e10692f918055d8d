"""The pages of the navigation, in order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """A link of the navigation."""

    title: str
    path: str


PAGES = (
    NavigationEntry("Overview", "/"),
    NavigationEntry("Machines", "/machines"),
    NavigationEntry("Updates", "/updates"),
    NavigationEntry("Runs", "/runs"),
    NavigationEntry("Calendar", "/calendar"),
    NavigationEntry("Approvals", "/approvals"),
    NavigationEntry("Compliance", "/compliance"),
    NavigationEntry("Patch", "/patch"),
    NavigationEntry("Audit log", "/audit"),
)
