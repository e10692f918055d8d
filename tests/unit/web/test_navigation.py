"""The navigation marks where a person is, and shows the pages of the open section alone."""

import pytest

from fleetpatch.web.rendering import SECTIONS, build_navigation


@pytest.mark.parametrize(
    ("path", "section", "page"),
    [
        ("/", ("Overview", "page"), ""),
        ("/runs/20261123-075000-11fe01", ("Runs", "page"), ""),
        ("/machines/web-07", ("Machines", "page"), "Machines"),
        ("/hotpatch", ("Machines", "true"), "Hotpatches"),
        ("/orders/order-1", ("Machines", "true"), "Orders"),
        ("/maintenance/databases", ("Calendar", "true"), "Maintenance"),
    ],
)
def test_the_open_page_and_its_section_are_marked(path: str, section: tuple[str, str], page: str) -> None:
    sections, below = build_navigation(path)
    assert [(link.title, link.current) for link in sections if link.current] == [section]
    assert [link.title for link in below if link.current == "page"] == ([page] if page else [])
    assert len(sections) == len(SECTIONS)


@pytest.mark.parametrize("path", ["/login", "/machinesx", "/ownersx/y"])
def test_elsewhere_nothing_is_marked(path: str) -> None:
    sections, below = build_navigation(path)
    assert (below, [link for link in sections if link.current]) == ((), [])
