"""The page of a report in a real browser: on a phone, a tablet, a desk and on A4 paper it can be read, all of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from tasks.domain.model import RunReport
from tasks.reports.html.renderer import render_html
from tasks.rules.automatic.model import RolloutState
from tasks.rules.automatic.progress import RolloutProgress
from tests.support.browser import browser
from tests.support.fake_packages import lab_packages
from tests.support.fleet import SimFleet, copies
from tests.support.rollouts import make_progress, make_rollout
from tests.unit.reporting import samples, ugly

__all__ = ["browser"]

A4_WIDTH = round((210 - 2 * 12) / 25.4 * 96)  # the style sheet leaves 12 mm on each side; 96 dots an inch
LAYOUT = (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")


def by_a_run() -> RunReport:
    """A report that the engine makes: failures, a reboot, kept configuration files."""
    fleet = SimFleet()
    for name in ("web-1", "web-2", "db-1"):
        fleet.add(name, copies(lab_packages()))
    fleet.machines["db-1"].boots.up_after = None
    return fleet.patch(waves={"canary_count": 1, "failure_budget_count": 3})


ROLLOUT = "three, of a rollout"
REPORTS: dict[str, Callable[[], RunReport]] = {
    "by a run": by_a_run,
    "forty": lambda: samples.forty()[0],
    "ugly patch": lambda: ugly.ugly(samples.forty()[0]),
    "ugly plan": lambda: ugly.ugly(samples.plan()[0]),
    "ugly assessment": lambda: ugly.ugly(samples.assessment()[0]),
    "nobody": lambda: samples.empty()[0],
    "60 ugly machines": lambda: ugly.ugly(samples.many(60, 20)),
    ROLLOUT: lambda: samples.three()[0],
}


def html_of(report: RunReport, rollout: RolloutProgress | None = None) -> str:
    logs = {outcome.machine: f"{ugly.PACKAGE} " * 30 for outcome in report.outcomes[:9]}
    return render_html(report, logs=logs, sibling_formats={"csv", "logs"}, rollout=rollout)


def make_ugly_progress() -> RolloutProgress:
    """Return a faulted rollout with a location whose name is longer than a phone is wide."""
    rollout = make_rollout(RolloutState.FAULTED, f"phase 2 missed its share: {ugly.PACKAGE} failed on 9 of 14 machines")
    found = make_progress(rollout)
    first = found.phases[0]
    long_name = "the-old-data-centre-beside-the-river-" * 3
    machines = tuple(replace(each, location=long_name) for each in first.machines)
    renamed = replace(first, phase=replace(first.phase, locations=(long_name, "")), machines=machines)
    return replace(found, phases=(renamed, *found.phases[1:]))


@pytest.fixture(scope="module", params=REPORTS)
def name(request: pytest.FixtureRequest) -> str:
    """A report's name. Its scope is the module, so pytest runs all tests of one report together."""
    return str(request.param)


@pytest.fixture(scope="module")
def page(browser: Browser, name: str) -> Iterator[Page]:
    """A page that shows the report, with its first and last rows opened."""
    shown = browser.new_page()
    shown.set_content(html_of(REPORTS[name](), make_ugly_progress() if name == ROLLOUT else None))
    shown.eval_on_selector_all(
        "details", "all => [...all.slice(0, 9), ...all.slice(-6)].forEach(each => { each.open = true })"
    )
    yield shown
    shown.close()


def as_seen(page: Page, width: int, media: Literal["screen", "print"] = "screen") -> None:
    page.emulate_media(media=media)
    page.set_viewport_size({"width": width, "height": 900})


def faults(page: Page) -> dict[str, Any]:
    """Return what is wrong with the layout, by kind of fault; only what there is."""
    found: dict[str, Any] = page.evaluate(LAYOUT)
    return {kind: examples for kind, examples in found.items() if examples}


def test_on_screens_nothing_overflows_and_no_word_is_torn(page: Page, name: str) -> None:
    for width in (320, 390, 768, 1024, 1041, 1280, 1920) if name == "ugly patch" else (390, 768, 1280):
        as_seen(page, width)
        found = faults(page)
        if width > 1240:
            found.pop("cut text", None)  # a closed row shows how its reason begins, and opens
        assert (width, found) == (width, {})


def test_on_a4_paper_every_column_is_there(page: Page) -> None:
    as_seen(page, A4_WIDTH, "print")
    assert "@page { margin: 12mm; }" in page.content()
    assert faults(page) == {}
    assert in_columns(page) == []


def test_at_a_desk_figures_stand_below_their_heads(page: Page) -> None:
    as_seen(page, 1280)
    assert in_columns(page) == []


def in_columns(page: Page) -> list[str]:
    """Return rows whose cells do not stand below the heads of their list."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".machines, .updates")].flatMap((list) => {
          const places = (row) => [...row.querySelectorAll(":scope > span:not(.why)")]
            .filter((cell) => cell.checkVisibility())
            .map((cell) => cell.getBoundingClientRect())
            .map((box) => `${Math.round(box.left)}-${Math.round(box.right)}`);
          const heads = places(list.querySelector(".heads")).join(" ");
          const rows = [...list.querySelectorAll(".line:not(.heads), .uline:not(.heads)")];
          return rows.filter((row) => places(row).join(" ") !== heads).slice(0, 3).map((row) => row.textContent);
        })"""
    )
    return found


def test_on_a_phone_every_figure_bears_its_name(page: Page) -> None:
    as_seen(page, 390)
    bare = page.evaluate(
        """() => [...document.querySelectorAll(".line .number, .line .word, .uline .number")]
          .filter((cell) => cell.checkVisibility())
          .filter((cell) => ["none", '""'].includes(getComputedStyle(cell, "::before").content))
          .map((cell) => cell.outerHTML).slice(0, 5)"""
    )
    assert bare == []
