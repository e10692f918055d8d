"""Many tabs of one browser, which has six connections for all of them: only the visible page keeps one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tasks.domain.protocols.clock import SystemClock
from tests.contract.web.test_live import RUN, begin_run, end_run, tell, wait_until
from tests.support.browser import browser_with_windows  # noqa: F401 - a fixture
from tests.support.browser_tabs import open_tabs
from tests.support.fake_clock import FakeClock
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


@pytest.mark.parametrize("path", ["/", f"/runs/{RUN}"])
def test_the_keyboard_stays_where_it_was_and_the_footer_goes_on_when_a_part_is_replaced(
    tmp_path: Path,
    browser_with_windows: Browser,  # noqa: F811
    path: str,
) -> None:
    clock = FakeClock(SystemClock().now())
    with serve_site(tmp_path, clock=clock) as site:
        run = begin_run(site.records)
        tell(site.records, "web-1", "package 1 of 2", step="install")
        page = browser_with_windows.new_page()
        page.goto(f"{site.url}{path}")
        page.locator("#live .working a").focus()
        expect(page.locator("#as-of")).to_have_text(f"{clock.now():%a %d %b %Y %H:%M UTC}")
        tell(site.records, "web-1", "package 2 of 2", step="install")
        expect(page.locator("#live .working")).to_contain_text("package 2 of 2")
        assert page.evaluate("document.activeElement.textContent") == "web-1"
        clock.advance(61)
        expect(page.locator("#as-of")).to_have_text(f"{clock.now():%a %d %b %Y %H:%M UTC}")
        clock.advance(61)
        end_run(site.records, run)
        expect(page.locator("main")).to_contain_text("No run is in progress" if path == "/" else "Succeeded")
        expect(page.locator("#as-of")).to_have_text(f"{clock.now():%a %d %b %Y %H:%M UTC}")
        page.close()
