"""Links in notifications: the controller's own addresses, and nothing that a machine said."""

import pytest

from flows.notify.messages import build_message
from flows.ports.web_links import parse_web_url, read_web_url
from tasks.domain.errors import RequestError
from tasks.domain.states import NotificationOccasion
from tests.support import builders as make
from tests.unit.notify.test_events import ended

WORD = "made-up"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("https://p.example.org/", "https://p.example.org"),
        (" http://[::1]:4280/fleet/ ", "http://[::1]:4280/fleet"),
    ],
)
def test_an_address_of_the_pages(given: str, expected: str) -> None:
    assert parse_web_url(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "p.example.org",
        "ftp://p.example.org",
        "javascript:alert(1)",
        f"https://anne:{WORD}@p.example.org",
        "https://p.example.org/?a=b",
        "https://p.example.org/#x",
        "https://p.example.org/) [x](y",
        "https://p.exa mple.org",
        "https://p.example.org:x",
        "https://",
    ],
)
def test_what_is_no_address_is_refused_and_costs_only_the_links(given: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_web_url(given)
    assert WORD not in str(refused.value)
    assert read_web_url({"FLEETPATCH_WEB_URL": given}) == ""


def test_a_message_ends_with_the_links() -> None:
    body = build_message(
        NotificationOccasion.FAILED, ended("see https://evil.example.org"), "https://p.example.org"
    ).body
    assert body.splitlines()[-1] == f"Page: https://p.example.org/runs/{make.RUN_ID}"
    assert body.count("://") == 1


def test_who_must_approve_gets_the_page_for_it() -> None:
    told = build_message(NotificationOccasion.WAITING, ended(), "https://p.example.org")
    assert f"\nApprove or reject: https://p.example.org/approvals/{make.RUN_ID}\n" in told.body
