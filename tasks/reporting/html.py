"""One self-contained HTML page of a run: no script, nothing fetched from anywhere, always under one megabyte.

Everything that a template writes is escaped and cleaned on its way out, whatever it is and whoever wrote the template:
texts come from machines, and machines may be hostile. Its Content-Security-Policy allows one thing, the page's own
style sheet by its hash; so that even a mistake in here could not run a script or load a picture.
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

from tasks.model import RunReport
from tasks.reporting.columns import update_cells
from tasks.reporting.flatten import tables
from tasks.reporting.groups import share
from tasks.reporting.logs import FOLDER, file_name
from tasks.reporting.page import LADDER, Page, Source, page
from tasks.reporting.rows import Tables
from tasks.reporting.text import clean, clock_time, duration, minutes, moment, one_line, plural
from tasks.reporting.wording import say_basis, say_span
from tasks.rules.figures import REBOOT_WORDS

MOST_BYTES: Final = 1_000_000
"""A page is never bigger: it goes into mails, artifacts and browsers on slow lines."""

ALL_BESIDE: Final = frozenset({"csv", "parquet", "json"})


def render_html(
    report: RunReport,
    *,
    logs: Mapping[str, str] | None = None,
    now: datetime | None = None,
    beside: Collection[str] = (),
    laid_out: Tables | None = None,
) -> str:
    """Return the page.

    Args:
        report: the run.
        logs: machine → raw output of its jobs; the end of each is folded into the machine's part.
        now: the moment that the page is made; without it, the last moment that the report speaks of.
        beside: what lies in the same directory ("csv", "parquet", "json", "logs"): where the page says that the
            rest is, when it has to leave something out.
        laid_out: the report's tables, when they are there already.
    """
    source = Source.of(report, laid_out or tables(report), logs or {}, now)
    html = ""
    for detail in LADDER:
        html = _render(page(source, detail), beside)
        if len(html.encode()) < MOST_BYTES:
            break
    return html


def _render(content: Page, beside: Collection[str]) -> str:
    style, policy = _style()
    template = _environment().get_template("report.html.j2")
    return template.render(page=content, detail=content.detail, style=style, policy=policy, beside=frozenset(beside))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.reporting"),
        autoescape=True,  # by name would not do: it does not know .j2
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clip=_clip,
        clock=clock_time,
        moment=moment,
        duration=duration,
        minutes=minutes,
        plural=plural,
        log_file=_log_file,
    )
    environment.globals.update(share=share, elsewhere=_elsewhere, update_cells=update_cells)
    environment.globals.update(say_basis=say_basis, say_span=say_span, reboot_words=REBOOT_WORDS)
    return environment


def _finalize(value: object) -> object:
    """Clean what a template writes. Markup is only ever our own style sheet."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@pass_context
def _clip(context: Context, text: str) -> str:
    return one_line(text, context["detail"].cell)


@pass_context
def _elsewhere(context: Context, table: str) -> str:
    """Return where the whole of a table is."""
    beside = context["beside"]
    for kind, place in (("csv", f"{table}.csv"), ("json", "report.json"), ("parquet", f"{table}.parquet")):
        if kind in beside:
            return place
    return "the records"


def _log_file(machine: str) -> str:
    return f"{FOLDER}/{file_name(machine)}"


@cache
def _style() -> tuple[Markup, str]:
    """Return the style sheet, and the policy that allows it and nothing else."""
    loader = _environment().loader
    if loader is None:  # for the type checker; _environment always sets one
        raise RuntimeError("the templates have no loader")
    text = loader.get_source(_environment(), "report.css")[0].strip()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy  # noqa: S704  our own file
