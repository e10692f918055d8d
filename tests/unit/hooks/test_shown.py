"""Hooks and notes where people look: the page, Markdown, the files and the screen."""

import json

import pytest

from fleetpatch.cli.views.runs import print_patch_run
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import render_json_lines
from tasks.reports.export.markdown import render_summary
from tasks.reports.html.renderer import render_html
from tests.unit.reporting import samples

REPORT = samples.forty()[0]


def test_the_page_shows_hooks_that_failed_first_and_what_was_agreed() -> None:
    html = render_html(REPORT)
    part = html[html.index("Before and after") :]
    assert "approved by ada" in part
    rows = part[part.index("<tbody>") :].split("<tr>")[1:]
    assert "the balancer does not answer" in rows[0]
    assert "warn" in rows[0]
    assert "before run" in rows[1]
    assert "CHG-4711" in rows[1]


def test_a_run_without_hooks_has_no_such_part() -> None:
    assert "Before and after" not in render_html(samples.three()[0])


def test_markdown_names_those_that_failed() -> None:
    text = render_summary(REPORT)
    assert "hook undrain" in text
    assert "5 hooks run, 1 failed" in text
    assert "hook drain" not in text


def test_the_document_has_them_all() -> None:
    told = json.loads("".join(render_json_lines(build_tables(REPORT))))
    assert [hook["hook"] for hook in told["hooks"]] == [result.hook.name for result in REPORT.hooks]
    assert told["run"]["notes"] == list(REPORT.notes)


def test_the_screen_shows_the_runs_hooks_and_those_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    print_patch_run(REPORT)
    told = " ".join(capsys.readouterr().out.split())
    assert "note: approved by ada" in told
    assert "hook open the ticket (before run, run) done: CHG-4711" in told
    assert "hook undrain (after machine, web-02) failed: exit code 1" in told
    assert "hook drain" not in told
