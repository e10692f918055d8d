"""Debian's Chromium, driven by Playwright: one browser for all tests of a module, closed before others begin."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")
_QUIET: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",  # else it draws Prefect's moving graph of a run with the processor, all the time
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser. While it is there this thread has a running event loop: use it where no test calls asyncio.run."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: deployments/bootstrap/packages.sh browser installs it")
    expect.set_options(timeout=30_000)  # milliseconds; 5 s are too few for a login on busy cores
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_QUIET])
        yield chromium
        chromium.close()
