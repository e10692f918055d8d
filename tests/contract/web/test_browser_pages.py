"""Every page in a real browser: phone and desk, dark and light, on paper, by keyboard alone, without JavaScript.

The fleet of the sample has hostile names and texts everywhere. tests/contract/web/page_urls.py lists the pages. At
each change one page of each template is looked at in the ways in which it may differ from others, on a phone those
whose parts differ. Before a release all are looked at in all ways (tests/ci/release_tests.py).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, Response, ViewportSize
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
Look = tuple[str, ViewportSize, Literal["light", "dark"]]
DESK_LOOK: Look = ("desk", DESK, THEMES[0])
PHONE_LOOK: Look = ("phone", PHONE, THEMES[1])
WIDE_LOOK: Look = ("wide desk", WIDE_DESK, THEMES[0])
ALL_LOOKS = (DESK_LOOK, WIDE_LOOK, PHONE_LOOK, ("desk", DESK, THEMES[1]), ("phone", PHONE, THEMES[0]))
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
NARROWED = {
    *("/updates?q=openssl", "/components?standing=Unknown&scope=env%3Dprod", "/snapshots?machine=web-07"),
    *("/hotpatch?hotpatch=Enabled&kind=Arc", "/orders?machine=web-07", "/owners?owner=os", "/machines/app-08"),
    *("/assess?scope=name%3Dweb-*", "/runs/{failed}/undo?machine=web-15"),
}
"""They show fewer rows or figures of the same kinds as another page of their template."""
OTHERS = [url for url in URLS if url not in ONE_OF_EACH and url not in NARROWED]
WITHOUT_CUTS = ("/", "/machines", "/machines/web-07", "/updates", "/runs", "/runs/{failed}", "/calendar?month=2026-11")
"""Pages whose tables a desk shows whole, and whose charts grow with it."""
UNFOLD = "() => { for (const each of document.querySelectorAll('details')) each.open = true; }"
NAMES = "main :is(h1, h2, h3, th, dt, label, legend):visible"
THIN_OUT = """() => {
  const counts = new Map(), repeated = [];
  for (const row of document.querySelectorAll("main :is(tr, li, details)")) {
    const describe = (each) => `${each.name}=${each.name === "class" ? each.value : Boolean(each.value)}`;
    const parts = [row, ...row.querySelectorAll("*")];
    const shape = parts.map((each) => [each.tagName, ...[...each.attributes].map(describe)]).join(" ");
    counts.set(shape, (counts.get(shape) || 0) + 1);
    if (counts.get(shape) > 2) repeated.push(row);
  }
  for (const row of repeated) row.remove();
}"""
"""Removes what differs from two rows before it by texts and addresses alone: axe would say the same of it."""
RULES = {"rules": {"region": {"enabled": False}, "hidden-content": {"enabled": False}}}
"""All rules of axe but two dear ones, faults against which are never serious."""
RULES_OF_LOOKS = {
    "runOnly": {
        "type": "rule",
        "values": [
            *("color-contrast", "link-in-text-block", "scrollable-region-focusable"),
            *("button-name", "label", "link-name", "select-name"),
        ],
    }
}
"""Rules whose answer a theme or a width may change, which shows other elements."""
LOOK = "(rules) => axe.run(document, {resultTypes: ['violations'], ...rules}).then((found) => found.violations)"
STOP_NEWS = "() => window.dispatchEvent(new Event('pagehide'))"
IS_STILL = "() => !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')"
HAS_OWN_SCRIPTS = (
    "() => document.head.querySelectorAll('script').length > 5 || Boolean(document.querySelector('[hx-get]'))"
)
"""Whether a page has more scripts than base.html.j2 gives to all."""
SCRIPTLESS = "/machines"
"""This page is compared with itself without scripts, too: for the scripts of all pages."""
PRESSED = ("/", "/patch", "/login", "/compliance")
"""Here the Tab key is pressed at each change. No script of a page reacts to that key: the order is the document's."""
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
def tab(browser: Browser) -> Iterator[Page]:  # noqa: F811
    """A tab with scripts, for one page after the other. A new one would start another process for each page."""
    with open_tab(browser) as tab:
        tab.add_init_script(WATCH)
        yield tab


@pytest.fixture(scope="module")
def plain_tab(browser: Browser) -> Iterator[Page]:  # noqa: F811
    """A tab without scripts."""
    with open_tab(browser, java_script_enabled=False) as tab:
        yield tab


@contextmanager
def open_tab(browser: Browser, **options: Any) -> Iterator[Page]:  # noqa: F811
    context = browser.new_context(viewport=DESK, reduced_motion="reduce", **options)
    try:
        yield context.new_page()
    finally:
        context.close()


