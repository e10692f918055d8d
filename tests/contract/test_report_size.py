"""The promise of a page under one megabyte, at the size of a large fleet."""

from dataclasses import replace
from pathlib import Path

from tasks.reports.html.renderer import MAX_PAGE_BYTES, render_html
from tasks.reports.writer import write_report
from tests.unit.reporting import samples
from tests.unit.reporting.machines import LOG
from tests.unit.reporting.test_html import Page, harmless


def test_a_fleet_of_two_hundred_is_told_whole() -> None:
    big = samples.many(200, 20)
    html = render_html(big, logs={o.machine: LOG * 20 for o in big.outcomes}, sibling_formats={"csv"})
    assert MAX_PAGE_BYTES / 2 < len(html.encode()) < MAX_PAGE_BYTES  # small enough, and the room is used
    assert html.count('<g class="r r-') == 2 * 200
    assert html.count('<div class="line"') + html.count('<summary class="line"') == 200


def test_nothing_that_machines_say_makes_the_page_too_big() -> None:
    report, _ = samples.forty()
    long = "&" * 5000
    outcomes = tuple(
        replace(
            outcome,
            machine=f"{long}{n}",
            reason=f"{long}{n}",
            updates=tuple(replace(r, reason=long, update=replace(r.update, name=long)) for r in outcome.updates),
            findings=tuple(replace(f, message=long, remedy=long) for f in outcome.findings) * 20,
        )
        for n, outcome in enumerate(report.outcomes)
    )
    run = replace(report.run, scope=long, message=long, started_by=long, flow_run_id=long, id=long)
    logs = {outcome.machine: long * 10 for outcome in outcomes}
    harmless(render_html(replace(report, run=run, outcomes=outcomes, waves=()), logs=logs))


def test_a_thousand_machines_with_fifty_updates_fit_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    big = samples.many(1000, 50)
    logs = {outcome.machine: LOG * 20 for outcome in big.outcomes}
    written = write_report(big, tmp_path, logs)
    size = written["html"].stat().st_size
    assert MAX_PAGE_BYTES / 2 < size < MAX_PAGE_BYTES
    text = Page(written["html"].read_text()).text
    assert "more machines: see timeline.csv" in text
    assert "more machines: see updates.csv" in text
