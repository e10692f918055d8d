"""Debian's Chromium, driven by Playwright: one browser for all tests of a module, closed before others begin.

It is the one without windows: the same engine, for half of the processor's time. All of its tabs are visible. Where
only one may be, tests use the other.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, TimeoutError, expect, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium-headless-shell")
CHROMIUM_WITH_WINDOWS: Final = Path("/usr/bin/chromium")
_DEAF: Final = Path(__file__).with_name("deaf_chromium.py")
PATIENCE: Final = 180_000
"""Milliseconds. On cores that others use, 5 s were too few for a login, and 30 s are for some pages."""
_QUIET: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",  # else it draws Prefect's moving graph of a run with the processor, all the time
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=1",  # a process for each page would take longer than most pages do
)
Tabs = TypeVar("Tabs", BrowserContext, Page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser. While it is there this thread has a running event loop: use it where no test calls asyncio.run."""
    yield from _open(CHROMIUM)


@pytest.fixture(scope="module")
def browser_with_windows() -> Iterator[Browser]:
    """The same, of whose tabs one is visible."""
    yield from _open(CHROMIUM_WITH_WINDOWS)


@pytest.fixture(scope="module")
def browser_of_all_names() -> Iterator[Browser]:
    """The same as the first; every name ends at 127.0.0.1, as the owner of a name may let it."""
    yield from _open(CHROMIUM, "--host-resolver-rules=MAP * 127.0.0.1")


def open_prefect(page: Page, address: str, selector: str) -> Locator:
    """Open a page of Prefect's UI, and return what is looked for when it is there.

    The UI asks the server once, and stays empty if a busy one answers too late: then it is loaded again.
    """
    shown = page.locator(selector)
    for _ in range(6):
        page.goto(address)
        with suppress(TimeoutError):
            shown.wait_for(timeout=30_000)
            break
    return shown


def _open(program: Path, *more: str) -> Iterator[Browser]:
    if not program.exists():
        pytest.skip(f"{program} is not there: deployments/bootstrap/packages.sh browser installs it")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**os.environ, "CHROMIUM_PROGRAM": str(program)}
        chromium = playwright.chromium.launch(executable_path=_DEAF, args=[*_QUIET, *more], env=environment)
        chromium.new_context = _make_patient(chromium.new_context)  # type: ignore[method-assign]
        chromium.new_page = _make_patient(chromium.new_page)  # type: ignore[method-assign]
        yield chromium
        chromium.close()


def _make_patient(make: Callable[..., Tabs]) -> Callable[..., Tabs]:
    def make_patiently(**options: Any) -> Tabs:
        made = make(**options)
        made.set_default_timeout(PATIENCE)
        return made

    return make_patiently
