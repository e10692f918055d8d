"""What a person sees at a glance: figures that are not final, columns under each other."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.contract.web.test_browser_pages import Sample, open_page, open_tab
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import fill_site
from tests.support.web_site import serve_site


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    place = tmp_path_factory.mktemp("site")
    fleet = fill_site(place, hostile=False)
    with serve_site(place, clock=FakeClock(fleet.now), zone="Europe/Berlin") as site:
        yield Sample(site, fleet)


def read(sample: Sample, url: str) -> str:
    """Return a page without tags."""
    text = sample.site.get(url.format(**sample.fleet.runs)).text
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


@pytest.mark.parametrize("url", ["/", "/runs"])
def test_machines_of_a_run_that_goes_on_are_those_done_so_far(sample: Sample, url: str) -> None:
    text = sample.site.get(url).text
    rows = [row for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if sample.fleet.runs["live"] in row]
    assert "3<small>done so far</small>" in rows[-1]


def test_a_run_that_is_over_is_not_said_to_be_cancelled_later(sample: Sample) -> None:
    text = read(sample, "/runs/{failed}/cancel")
    assert "is over: Failed" in text
    assert "No process executes this run" not in text
    assert "Nothing is killed" not in text
    assert "Nothing is killed" in read(sample, "/runs/{live}/cancel")


def test_figures_of_approvals_have_their_unit_in_the_heading_only(sample: Sample) -> None:
    text = sample.site.get("/approvals").text
    assert '<td data-label="CVEs" class="number">10</td>' in text
    assert '<td data-label="Reboots" class="number">16</td>' in text


def test_the_columns_of_all_waves_stand_under_each_other(browser: Browser, sample: Sample) -> None:  # noqa: F811
    with open_tab(browser) as page, open_page(page, sample, "/runs/{failed}"):
        found = page.evaluate(
            "[...document.querySelectorAll('.run-machines thead tr')].map("
            "(row) => [...row.cells].map((cell) => Math.round(cell.getBoundingClientRect().left)).join())"
        )
        assert len(found) == 4
        assert len(set(found)) == 1


def test_rows_have_no_empty_lines_on_a_phone(browser: Browser, sample: Sample) -> None:  # noqa: F811
    with open_tab(browser) as page, open_page(page, sample, "/"):
        page.set_viewport_size({"width": 390, "height": 844})
        heights = page.evaluate(
            "[...document.querySelectorAll('table.lines tbody tr')].map((row) => row.getBoundingClientRect().height"
            " - [...row.cells].reduce((sum, cell) => sum + cell.getBoundingClientRect().height, 0))"
        )
        assert heights
        assert max(heights) < 25


def test_the_timeline_is_whole_on_a_phone(browser: Browser, sample: Sample) -> None:  # noqa: F811
    with open_tab(browser) as page, open_page(page, sample, "/runs/{failed}"):
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.locator(".timeline").evaluate("(each) => each.scrollWidth - each.clientWidth") == 0
        assert page.locator(".timeline svg:visible").count() == 1
        assert "web-11" in (page.locator(".timeline svg:visible").text_content() or "")


def test_machine_names_of_usual_length_stay_on_one_line(browser: Browser, sample: Sample) -> None:  # noqa: F811
    with open_tab(browser) as page, open_page(page, sample, "/machines?q=db-01"):
        name = page.locator(".machines tbody th a")
        assert name.inner_text() == "db-01.fra1.example.net"
        assert name.evaluate("(e) => e.getClientRects().length") == 1


def test_many_faults_of_configurations_do_not_push_the_page_away(
    browser: Browser,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("faults")
    fleet = fill_site(place, hostile=False)
    faults = "".join(f"  - {{name: c{number}, scope: '*', wrong: 1}}\n" for number in range(40))
    (place / "configurations" / "all.yaml").write_text("configurations:\n" + faults)
    with (
        serve_site(place, clock=FakeClock(fleet.now)) as site,
        open_tab(browser) as page,
        open_page(page, Sample(site, fleet), "/"),
    ):
        assert page.locator("span.lines").count() == 1
        box = page.locator(".shares").bounding_box()
        assert box is not None
        assert box["y"] < 500
