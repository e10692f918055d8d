"""Acts by click and by keyboard in a real browser: approvals and the form of a run. Prefect is a list here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fleetpatch.access.login_admin import end_sessions
from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from tasks.records.approvals import ApprovalDecision, SqlApprovals
from tests.contract.web.test_acts import Prefect
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import SampleFleet, fill_site
from tests.support.web_login import add_link
from tests.support.web_site import Site, serve_site


@dataclass
class Desk:
    """A person at the pages of the sample fleet."""

    page: Page
    site: Site
    fleet: SampleFleet
    prefect: Prefect

    def open(self, path: str) -> None:
        self.page.goto(self.site.url + path.format(**self.fleet.runs))

    def find_decision(self) -> tuple[ApprovalDecision, str, str]:
        approval = SqlApprovals(self.site.records.database).find_approval(self.fleet.runs["waiting"])
        assert approval is not None
        return approval.decision, approval.who, approval.remark


@pytest.fixture
def desk(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:  # noqa: F811
    prefect = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", prefect.start)
    fleet = fill_site(tmp_path)
    with serve_site(tmp_path, clock=FakeClock(fleet.now), zone="Europe/Berlin") as site:
        context = browser.new_context()
        page = context.new_page()
        page.goto(add_link(site, "anna", Role.APPROVE, Role.RUN))
        expect(page.locator(".who")).to_contain_text("anna")
        yield Desk(page, site, fleet, prefect)
        context.close()


def test_a_plan_is_approved_by_click(desk: Desk) -> None:
    desk.open("/")
    desk.page.get_by_role("link", name="1 plan waits for approval").click()
    desk.page.get_by_role("link", name="production-weekly").first.click()
    expect(desk.page.locator("main")).to_contain_text("libssl3")
    desk.page.get_by_label("Remark").fill("seen <b>all</b>")
    desk.page.get_by_role("button", name="Approve this plan").click()

    expect(desk.page.locator("main")).to_contain_text("by anna")
    expect(desk.page.get_by_role("button", name="Approve this plan")).to_have_count(0)
    assert desk.find_decision() == (ApprovalDecision.APPROVED, "anna", "seen <b>all</b>")
    desk.open("/approvals")
    expect(desk.page.locator("main")).to_contain_text("No run waits for approval")


IMPATIENT = """new MutationObserver((_, observer) => {
  const button = [...document.querySelectorAll("button")].find((one) => one.textContent === "Approve this plan");
  if (!button) return;
  observer.disconnect();
  button.click();
}).observe(document, {childList: true, subtree: true})"""
"""Clicks as soon as there is the button, while the page still loads."""


def test_a_click_before_the_page_has_loaded_counts(desk: Desk) -> None:
    desk.page.add_init_script(IMPATIENT)
    desk.open("/approvals/{waiting}")
    expect(desk.page.locator("main")).to_contain_text("by anna")
    assert desk.find_decision() == (ApprovalDecision.APPROVED, "anna", "")


def test_a_plan_is_rejected_by_keyboard_alone(desk: Desk) -> None:
    desk.open("/approvals/{waiting}")
    desk.page.get_by_label("Remark").focus()
    desk.page.keyboard.type("wrong night")
    desk.page.keyboard.press("Tab")
    desk.page.keyboard.press("Tab")
    assert desk.page.evaluate("document.activeElement.textContent") == "Reject"
    desk.page.keyboard.press("Enter")

    expect(desk.page.locator("main")).to_contain_text("by anna")
    assert desk.find_decision() == (ApprovalDecision.REJECTED, "anna", "wrong night")


def test_the_form_shows_its_machines_while_typing_and_asks_before_it_starts(desk: Desk) -> None:
    desk.open("/patch")
    scope, preview = desk.page.locator("#f-scope"), desk.page.locator("#preview")
    scope.press_sequentially("env=prod,ring=canary")
    expect(preview).to_contain_text("2 machines")
    scope.fill("env=prod,ring=canari")
    expect(preview).to_contain_text("canari")
    scope.fill("env=prod,ring=canary")
    desk.page.locator("#f-window-minutes").fill("45")
    desk.page.get_by_role("button", name="Patch now").click()

    expect(desk.page.locator("h1")).to_have_text("Patch 2 machines now?")
    assert desk.prefect.started == []
    desk.page.get_by_role("button", name="Patch now").click()
    desk.page.wait_for_url("**/starting/**")
    (made,) = desk.prefect.started
    wanted = made.parameters["request"]
    assert (wanted["scope"], wanted["window"]["minutes"]) == ("env=prod,ring=canary", 45.0)


def test_a_wrong_form_starts_nothing_and_leads_to_the_field(desk: Desk) -> None:
    desk.open("/patch")
    desk.page.locator("#f-scope").fill("env=nowhere")
    desk.page.get_by_role("button", name="Plan").click()

    expect(desk.page.get_by_role("alert")).to_contain_text("Nothing was started.")
    assert desk.page.locator("#f-scope").input_value() == "env=nowhere"
    desk.page.get_by_role("alert").get_by_role("link").first.click()
    assert desk.page.url.endswith("#f-scope")
    assert desk.prefect.started == []


def test_a_run_is_cancelled_by_click_after_a_question(desk: Desk) -> None:
    run_id = desk.fleet.runs["live"]
    desk.open("/runs/{live}/cancel")
    leases = desk.site.records.leases
    assert (before := leases.find_lease(run_id)) is not None
    assert before.stop is None
    desk.page.get_by_label("Why, for the report").fill("wrong <i>night</i>")
    desk.page.get_by_role("button", name="Cancel the run").click()

    desk.page.wait_for_url(f"**/runs/{run_id}")
    assert (after := leases.find_lease(run_id)) is not None
    assert after.stop is not None
    assert (after.stop.who, after.stop.reason) == ("anna", "wrong <i>night</i>")


def test_somebody_without_a_login_is_led_there_and_back_and_out_again(desk: Desk) -> None:
    desk.page.get_by_role("button", name="Log out").click()
    desk.page.wait_for_url("**/login")
    desk.open("/approvals/{waiting}")
    expect(desk.page.get_by_role("button", name="Approve this plan")).to_be_disabled()
    desk.page.locator("main").get_by_role("link", name="Log in").click()
    desk.page.get_by_label("One-time link").fill("x" * 43)
    desk.page.get_by_role("button", name="Log in").click()
    expect(desk.page.get_by_role("alert")).to_contain_text("was used, is too old")
    desk.page.get_by_label("One-time link").fill(add_link(desk.site, "bert", Role.APPROVE))
    desk.page.get_by_role("button", name="Log in").click()
    desk.page.wait_for_url("**/approvals/*")
    expect(desk.page.get_by_role("button", name="Approve this plan")).to_be_enabled()


def test_a_form_of_a_login_that_has_ended_does_nothing(desk: Desk) -> None:
    desk.open("/approvals/{waiting}")
    end_sessions(desk.site.records, "anna")
    desk.page.get_by_role("button", name="Approve this plan").click()
    expect(desk.page.locator("main")).to_contain_text("role approve")
    assert desk.find_decision()[0] is ApprovalDecision.WAITING
