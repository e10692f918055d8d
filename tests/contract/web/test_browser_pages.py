"""Every page in a real browser: phone and desk, dark and light, on paper, by keyboard alone, without JavaScript.

The fleet of the sample has hostile names and texts everywhere. tests/contract/web/page_urls.py lists the pages.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, ViewportSize
from starlette.routing import BaseRoute

from fleetpatch.server.web_server import build_app
from tests.contract.web.page_urls import NO_PAGES, NO_PAGES_BELOW, PAGES
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import SampleFleet, fill_site
from tests.support.web_site import Site, serve_site

HERE = Path(__file__).parent
LAYOUT = (HERE.parent / "layout.js").read_text()
KEYBOARD = (HERE / "keyboard.js").read_text()
AXE = HERE.parents[1] / "data" / "web" / "axe.min.js"
DESK, WIDE_DESK = ViewportSize(width=1280, height=900), ViewportSize(width=1600, height=900)
PHONE = ViewportSize(width=390, height=844)
PAPER = ViewportSize(width=702, height=1000)  # A4 less the margins
THEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
LOOKS = (
    ("desk", DESK, THEMES[0]),
    ("desk", DESK, THEMES[1]),
    ("wide desk", WIDE_DESK, THEMES[0]),
    ("phone", PHONE, THEMES[1]),
    ("phone", PHONE, THEMES[0]),
)
MOST_TABS = 75  # long tables repeat the same links
MOST_PARTS = 8
WATCH = """
window.__csp = [];
document.addEventListener("securitypolicyviolation", (e) => {
  window.__csp.push(`${e.violatedDirective} ${e.blockedURI}`);
});
"""
URLS = [url for urls in PAGES.values() for url in urls]
ONE_OF_EACH = [url for route, urls in PAGES.items() for url in urls[: 3 if route == "/runs/{run_id}" else 1]]
"""A page of each template; three of a run, whose parts differ most."""
UNFOLD = "() => { for (const each of document.querySelectorAll('details')) each.open = true; }"
NAMES = "main :is(h1, h2, h3, th, dt, label, legend):visible"
LIVE = "**/live/**"
MARK_REPEATED = """() => {
  const counts = new Map();
  for (const row of document.querySelectorAll("main :is(tr, li, details)")) {
    const describe = (each) => `${each.name}=${each.name === "class" ? each.value : Boolean(each.value)}`;
    const parts = [row, ...row.querySelectorAll("*")];
    const shape = parts.map((each) => [each.tagName, ...[...each.attributes].map(describe)]).join(" ");
    counts.set(shape, (counts.get(shape) || 0) + 1);
    if (counts.get(shape) > 2) row.setAttribute("data-repeated", "");
  }
}"""
"""Marks what differs from two rows before it by texts and addresses alone: axe would say the same of it."""
LOOK = """() => axe.run({exclude: ["[data-repeated]"]}, {resultTypes: ["violations"]})
  .then((found) => found.violations)"""
AGE = re.compile(r"(?<=began ).*?(?= ago)")
"""What is said of a time changes by the second."""


@dataclass
class Sample:
    """Pages over the sample fleet."""

    site: Site
    fleet: SampleFleet

    def find(self, url: str) -> str:
        """Return a page's address."""
        return self.site.url + url.format(**self.fleet.runs)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    place = tmp_path_factory.mktemp("site")
    fleet = fill_site(place)
    with serve_site(place, clock=FakeClock(fleet.now), zone="Europe/Berlin") as site:
        yield Sample(site, fleet)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:  # noqa: F811
    """Tabs with scripts. A context for each test would cost more than most tests do."""
    with open_context(browser) as context:
        context.add_init_script(WATCH)
        yield context


@pytest.fixture(scope="module")
def plain_context(browser: Browser) -> Iterator[BrowserContext]:  # noqa: F811
    """Tabs without scripts."""
    with open_context(browser, java_script_enabled=False) as context:
        yield context


@contextmanager
def open_context(browser: Browser, **options: Any) -> Iterator[BrowserContext]:  # noqa: F811
    context = browser.new_context(viewport=DESK, reduced_motion="reduce", **options)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def open_page(context: BrowserContext, sample: Sample, url: str) -> Iterator[tuple[Page, list[str]]]:
    """Open a page. What goes wrong in it is added to the list."""
    page = context.new_page()
    faults: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    own = (sample.site.url, "data:")
    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("dialog", dismiss)
    page.on("request", lambda r: None if r.url.startswith(own) else faults.append(f"elsewhere: {r.url}"))
    page.on("requestfailed", lambda r: faults.append(f"not loaded: {r.url} {r.failure}"))
    page.on("response", lambda r: faults.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    try:
        answer = page.goto(sample.find(url), wait_until="load")
        assert answer is not None
        assert answer.status == 200, f"{url}: {answer.status}"
        yield page, faults
    finally:
        page.close()


def read_names(page: Page) -> list[str]:
    """Return the headings and labels that are seen, without ages."""
    return [AGE.sub("", name) for name in page.locator(NAMES).all_inner_texts()]


def look_at_layout(page: Page) -> dict[str, list[str]]:
    """Return the faults of the layout by kind. Charts are drawn again in the frames after a change of the width."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    found: dict[str, list[str]] = page.evaluate(LAYOUT)
    return {kind: faults for kind, faults in found.items() if faults}


def list_routes(routes: Iterable[BaseRoute]) -> set[str]:
    """Return the paths that GET answers, with * for each parameter."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            found.add(re.sub(r"{.*?}", "*", route.path))
        included = getattr(route, "original_router", None)  # FastAPI keeps the routers that an application includes
        found |= list_routes(included.routes) if included is not None else set()
    return found


def test_no_page_is_forgotten(sample: Sample) -> None:
    routes = list_routes(build_app(sample.site.context).routes)
    pages = {path for path in routes if not path.startswith(NO_PAGES_BELOW)}
    known = {re.sub(r"{.*?}", "*", path) for path in PAGES}
    assert pages - known - {re.sub(r"{.*?}", "*", path) for path in NO_PAGES} == set()
    assert known - pages == set()


@pytest.mark.parametrize("url", URLS)
def test_page_has_no_fault_at_any_width_and_says_the_same_without_scripts(
    context: BrowserContext, plain_context: BrowserContext, sample: Sample, url: str
) -> None:
    """Everything that is named with scripts is named without; tables behind charts are only shown without.

    One page of each template is looked at in all ways, the others on a desk and on a phone. Every fold is open.
    """
    found: dict[str, Any] = {}
    with open_page(context, sample, url) as (page, faults):
        assert page.locator("h1").count() == 1
        named = read_names(page)
        page.evaluate(UNFOLD)
        for name, size, theme in LOOKS if url in ONE_OF_EACH else LOOKS[::4]:
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=theme)
            found[f"{name}, {theme}"] = look_at_layout(page)
        page.set_viewport_size(PAPER)
        page.emulate_media(media="print", color_scheme="light")
        found["paper"] = look_at_layout(page)
        assert page.evaluate("window.__csp") == []
        assert page.evaluate("window.__xss") is None
        assert faults == []
    assert {what: each for what, each in found.items() if each} == {}
    assert named
    if url not in ONE_OF_EACH:
        return
    with open_page(plain_context, sample, url) as (page, _):
        named_without = read_names(page)
    assert [name for name in named if name not in named_without] == []


