"""Takes the pictures of the pages for the documents, from the sample fleet.

    python -m tests.web_pictures [FOLDER]

Without a folder it replaces those in docs/images, but for pages-live and pages-run: tests/lab/test_pages.py takes them
of a real run. A folder gets every page of the tests, as a person sees it at a desk
and on a phone, in light and dark: to look at them after a change.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.ci.tree import TOP
from tests.contract.web.page_urls import PAGES
from tests.support.browser import CHROMIUM
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import NOW, SampleFleet, fill_site
from tests.support.web_site import Site, serve_site

PICTURES = {
    "pages-overview": ("/", 1280, 820),
    "pages-machines": ("/machines", 1280, 800),
    "pages-machine": ("/machines/web-07", 1280, 860),
    "pages-update": ("/updates/openssl", 1280, 800),
    "pages-calendar": ("/calendar?month=2026-11", 1100, 720),
    "pages-approval": ("/approvals/{waiting}", 1280, 800),
    "pages-patch": ("/patch?scope=env%3Dprod%2Cgroup%3Dweb", 1280, 560),
    "pages-phone": ("/", 390, 844),
}


def take_pictures(folder: Path) -> None:
    """Take the pictures for the documents."""
    with sample_site(hostile=False) as (site, fleet), chromium() as browser:
        for name, (url, width, height) in PICTURES.items():
            _take(browser, site.url + url.format(**fleet.runs), folder / f"{name}.png", width, height, "light")


def take_all(folder: Path) -> None:
    """Take pictures of all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    with sample_site(hostile=True) as (site, fleet), chromium() as browser:
        for url in [url for urls in PAGES.values() for url in urls]:
            name = re.sub(r"\W+", "-", url).strip("-") or "overview"
            for theme, width, height in (("light", 1280, 1000), ("dark", 1280, 1000), ("light", 390, 844)):
                path = folder / f"{name}-{width}-{theme}.png"
                _take(browser, site.url + url.format(**fleet.runs), path, width, height, theme)


@contextmanager
def sample_site(*, hostile: bool) -> Iterator[tuple[Site, SampleFleet]]:
    """Serve the sample fleet."""
    with tempfile.TemporaryDirectory() as place:
        fleet = fill_site(Path(place), hostile=hostile)
        with serve_site(Path(place), clock=FakeClock(NOW), zone="Europe/Berlin") as site:
            yield site, fleet


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def _take(browser: Browser, url: str, path: Path, width: int, height: int, theme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    answer = page.goto(url)
    assert answer is not None
    assert answer.status == 200, f"{url}: {answer.status}"
    page.wait_for_timeout(300)  # charts are drawn
    page.screenshot(path=path)
    page.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_all(Path(sys.argv[1]))
    else:
        take_pictures(TOP / "docs" / "images")
