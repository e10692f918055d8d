"""The navigation of the pages: a link to each section, and below them the pages of the section that is open. Pure."""

from typing import Final, NamedTuple

SECTIONS: Final = (
    (("Overview", "/"),),
    (
        ("Machines", "/machines"),
        ("Components", "/components"),
        ("Images", "/images"),
        ("Snapshots", "/snapshots"),
        ("Hotpatches", "/hotpatch"),
        ("Who patches", "/owners"),
        ("Orders", "/orders"),
    ),
    (("Updates", "/updates"),),
    (("Runs", "/runs"),),
    (("Calendar", "/calendar"), ("Maintenance", "/maintenance"), ("Events", "/events")),
    (("Approvals", "/approvals"),),
    (("Compliance", "/compliance"),),
    (("Patch", "/patch"),),
    (("Audit log", "/audit"),),
)
"""Sections with the titles and addresses of their pages. A section has the title of its first page."""


class Link(NamedTuple):
    """A link of the navigation."""

    title: str
    path: str
    current: str  # "page": it leads to the open page, or to the list that it belongs to; "true": to its section; ""


def build_navigation(open_path: str) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """Return the links to the sections, and to the pages of the open one, if it has several.

    ``open_path`` is the path of the page that is shown.
    """
    sections: list[Link] = []
    below: tuple[Link, ...] = ()
    for pages in SECTIONS:
        links = tuple(Link(title, path, "page" if _is_open(path, open_path) else "") for title, path in pages)
        is_open = any(link.current for link in links)
        sections.append(links[0]._replace(current=links[0].current or ("true" if is_open else "")))
        if is_open and len(links) > 1:
            below = links
    return tuple(sections), below


def _is_open(path: str, open_path: str) -> bool:
    return open_path == path or (path != "/" and open_path.startswith(f"{path}/"))
