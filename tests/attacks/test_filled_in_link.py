"""Attacks by a link to the form of a patch run, that somebody else has written, in a real Chromium."""

import os
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import Request
from playwright.sync_api import expect

from fleetpatch.acts.patch_form import FIELDS, SENT
from fleetpatch.pages.login import clean_target, mark_target
from fleetpatch.pages.patch import _list_linked
from tests.contract.web.test_browser_acts import Desk, desk  # noqa: F401 - a fixture
from tests.support.browser import browser  # noqa: F401 - a fixture

DANGEROUS = {
    "scope": "env=prod,ring=canary",
    "window.minutes": "600",
    "window.zone": "Europe/Berlin",
    "reboot": "Always",
    "waves.canary_count": "1",
    "waves.percent": "100",
    "waves.at_once": "500",
    "waves.failure_budget_percent": "99",
    "updates.classifications": ["Security", "Other"],
    "updates.include": "*",
    "updates.exclude": "fleetpatch*",
    "approval.required": "true",
    "approval.not_by_starter": "true",
    "allow_removals": "true",
    "remove_unused_kernels": "true",
    "override_freeze": "the board agreed",
    "restart_services": "Never",
}
TITLES = {
    "window.minutes": "Window: minutes: 600",
    "window.zone": "Window: zone: Europe/Berlin",
    "reboot": "Reboot: Always",
    "waves.canary_count": "Waves: canary count: 1",
    "waves.percent": "Waves: percent a wave: 100",
    "waves.at_once": "Waves: machines at once: 500",
    "waves.failure_budget_percent": "Waves: failure budget percent: 99",
    "updates.classifications": "Updates: classifications: Security, Other",
    "updates.include": "Updates: include: *",
    "updates.exclude": "Updates: exclude: fleetpatch*",
    "approval.required": "Approval: wait for approval: yes",
    "approval.not_by_starter": "Approval: not by the starter: yes",
    "allow_removals": "Allow removals: yes",
    "remove_unused_kernels": "Remove unused kernels: yes",
    "override_freeze": "Override freezes, because: the board agreed",
    "restart_services": "Restart services: Never",
}
MARK = "filled in by the link that led here"


def follow(desk: Desk, **more: str) -> None:  # noqa: F811
    """Open the link as from a mail: no page of this server leads there."""
    link = f"{desk.site.url}/patch?{urlencode({**DANGEROUS, **more}, doseq=True)}"
    desk.page.set_content(f'<a href="{link}">Please look at this</a>')
    desk.page.goto("about:blank")
    desk.page.goto(link)


def test_the_last_question_names_all_that_a_link_filled_in(desk: Desk) -> None:  # noqa: F811
    """A colleague gets a link with removals, a failure budget of 99 % and other kinds of updates, and presses on.

    The last question names each value that is not the default, and says that the link has filled it in.
    """
    page = desk.page
    follow(desk)
    page.get_by_role("button", name="Patch now").click()
    expect(page.locator("h1")).to_contain_text("Patch 2 machines now?")
    for width in (1280, 390):  # a desk, a phone
        page.set_viewport_size({"width": width, "height": 900})
        lines = page.locator(".unusual li").all_inner_texts()
        if folder := os.environ.get("FLEETPATCH_PICTURES"):
            page.screenshot(path=f"{folder}/question-{width}.png", full_page=True)
        for title in TITLES.values():
            (line,) = [each for each in lines if each.startswith(title)] or pytest.fail(f"{title} is not in {lines}")
            assert MARK in line
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert {each.path for each in FIELDS} - {"window.start", "only_machines"} == {"scope", *TITLES}
    assert desk.prefect.started == []


def test_a_link_can_not_say_that_it_is_none(desk: Desk) -> None:  # noqa: F811
    """The link claims to be the form's own "Back", with no mark: another origin's link is marked all the same.

    What the person changes or adds is their own, and a way back and forth keeps the marks.
    """
    follow(desk, **{SENT: "1", "linked": "nothing"})
    desk.page.locator("#f-window-minutes").fill("30")
    desk.page.get_by_role("button", name="Patch now").click()
    for _ in range(2):
        expect(desk.page.locator("h1")).to_contain_text("Patch 2 machines now?")
        lines = desk.page.locator(".unusual li").all_inner_texts()
        marked = [each for each in lines if MARK in each]
        assert len(marked) == len(TITLES) - 1
        assert [each for each in lines if MARK not in each] == ["Window: minutes: 30"]
        desk.page.get_by_role("link", name="Back").click()
        desk.page.wait_for_url("**/patch?*")
        desk.page.get_by_role("button", name="Patch now").click()


@pytest.mark.parametrize("end", ["", "#", "#&via=x", "&via=x", "&linked=nothing"])
def test_the_way_by_the_login_leaves_the_marks(end: str) -> None:
    """The link leads to the login first, whose page then opens the form: browsers say that this page led there."""
    opened = httpx.URL(mark_target(clean_target(f"/patch?scope=*&allow_removals=true{end}")))
    given = {name: opened.params.get_list(name) for name in opened.params}
    headers = [(b"sec-fetch-site", b"same-origin")]
    request = Request({"type": "http", "headers": headers})
    assert set(_list_linked(request, given)) == {"scope=*", "allow_removals=true"}
    assert mark_target("/machines") == "/machines"
