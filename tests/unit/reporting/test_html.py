import base64
import functools
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from hypothesis import given, settings

from tasks.domain.model import LivePatching, RebootNeed, RunReport
from tasks.domain.states import UpdateState, YesNoUnknown
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import render_json_lines
from tasks.reports.html.renderer import MAX_PAGE_BYTES, _build_report_environment, render_html
from tests.support.builders import (
    make_facts,
    make_install_result,
    make_outcome,
    make_report,
    make_update,
    make_update_result,
)
from tests.unit.reporting import samples
from tests.unit.reporting.strategies import report
from tests.unit.reporting.test_text import UNSAFE

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "div", "span", "a"),
    *("h1", "h2", "h3", "p", "ul", "li", "dl", "dt", "dd", "b", "em", "i", "small", "details", "summary", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td", "label", "input", "svg", "rect", "path", "text", "tspan", "g"),
}
VOID = {"meta", "input"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def harmless(html: str) -> Page:
    """Check that nothing in a page acts, and return it."""
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag in ALLOWED
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset", "action", "formaction", "xlink:href", "background"}
            if name == "href":
                assert re.fullmatch(r"logs/[A-Za-z0-9._~-]+\.log", value or "")
    assert not UNSAFE.search(html)
    assert len(html.encode()) < MAX_PAGE_BYTES
    return page


@functools.cache
def forty() -> str:
    return render_html(samples.forty()[0])


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(report())
def test_whatever_machines_say_is_only_text(drawn: RunReport) -> None:
    logs = {outcome.machine: outcome.reason for outcome in drawn.outcomes}
    harmless(render_html(drawn, logs=logs, sibling_formats={"csv", "logs"}))


@pytest.mark.parametrize("make", [samples.three, samples.forty, samples.empty, samples.plan, samples.assessment])
def test_samples_are_whole_pages_without_anything_from_elsewhere(make: object) -> None:
    report, logs = make()  # type: ignore[operator]
    html = render_html(report, logs=logs, sibling_formats={"csv", "logs"})
    harmless(html)
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_policy_allows_the_style_sheet_and_nothing_else() -> None:
    html = render_html(samples.three()[0])
    page = Page(html)
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(style) == 1
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_text_is_shown_as_it_is_written() -> None:
    report, _ = samples.three()
    evil = "<script>alert(1)</script> \x1b[31mred\u202e"
    bad = replace(report.outcomes[0], machine=evil, reason=evil)
    page = harmless(render_html(replace(report, outcomes=(bad,), waves=()), logs={evil: evil}))
    assert "<script>alert(1)</script> red\\u202e" in page.text


def test_the_head_says_what_when_and_by_whom_in_both_zones() -> None:
    text = harmless(forty()).text
    assert "Patch run" in text
    assert "6 of 40 machines failed; wave 4 was not begun" in text
    assert "Fri 20 Nov 2026 02:00 \N{EN DASH} 04:00 Europe/Berlin" in text
    assert "Fri 20 Nov 2026 01:00 \N{EN DASH} 03:00" in text
    assert "by schedule production-thursday" in text


def test_an_update_whose_name_is_a_number_shows_its_title_instead_of_the_number_again() -> None:
    title = "2026-11 Cumulative Update for Windows Server 2022 (KB5046616)"
    update = make_update(id="0-1", name="KB5046616", kb="KB5046616", title=title)
    results = (make_update_result(update=update, state=UpdateState.FAILED, reason="it failed"),)
    outcome = make_outcome(updates=results, install=make_install_result(results=results))
    html = render_html(make_report(outcomes=(outcome,)))
    assert html.count(f"<small>{title}</small>") == 2, "in the list of updates, and on the machine"
    assert "<small>KB5046616</small>" not in html


def test_the_tiles_count_what_the_outcomes_say() -> None:
    report, _ = samples.forty()
    text = harmless(forty()).text
    for state, word in ((UpdateState.INSTALLED, "installed"), (UpdateState.NOT_ATTEMPTED, "not attempted")):
        assert f"{sum(outcome.count_updates(state) for outcome in report.outcomes)} {word}" in text
    assert "17 succeeded" in text
    assert "14 not started" in text


def test_troubles_come_with_reason_remedy_and_machines() -> None:
    text = harmless(forty()).text
    assert "(machine) can't be reached Is the machine up" in text
    assert "wave 4 was not begun: 5 of 14 machines of wave 3 failed (36 %), more than the 20 % allowed" in text
    assert "needs 6 min 40 s, but only 4 min 10 s are left before the reboot reserve of 15 min" in text
    assert "Repair the cause, then run: dpkg --configure -a" in text


def test_logs_are_folded_in_and_progress_bars_are_left_out() -> None:
    report, logs = samples.three()
    text = harmless(render_html(report, logs=logs)).text
    assert "Reading database ... 41217 files installed" in text
    assert "Reading database ... 5%" not in text


def test_a_log_that_is_cut_says_so_and_where_the_whole_is() -> None:
    report, _ = samples.three()
    logs = {"db-1": "a line of no interest\n" * 50_000 + "the end\n"}
    text = harmless(render_html(report, logs=logs, sibling_formats={"logs"})).text
    assert "the end" in text
    assert "the whole log is in logs/db-1.log" in text
    assert "the whole log is in the records" in harmless(render_html(report, logs=logs)).text


def test_a_dry_run_shows_waves_choices_and_predictions() -> None:
    text = harmless(render_html(samples.plan()[0])).text
    assert "Plan" in text
    assert "Wave 1, canary" in text
    assert "91 chosen" in text
    assert "of 2 h 00 min in the window" in text
    assert "excluded by mask docker*" in text
    assert "install 3 min 00 s (predicted)" in text or "install 2 min 30 s (predicted)" in text


def test_live_patches_and_the_reboot_that_they_mitigate_are_shown() -> None:
    report, _ = samples.assessment()
    first, packages = report.assessments[0], report.assessments[0].packages
    assert packages is not None
    need = RebootNeed(YesNoUnknown.YES, ("a new kernel",), "klp: <b>all</b> fixes")
    live = LivePatching("klp", "active", patches=("livepatch_6",), problem="<i>stuck</i>")
    found = replace(first, packages=replace(packages, reboot=need, live_patching=live))
    text = harmless(render_html(replace(report, assessments=(found, *report.assessments[1:])))).text
    assert "Live patches klp: active; livepatch_6; problem: <i>stuck</i>" in text
    assert "Mitigated by klp: <b>all</b> fixes" in text
    assert "Live patches" not in harmless(render_html(report)).text


def test_the_kernel_before_and_after_is_shown_where_it_changed() -> None:
    outcome = make_outcome(kernel_before="20348.2700<b>", facts=make_facts(kernel="20348.2762"))
    assert "Kernel 20348.2700<b> → 20348.2762" in harmless(render_html(make_report(outcomes=(outcome,)))).text
    same = replace(outcome, kernel_before="20348.2762")
    assert "Kernel 2" not in harmless(render_html(make_report(outcomes=(same,)))).text
    tables = build_tables(make_report(outcomes=(outcome,)))
    (row,) = [each for each in tables.machines if each.machine == outcome.machine]
    assert (row.kernel_before, row.kernel) == ("20348.2700<b>", "20348.2762")
    machines = json.loads("".join(render_json_lines(tables)))["machines"]
    (told,) = [each for each in machines if each["machineName"] == outcome.machine]
    assert (told["kernelBefore"], told["kernel"]) == ("20348.2700<b>", "20348.2762")


def test_an_empty_run_says_so() -> None:
    text = harmless(render_html(samples.empty()[0])).text
    assert "No machine was in this run." in text
    assert "No update was pending." in text


def test_the_time_line_has_a_row_for_each_machine_that_began_and_the_windows_edges() -> None:
    html = forty()
    text = Page(html).text
    assert html.count('<g class="r r-') == 2 * (26 + 1)  # the 14 of the wave that was not begun are one row
    for mark in ("window opens 02:00", "window closes 04:00", "reboot reserve 03:45", "ended 02:57"):
        assert mark in text


def test_a_run_that_goes_on_has_a_line_for_now() -> None:
    report, _ = samples.forty()
    going = replace(report, run=replace(report.run, ended_at=None))
    assert "now 02:57" in Page(render_html(going)).text


def test_templates_can_not_forget_to_escape_or_to_clean() -> None:
    told = _build_report_environment().from_string("<p>{{ text }}</p>").render(text="<b>\x1b[31mred\u202e\x00")
    assert told == "<p>&lt;b&gt;red\\u202e\\u0000</p>"


def test_no_template_of_pages_hides_one_of_reports() -> None:
    shared, own = (
        {path.name for path in (files(package) / "templates").iterdir()}
        for package in ("tasks.reports.html", "fleetpatch.pages")
    )
    assert shared
    assert own
    assert not shared & own  # pages look into their own folder first


def test_a_machine_names_its_services_to_restart() -> None:
    outcome = make_outcome(services_to_restart=("nginx.service", "ssh.service"))
    page = Page(render_html(make_report(outcomes=(outcome,))))
    assert "Services to restart nginx.service, ssh.service" in " ".join(" ".join(page.texts).split())
