import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

from tasks.domain.model import RunReport
from tasks.reports.export.markdown import (
    MAX_CHARACTERS,
    build_machine_rows,
    build_update_table,
    render_markdown_report,
    render_summary,
)
from tasks.reports.sanitizing import escape_markdown, sanitize_to_one_line
from tests.unit.reporting import samples, ugly
from tests.unit.reporting.strategies import HOSTILE, report, text

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
STRUCTURE = {"heading", "paragraph", "bullet_list", "list_item", "inline"}


def blocks(source: str) -> set[str]:
    return {re.sub("_(open|close)$", "", token.type) for token in READER.parse(source)}


def spans(source: str) -> set[str]:
    return {child.type for token in READER.parse(source) for child in token.children or ()}


@pytest.mark.parametrize("value", [*HOSTILE, "- item", "1. item", "* x", "> q", "    code", "http://evil.test", "---"])
def test_hostile_text_stays_text(value: str) -> None:
    assert blocks(escape_markdown(value)) <= {"paragraph", "inline"}
    assert spans(escape_markdown(value)) <= {"text", "text_special"}


@settings(deadline=None, max_examples=200)
@given(text)
def test_escaped_text_is_read_as_it_was_written(value: str) -> None:
    read = READER.renderInline(escape_markdown(value))
    plain = read.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == sanitize_to_one_line(value, 200)


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(report())
def test_the_summary_has_only_our_own_structure(drawn: RunReport) -> None:
    told = render_summary(drawn)
    assert blocks(told) <= STRUCTURE
    assert spans(told) <= {"text", "text_special", "strong_open", "strong_close"}
    for row in (*build_machine_rows(drawn), *build_update_table(drawn)):
        for cell in row.values():
            assert isinstance(cell, int) or blocks(cell) <= {"paragraph", "inline"}


def test_the_summary_counts_and_says_what_went_wrong() -> None:
    told = render_summary(samples.forty()[0])
    assert "- Machines: 40: 17 Succeeded, 3 CompletedWithWarnings, 6 Failed, 14 NotStarted\n" in told
    assert "- Critical and security updates still pending: **144**\n" in told
    assert "- **Failed** app-05, web-15: 1 of 10 updates failed: postgresql-15. Look at the log below" in told


def test_rows_are_figures_and_texts_worst_first() -> None:
    rows = build_machine_rows(samples.forty()[0])
    assert len(rows) == 40
    assert rows[0]["State"] == "Failed"
    assert rows[-1]["State"] == "Succeeded"
    assert rows[-1]["Installed"] == 10
    assert rows[-1]["Failed"] == 0
    assert len(build_machine_rows(samples.forty()[0], limit=5)) == 5
    first = build_update_table(samples.forty()[0])[0]
    assert first["Update"] == "postgresql-15"
    assert first["Failed"] == 2
    assert first["Machines"] == first["Installed"] + first["Failed"] + first["Not done"]  # type: ignore[operator]


def test_a_dry_run_and_an_assessment_have_their_own_columns() -> None:
    assert "Predicted" in build_machine_rows(samples.plan()[0])[0]
    assert "Compliance" in build_machine_rows(samples.assessment()[0])[0]
    assert build_machine_rows(replace(samples.empty()[0])) == []


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(report())
def test_the_whole_report_has_only_our_own_structure(drawn: RunReport) -> None:
    told = render_markdown_report(drawn, files="/var/lib/<b>reports</b>/a_b on controller")
    assert blocks(told) <= STRUCTURE | {"table", "thead", "tbody", "tr", "th", "td"}
    assert spans(told) <= {"text", "text_special", "strong_open", "strong_close"}


def test_the_whole_report_tells_every_machine_and_every_update_once_in_its_table() -> None:
    forty, _ = samples.forty()
    told = render_markdown_report(forty, files="/var/lib/reports/1 on controller")
    assert "Files of this report: /var/lib/reports/1 on controller" in told
    for rows in (build_machine_rows(forty), build_update_table(forty)):
        for row in rows:
            line = "| " + " | ".join(str(cell) for cell in row.values()) + " |"
            assert told.splitlines().count(line) == 1
    assert "### app-05: Failed" in told
    assert "hint: Look at the log below" in told
    assert "postgresql-15 Failed: postinst" in told


def test_the_whole_report_of_a_big_fleet_stays_small_and_says_what_is_left_out() -> None:
    whole = samples.many(1000, 5)
    told = render_markdown_report(whole)
    assert 10_000 < len(told) <= MAX_CHARACTERS
    assert "And 500 more." in told
    assert 10_000 < len(render_markdown_report(ugly.fleet_of_200())) <= MAX_CHARACTERS
    told = render_markdown_report(ugly.ugly(whole))
    assert len(told) <= MAX_CHARACTERS
    assert re.search(r"Besides, \d+ machines to look at", told)
