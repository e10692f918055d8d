"""Renders a report as one self-contained HTML page, always under one megabyte."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Final

from jinja2 import Environment

from tasks.domain.model import RunReport
from tasks.reports.data.figure_cells import build_update_cells
from tasks.reports.data.rows import Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.formatting import format_moment, format_time_of_day
from tasks.reports.html.environment import build_environment, load_style
from tasks.reports.html.page import DETAIL_LEVELS, PageSource, build_page
from tasks.reports.log_files import LOG_DIRECTORY_NAME, build_log_file_name
from tasks.rules.automatic.progress import RolloutProgress

MAX_PAGE_BYTES: Final = 1_000_000
"""Maximum size of a page: it is sent in e-mails and artifacts, and opened over slow connections."""


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
    style, policy = load_style("report")
    template, beside, html = _build_report_environment().get_template("report.html.j2"), frozenset(sibling_formats), ""
    for detail in DETAIL_LEVELS:
        page = build_page(source, detail)
        html = template.render(page=page, detail=detail, style=style, policy=policy, beside=beside)
        if len(html.encode()) < MAX_PAGE_BYTES:
            break
    return html


def build_style_policy() -> str:
    """Return the Content-Security-Policy of a page: it allows nothing but its own style sheet."""
    return load_style("report")[1]


@cache
def _build_report_environment() -> Environment:
    environment = build_environment()
    environment.filters |= {
        "time_of_day": format_time_of_day,
        "moment": format_moment,
        "log_file": lambda machine: f"{LOG_DIRECTORY_NAME}/{build_log_file_name(machine)}",
    }
    environment.globals["update_cells"] = build_update_cells
    return environment
