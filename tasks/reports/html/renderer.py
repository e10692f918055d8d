"""Renders a report as one self-contained HTML page, always under one megabyte."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Final

from jinja2 import Environment, pass_context
from jinja2.runtime import Context

from tasks.domain.model import RunReport
from tasks.reports.data.figure_cells import build_update_cells
from tasks.reports.data.groups import split_at_limit
from tasks.reports.data.rows import Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.formatting import (
    describe_minutes_range,
    describe_prediction_basis,
    format_moment,
    format_time_of_day,
)
from tasks.reports.html.environment import build_environment, load_style
from tasks.reports.html.page import DETAIL_LEVELS, PageSource, ReportPage, build_page
from tasks.reports.log_files import LOG_DIRECTORY_NAME, build_log_file_name
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.automatic.progress import RolloutProgress
from tasks.rules.runs.figures import REBOOT_LABELS

MAX_PAGE_BYTES: Final = 1_000_000
"""Maximum size of a page: it is sent in e-mails and artifacts, and opened over slow connections."""

ALL_DATA_FORMATS: Final = frozenset({"csv", "parquet", "json"})


def render_html(
    report: RunReport,
    *,
    logs: Mapping[str, str] | None = None,
    now: datetime | None = None,
    sibling_formats: Collection[str] = (),
    tables: Tables | None = None,
    rollout: RolloutProgress | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        report: the report.
        logs: machine → raw output of its jobs. The page shows the end of each log with its machine.
        now: the time of the page. None: the latest time in the report.
        sibling_formats: formats in the same directory ("csv", "parquet", "json", "logs"). If the page leaves something
            out, it refers to these files.
        tables: the report's tables, if the caller already has them.
        rollout: how far the rollout is that the run belongs to; None: it belongs to none.
    """
    source = PageSource.build(report, tables or build_tables(report), logs or {}, now, rollout)
    html = ""
    for detail in DETAIL_LEVELS:
        html = _render_page(build_page(source, detail), sibling_formats)
        if len(html.encode()) < MAX_PAGE_BYTES:
            break
    return html


def build_style_policy() -> str:
    """Return the Content-Security-Policy of a page: it allows nothing but its own style sheet."""
    return load_style("report")[1]


def _render_page(content: ReportPage, sibling_formats: Collection[str]) -> str:
    style, policy = load_style("report")
    template = _build_report_environment().get_template("report.html.j2")
    return template.render(
        page=content, detail=content.detail, style=style, policy=policy, beside=frozenset(sibling_formats)
    )


@cache
def _build_report_environment() -> Environment:
    environment = build_environment()
    environment.filters |= {
        "clip": _clip_text,
        "time_of_day": format_time_of_day,
        "moment": format_moment,
        "log_file": _build_log_path,
    }
    environment.globals |= {
        "share": split_at_limit,
        "elsewhere": _find_full_table,
        "update_cells": build_update_cells,
        "say_basis": describe_prediction_basis,
        "say_span": describe_minutes_range,
        "reboot_words": REBOOT_LABELS,
    }
    return environment


@pass_context
def _clip_text(context: Context, text: str) -> str:
    return sanitize_to_one_line(text, context["detail"].text_characters)


@pass_context
def _find_full_table(context: Context, table: str) -> str:
    """Return the place of the complete table."""
    beside = context["beside"]
    for kind, file_name in (("csv", f"{table}.csv"), ("json", "report.json"), ("parquet", f"{table}.parquet")):
        if kind in beside:
            return file_name
    return "the records"


def _build_log_path(machine: str) -> str:
    return f"{LOG_DIRECTORY_NAME}/{build_log_file_name(machine)}"