@dataclass
class Faults:
    """Notes what goes wrong in a page, while it is in the tab."""

    tab: Page
    own: tuple[str, str]
    noted: list[str] = field(default_factory=list)
    requests: set[Request] = field(default_factory=set)
    """Of this page. Those of the page before it end meanwhile, too."""

    def __enter__(self) -> "Faults":
        for event, listener in self._list_listeners():
            self.tab.on(event, listener)
        return self

    def __exit__(self, *_: object) -> None:
        for event, listener in self._list_listeners():
            self.tab.remove_listener(event, listener)

    def _list_listeners(self) -> list[tuple[Any, Any]]:
        return [
            ("console", self._note_message),
            ("pageerror", self._note_error),
            ("dialog", self._dismiss),
            ("request", self._note_request),
            ("requestfailed", self._note_failure),
            ("response", self._note_response),
        ]

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.noted.append(f"console: {message.text}")

    def _note_error(self, error: Error) -> None:
        self.noted.append(f"script: {error}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.noted.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, request: Request) -> None:
        self.requests.add(request)
        if not request.url.startswith(self.own):
            self.noted.append(f"elsewhere: {request.url}")

    def _note_failure(self, request: Request) -> None:
        if request in self.requests:
            self.noted.append(f"not loaded: {request.url} {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self.noted.append(f"{response.status} {response.url}")


@contextmanager
def open_page(tab: Page, sample: Sample, url: str) -> Iterator[list[str]]:
    """Open a page in a tab, on a desk. What goes wrong in it is added to the list."""
    show(tab, DESK_LOOK)
    with Faults(tab, (sample.site.url, "data:")) as faults:
        answer = tab.goto(sample.find(url), wait_until="load")
        assert answer is not None
        assert answer.status == 200, f"{url}: {answer.status}"
        yield faults.noted


def show(page: Page, look: Look) -> None:
    """Show a page in a size and a theme, on a screen."""
    page.set_viewport_size(look[1])
    page.emulate_media(media="screen", color_scheme=look[2])


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


CUT_OFF = """() => [...document.querySelectorAll(".scroll")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.getAttribute("aria-label"))"""
OVERLAPS = """() => {
  const right = (each) => each.getBoundingClientRect().right;
  const badges = [...document.querySelectorAll("td .badge")];
  return badges.filter((each) => right(each) > right(each.closest("td")) + 1).map((each) => each.textContent);
}"""
NOT_ON_SCREEN = """() => [...document.querySelectorAll("nav[aria-label=Pages] a")].filter((each) => {
  const box = each.getBoundingClientRect();
  return !box.width || box.left < 0 || box.right > innerWidth;
}).map((each) => each.textContent)"""


@pytest.mark.parametrize("url", ONE_OF_EACH)
def test_page_has_no_fault_at_any_width_and_no_barrier(tab: Page, plain_tab: Page, sample: Sample, url: str) -> None:
    with open_page(tab, sample, url) as noted:
        looks = (DESK_LOOK, WIDE_LOOK, PHONE_LOOK) if url in WITHOUT_CUTS else (DESK_LOOK, PHONE_LOOK)
        named = look_for_faults(tab, url, noted, looks)
        has_own_scripts = tab.evaluate(HAS_OWN_SCRIPTS)
        look_for_barriers(tab, RULES_OF_LOOKS, presses_tab=url in PRESSED)
    if has_own_scripts or url == SCRIPTLESS:
        compare_without_scripts(plain_tab, sample, url, named)


@pytest.mark.parametrize("url", OTHERS)
def test_further_page_has_no_fault_on_a_phone(tab: Page, sample: Sample, url: str) -> None:
    with open_page(tab, sample, url) as noted:
        look_for_faults(tab, url, noted, (PHONE_LOOK,), on_paper=False)


@pytest.mark.parametrize("url", URLS)
def test_page_has_no_fault_in_each_look(tab: Page, plain_tab: Page, sample: Sample, url: str) -> None:
    """By all rules of axe, by the Tab key and without scripts, too."""
    with open_page(tab, sample, url) as noted:
        named = look_for_faults(tab, url, noted, ALL_LOOKS)
        look_for_barriers(tab, RULES, presses_tab=True)
    compare_without_scripts(plain_tab, sample, url, named)


def look_for_faults(
    tab: Page, url: str, noted: list[str], looks: Iterable[Look], *, on_paper: bool = True
) -> list[str]:
    """Look at a page, every fold of which is open, and return its headings and labels."""
    found: dict[str, Any] = {}
    assert tab.locator("h1").count() == 1
    named = read_names(tab)
    assert named
    if url in WITHOUT_CUTS:
        assert tab.evaluate(CUT_OFF) == []
        assert tab.evaluate(OVERLAPS) == []
    tab.evaluate(UNFOLD)
    for look in looks:
        show(tab, look)
        found[f"{look[0]}, {look[2]}"] = look_at_layout(tab)
        if look[0] == "phone":
            assert tab.evaluate(NOT_ON_SCREEN) == []
    if on_paper:
        tab.set_viewport_size(PAPER)
        tab.emulate_media(media="print", color_scheme="light")
        found["paper"] = look_at_layout(tab)
    assert tab.evaluate("window.__csp") == []
    assert tab.evaluate("window.__xss") is None
    assert noted == []
    assert {what: each for what, each in found.items() if each} == {}
    return named


def compare_without_scripts(plain_tab: Page, sample: Sample, url: str, named: list[str]) -> None:
    """Everything that is named with scripts is named without; tables behind charts are only shown without."""
    with open_page(plain_tab, sample, url):
        named_without = read_names(plain_tab)
    assert [name for name in named if name not in named_without] == []


def look_for_barriers(tab: Page, phone_rules: Mapping[str, object], *, presses_tab: bool) -> None:
    """Use a page by keyboard, and ask axe."""
    tab.evaluate(STOP_NEWS)  # they would replace what has the focus
    tab.wait_for_function(IS_STILL)
    show(tab, DESK_LOOK)
    tab.evaluate(THIN_OUT)
    use_by_keyboard(tab, presses_tab=presses_tab)
    tab.evaluate(AXE.read_text())  # the page's own rules forbid a script tag
    looks: tuple[tuple[Look, Mapping[str, object]], ...] = ((DESK_LOOK, RULES), (PHONE_LOOK, phone_rules))
    faults = {f"{look[0]}, {look[2]}": find_barriers(tab, look, rules) for look, rules in looks}
    assert {what: told for what, told in faults.items() if told} == {}, json.dumps(faults, indent=1)


def find_barriers(page: Page, look: Look, rules: Mapping[str, object]) -> list[str]:
    """Return what axe calls serious."""
    show(page, look)
    return [
        f"{barrier['id']} ({barrier['impact']}): {node['html'][:160]} {node['failureSummary'][:300]}"
        for barrier in page.evaluate(LOOK, rules)
        if barrier["impact"] in {"serious", "critical"}
        for node in barrier["nodes"][:3]
    ]


def use_by_keyboard(page: Page, *, presses_tab: bool) -> None:
    """Reach everything in order and see what has the focus, and go to the content by the first stop.

    Without the Tab key, a script moves the focus. Then the order is the document's where no number says another.
    """
    page.evaluate(  # a login begins in its field
        "() => { const b = document.body; b.tabIndex = -1; b.focus(); b.blur(); b.removeAttribute('tabindex'); }"
    )
    page.evaluate(KEYBOARD)
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("e => e === document.activeElement && e.getBoundingClientRect().top >= 0")
    if presses_tab:
        press_tab(page)
    else:
        page.evaluate("window.__focusRest()")
    keys = page.evaluate("window.__keys")
    assert keys["early"] == []
    assert keys["reached"] == keys["wanted"][: MOST_TABS if presses_tab else None]
    assert keys["unseen"] == []
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("location.hash") == "#main"
    if page.locator("main :is(a[href], button, select, summary)").count():
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def press_tab(page: Page) -> None:
    """Press the Tab key until everything is reached, or much of it."""
    count = min(page.evaluate("window.__keys.wanted.length"), MOST_TABS)
    for _ in range(count - 1):
        page.keyboard.press("Tab")
    for _ in range(MOST_PARTS):  # a field for a date or a month is several stops
        if page.evaluate("window.__keys.reached.length") < count:
            page.keyboard.press("Tab")


def test_paper_is_white_and_has_no_forms_whatever_theme_is_chosen(tab: Page, sample: Sample) -> None:
    with open_page(tab, sample, "/login"):
        tab.evaluate("localStorage.setItem('theme', 'dark')")
    try:
        for url in ("/runs", "/compliance?month=2026-11"):
            with open_page(tab, sample, url):
                assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
                tab.emulate_media(media="print")
                ink = tab.evaluate("getComputedStyle(document.querySelector('h1')).color")
                assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 200, ink
                assert tab.locator("form:visible, button:visible, nav:visible").count() == 0
        assert "scope: all machines, " in tab.content()  # the form is not printed
    finally:
        tab.evaluate("localStorage.removeItem('theme')")
