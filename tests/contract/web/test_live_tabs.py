"""Many tabs of one browser, which has six connections for all of them: only the visible page keeps one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.contract.web.test_live import RUN, begin_run, end_run, tell, wait_until
from tests.support.browser import browser_with_windows  # noqa: F401 - a fixture
from tests.support.browser_tabs import open_tabs
from tests.support.web_site import Site, serve_site

TEXT = "document.querySelector('main').textContent"
CONNECTION = "document.querySelector('.connection').textContent"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve_site(tmp_path) as site:
        yield site


def test_ten_tabs_load_and_only_the_visible_one_has_a_stream(site: Site, browser_with_windows: Browser) -> None:  # noqa: F811
    begin_run(site.records)
    with open_tabs(browser_with_windows) as tabs:
        first = tabs.open(f"{site.url}/")
        opened = [first, *(tabs.open(f"{site.url}{path}") for path in 4 * ("/", f"/runs/{RUN}"))]
        last = tabs.open(f"{site.url}/runs/{RUN}", in_background=True)

        assert all("fleetpatch" in each.ask("document.title") for each in (*opened, last))
        assert [each.ask("document.hidden") for each in opened] == [*(8 * [True]), False]
        assert last.ask("document.hidden")
        wait_until(lambda: site.context.live.stream_count == 1)


def test_a_tab_is_right_again_when_it_is_shown(site: Site, browser_with_windows: Browser) -> None:  # noqa: F811
    run = begin_run(site.records)
    with open_tabs(browser_with_windows) as tabs:
        overview, page = tabs.open(f"{site.url}/"), tabs.open(f"{site.url}/runs/{RUN}")
        for each in (overview, page):
            each.ask("window.isSame = true")
        other = tabs.open(f"{site.url}/health")
        unseen = tabs.open(f"{site.url}/runs/{RUN}", in_background=True)
        wait_until(lambda: site.context.live.stream_count == 0)
        tell(site.records, "web-1", "meanwhile", step="install")

        page.show()
        page.wait_for(
            f"{TEXT}.includes('meanwhile') && document.querySelector('#result').textContent.includes('web-1')"
        )
        page.wait_for(f"{CONNECTION} === ''")
        overview.show()
        overview.wait_for(f"{TEXT}.includes('meanwhile')")
        unseen.show()
        unseen.wait_for("document.querySelector('#result').textContent.includes('web-1')")
        wait_until(lambda: site.context.live.stream_count == 1)
        other.show()
        wait_until(lambda: site.context.live.stream_count == 0)
        end_run(site.records, run)
        for each in (unseen, page):
            each.show()
            each.wait_for("document.querySelector('h1').textContent.includes('Succeeded')")
        overview.show()
        overview.wait_for(f"{TEXT}.includes('No run is in progress')")
        assert page.ask("window.isSame") is True
        assert overview.ask("window.isSame") is True


def test_the_back_button_brings_a_page_that_is_live(site: Site, browser_with_windows: Browser) -> None:  # noqa: F811
    begin_run(site.records)
    page = browser_with_windows.new_page()
    page.goto(f"{site.url}/runs/{RUN}")
    wait_until(lambda: site.context.live.stream_count == 1)
    page.goto(f"{site.url}/health")
    wait_until(lambda: site.context.live.stream_count == 0)
    page.go_back()
    wait_until(lambda: site.context.live.stream_count == 1)
    tell(site.records, "web-1", "after it")
    expect(page.locator("#live")).to_contain_text("after it")
    expect(page.locator("#live .connection")).to_have_text("")
    page.close()
