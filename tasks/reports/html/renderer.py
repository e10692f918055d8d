"""Renders a report as one self-contained HTML page: no script, no external resources, always under one megabyte.

The environment escapes and sanitizes every value that a template writes, because texts come from machines, and a
machine may be hostile. The Content-Security-Policy allows only the page's own style sheet, by its hash. So even a
mistake in a template cannot run a script or load a picture.
"""

import base64
import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from tasks.domain.model import RunReport
from tasks.reports.data.figure_columns import build_update_cells
from tasks.reports.data.groups import split_at_limit
from tasks.reports.data.rows import Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.descriptions import describe_minutes_range, describe_prediction_basis
from tasks.reports.formatting import (
    format_count,
    format_known_duration,
    format_minutes,
    format_moment,
    format_scope,
    format_time_of_day,
)
from tasks.reports.html.page import DETAIL_LEVELS, Page, PageSource, build_page
from tasks.reports.log_files import LOG_DIRECTORY_NAME, build_log_file_name
from tasks.reports.sanitizing import sanitize, sanitize_to_one_line
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
    return _load_style()[1]


def _render_page(content: Page, sibling_formats: Collection[str]) -> str:
    style, policy = _load_style()
    template = _build_environment().get_template("report.html.j2")
    return template.render(
        page=content, detail=content.detail, style=style, policy=policy, beside=frozenset(sibling_formats)
    )


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.reports.html"),
        autoescape=True,  # not select_autoescape: it does not know .j2
        undefined=StrictUndefined,
        finalize=_sanitize_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clip=_clip_text,
        clock=format_time_of_day,
        moment=format_moment,
        duration=format_known_duration,
        minutes=format_minutes,
        plural=format_count,
        scope=format_scope,
        log_file=_build_log_path,
    )
    environment.globals.update(share=split_at_limit, elsewhere=_find_full_table, update_cells=build_update_cells)
    environment.globals.update(
        say_basis=describe_prediction_basis, say_span=describe_minutes_range, reboot_words=REBOOT_LABELS
    )
    return environment


def _sanitize_value(value: object) -> object:
    """Sanitize a value that a template writes. Markup is only the page's own style sheet."""
    return sanitize(value) if isinstance(value, str) and not isinstance(value, Markup) else value


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


@cache
def _load_style() -> tuple[Markup, str]:
    """Return the style sheet, and the policy that allows only this style sheet."""
    loader = _build_environment().loader
    if loader is None:  # for the type checker; _build_environment always sets one
        raise RuntimeError("the templates have no loader")
    text = loader.get_source(_build_environment(), "report.css")[0].strip()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy  # noqa: S704  our own file