CUT_OFF = """() => [...document.querySelectorAll(".scroll")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.getAttribute("aria-label"))"""
OVERLAPS = """() => {
  const right = (each) => each.getBoundingClientRect().right;
  const badges = [...document.querySelectorAll("td .badge")];
  return badges.filter((each) => right(each) > right(each.closest("td")) + 1).map((each) => each.textContent);
}"""


@pytest.mark.parametrize(
    "url", ["/", "/machines", "/machines/web-07", "/updates", "/runs", "/runs/{failed}", "/calendar?month=2026-11"]
)
def test_no_table_is_cut_off_at_a_desk(context: BrowserContext, sample: Sample, url: str) -> None:
    with open_page(context, sample, url) as (page, _):
        page.set_viewport_size({"width": 1280, "height": 1000})
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate(OVERLAPS) == []


def test_the_whole_navigation_is_seen_on_a_phone(context: BrowserContext, sample: Sample) -> None:
    with open_page(context, sample, "/patch") as (page, _):
        page.set_viewport_size({"width": 390, "height": 800})
        for each in page.locator("nav[aria-label=Pages] a").all():
            box = each.bounding_box()
            assert box is not None
            assert 0 <= box["x"] <= box["x"] + box["width"] <= 390, each.text_content()


@pytest.mark.parametrize("url", ONE_OF_EACH)
def test_page_is_accessible(context: BrowserContext, sample: Sample, url: str) -> None:
    found: dict[str, list[str]] = {}
    with open_page(context, sample, url) as (page, _):
        page.evaluate(AXE.read_text())  # the page's own rules forbid a script tag
        page.evaluate(MARK_REPEATED)
        for name, size, theme in (LOOKS[0], LOOKS[3]):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=theme)
            told = page.evaluate(LOOK)
            bad = [
                f"{each['id']} ({each['impact']}): {node['html'][:160]} {node['failureSummary'][:300]}"
                for each in told
                if each["impact"] in {"serious", "critical"}
                for node in each["nodes"][:3]
            ]
            found |= {f"{name}, {theme}": bad} if bad else {}
    assert found == {}, json.dumps(found, indent=1)


@pytest.mark.parametrize("url", ONE_OF_EACH)
def test_page_is_used_by_keyboard_alone(context: BrowserContext, sample: Sample, url: str) -> None:
    context.route(LIVE, lambda route: route.abort())  # news would replace what has the focus
    try:
        with open_page(context, sample, url) as (page, _):
            use_by_keyboard(page)
    finally:
        context.unroute(LIVE)


def use_by_keyboard(page: Page) -> None:
    """Reach everything with the Tab key, and go to the content by the first stop."""
    page.evaluate(  # a login begins in its field
        "() => { const b = document.body; b.tabIndex = -1; b.focus(); b.blur(); b.removeAttribute('tabindex'); }"
    )
    page.evaluate(KEYBOARD)
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("e => e === document.activeElement && e.getBoundingClientRect().top >= 0")
    count = min(page.evaluate("window.__keys.wanted.length"), MOST_TABS)
    for _ in range(count - 1):
        page.keyboard.press("Tab")
    for _ in range(MOST_PARTS):  # a field for a date or a month is several stops
        if page.evaluate("window.__keys.reached.length") < count:
            page.keyboard.press("Tab")
    keys = page.evaluate("window.__keys")
    assert keys["reached"] == keys["wanted"][:count]
    assert keys["unseen"] == []
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("location.hash") == "#main"
    if page.locator("main :is(a[href], button, select, summary)").count():
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_paper_is_white_and_has_no_forms_whatever_theme_is_chosen(browser: Browser, sample: Sample) -> None:  # noqa: F811
    with open_context(browser) as context:
        context.add_init_script("localStorage.setItem('theme', 'dark')")
        for url in ("/compliance?month=2026-11", "/runs"):
            with open_page(context, sample, url) as (page, _):
                page.emulate_media(media="print")
                ink = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
                assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 200, ink
                assert page.locator("form:visible, button:visible, nav:visible").count() == 0
    assert "scope: all machines, " in sample.site.get("/compliance?month=2026-11").text  # the form is not printed
