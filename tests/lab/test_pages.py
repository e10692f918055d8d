"""The pages of real runs: a browser sees plan, steps, packages and the end without a reload, whatever is killed."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.killing import Controllers, hold, is_held, let_go, wait_for
from tests.lab.test_scheduled import Planned, planned, whole_minute
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.web_process import WebProcess, web_process

pytestmark = pytest.mark.slow

PATIENCE = 120_000.0  # milliseconds
SECONDS_TO_BE_RIGHT = 15.0  # after a restart
ENDED = re.compile("Succeeded|CompletedWithWarnings")
WAVE_SIZE = 2
PICTURES = os.environ.get("FLEETPATCH_PICTURES", "")
"""A folder for pictures of a real run. Those of the documents: FLEETPATCH_PICTURES=docs/images."""
NOT_RELOADED = "window.__notReloaded"
MASKS = ("lab-plain", "lab-slow", "lab-sec")
Boot = Callable[[int], list[LabHost]]


@contextmanager
def watched(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    """Open a page that is not loaded again."""
    page = browser.new_page()
    page.goto(url)
    page.evaluate(f"{NOT_RELOADED} = true")
    yield page
    assert page.evaluate(NOT_RELOADED) is True
    page.close()


def shows(page: Page, text: str | re.Pattern[str], milliseconds: float = PATIENCE) -> None:
    expect(page.locator("main")).to_contain_text(text, timeout=milliseconds)


def test_a_run_is_seen_while_it_goes(hosts: Boot, tmp_path: Path, browser: Browser) -> None:  # noqa: F811
    """Plan, waves, step, package n of m and the end come by themselves; overview and the machine's page say it, too."""
    fleet = Fleet(hosts(4), tmp_path)
    fleet.describe()
    hold(fleet.hosts)
    controllers = Controllers(fleet)
    around = {"FLEETPATCH_RECORDS_URL": fleet.records_url, "FLEETPATCH_INVENTORY": str(fleet.inventory)}
    with web_process(around, tmp_path / "web.log") as web, watched(browser, web.url) as overview:
        try:
            running = controllers.patch(
                updates={"classifications": [], "include": list(MASKS)}, waves={"size": WAVE_SIZE}
            )
            controllers.wait_until(bool, "the first entry of the run")
            run_id = controllers.newest().run.id
            with watched(browser, f"{web.url}/runs/{run_id}") as page:
                for host in fleet.hosts:
                    shows(page, host.name)
                shows(page, "lab-slow")  # the plan
                first = _wait_for_held(fleet.hosts)
                _is_live(page, overview, first)
                let_go(first)
                rest = [host for host in fleet.hosts if host not in first]
                wait_for(lambda: all(map(is_held, rest)), "that lab-slow is being installed in the second wave")
                _is_live(page, overview, rest)
                shows(page, "2 of 4 machines done")
                _take_picture(page, "pages-live")
                let_go(rest)
                assert running.end().code in (0, 3)
                expect(page.locator("h1")).to_contain_text(ENDED, timeout=PATIENCE)
                expect(page.locator("#live")).to_have_count(0, timeout=PATIENCE)
                shows(overview, "No run is in progress")
                _take_picture(page, "pages-run")
            page = browser.new_page()
            page.goto(f"{web.url}/runs/{run_id}/machines/{fleet.hosts[0].name}")
            shows(page, "lab-slow")
            page.goto(f"{web.url}/machines/{fleet.hosts[0].name}")
            shows(page, run_id)
        finally:
            let_go(fleet.hosts)
            controllers.end()


def _wait_for_held(hosts: Sequence[LabHost]) -> list[LabHost]:
    """Wait until two machines install lab-slow, and return them: the first wave."""
    found: list[LabHost] = []

    def are_held() -> bool:
        found[:] = filter(is_held, hosts)
        return len(found) == WAVE_SIZE

    wait_for(are_held, "that lab-slow is being installed")
    return found


def _is_live(page: Page, overview: Page, hosts: Sequence[LabHost]) -> None:
    """Both pages say which package of how many is being installed on these machines, and on no other."""
    for each in (page, overview):
        rows = each.locator("#live .working tbody tr")
        expect(rows).to_have_count(len(hosts), timeout=PATIENCE)
        for host in hosts:
            row = rows.filter(has_text=host.name)
            expect(row).to_contain_text("install", timeout=PATIENCE)
            expect(row).to_contain_text(re.compile(r"installing .*\b\d+ of \d+\b"), timeout=PATIENCE)
        expect(each.locator("#live")).to_contain_text("left in the window", timeout=PATIENCE)


def _take_picture(page: Page, name: str) -> None:
    """Keep what is on the screen, if a folder was named for it."""
    if PICTURES:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(reduced_motion="reduce")
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_server_pages_and_worker_are_killed_in_any_order(
    hosts: Boot,
    tmp_path: Path,
    browser: Browser,  # noqa: F811
) -> None:
    """One run; three times all three are killed and come back, each time in another order."""
    records = f"sqlite:///{tmp_path / 'records.db'}"
    with planned(hosts, 1, tmp_path, ("", records)) as plan:
        (host,) = plan.fleet.hosts
        hold([host])
        plan.configure("now", host, whole_minute(120), "lab-slow", "lab-plain", minutes=60)
        plan.deploy()
        plan.work()
        plan.until(lambda: plan.report("now") is not None and is_held(host), "the installation")
        run = plan.report("now")
        assert run is not None
        around = {
            "FLEETPATCH_RECORDS_URL": records,
            "FLEETPATCH_INVENTORY": str(plan.fleet.inventory),
            "PREFECT_API_URL": plan.server.url,
            "PREFECT_HOME": str(tmp_path / "web-home"),
        }
        with web_process(around, tmp_path / "web.log") as web:
            address = f"{web.url}/runs/{run.run.id}"
            with watched(browser, address) as page:
                shows(page, host.name)
                for order in (("server", "web", "worker"), ("web", "worker", "server"), ("worker", "server", "web")):
                    _kill_and_restart(plan, web, order)
                    _is_right(browser, address, host, "InProgress", web.scale(SECONDS_TO_BE_RIGHT))
                let_go([host])
                shows(page, re.compile("Succeeded|CompletedWithWarnings"))
                _is_right(browser, address, host, "Succeeded|CompletedWithWarnings", web.scale(SECONDS_TO_BE_RIGHT))
        assert plan.ended("now") in {"Succeeded", "Completed", "CompletedWithWarnings"}


def _kill_and_restart(plan: Planned, web: WebProcess, order: tuple[str, ...]) -> None:
    """Kill all (-9) in an order, and start them in the same."""
    for name in order:
        if name == "web":
            web.kill()
        elif name == "server":
            plan.server.kill()
        else:
            plan.workers[-1].kill()
            plan.workers[-1].wait()
    for name in order:
        if name == "web":
            web.start()
        elif name == "server":
            plan.server.start()
        else:
            plan.work()


def _is_right(browser: Browser, address: str, host: LabHost, state: str, seconds: float) -> None:  # noqa: F811
    began = time.monotonic()
    page = browser.new_page()
    page.goto(address)
    shows(page, host.name, seconds * 1000)
    shows(page, re.compile(state), seconds * 1000)
    page.close()
    assert time.monotonic() - began < seconds, f"at {datetime.now(UTC):%H:%M:%S}"
