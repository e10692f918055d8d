"""Writes the compliance document: HTML to read and to print, CSV and Parquet for programs."""

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.domain.errors import ReportError
from tasks.reports.compliance.sections import build_day_bars, build_sections, build_tiles, describe_method
from tasks.reports.export.data_frames import build_frame, render_csv, render_parquet
from tasks.reports.formatting import format_scope
from tasks.reports.sanitizing import sanitize
from tasks.rules.compliance.model import (
    ComplianceDocument,
    DayFigure,
    ExceptionFigure,
    Fix,
    MachineFigure,
    RunFigure,
    SlaFigure,
    WeekFigure,
)

if TYPE_CHECKING:
    import pandas as pd

TABLE_TYPES: Final[Mapping[str, type]] = {
    "sla": SlaFigure,
    "weeks": WeekFigure,
    "days": DayFigure,
    "machines": MachineFigure,
    "fixes": Fix,
    "runs": RunFigure,
    "exceptions": ExceptionFigure,
}
"""The tables of the document for programs: attribute of the document and class of its rows."""

FORMATS: Final = ("html", "csv", "parquet")


def build_compliance_frames(document: ComplianceDocument) -> "dict[str, pd.DataFrame]":
    """Return the tables as pandas frames. Their columns are the fields of the classes of the rows."""
    return {name: build_frame(kind, getattr(document, name)) for name, kind in TABLE_TYPES.items()}


def render_compliance_html(document: ComplianceDocument) -> str:
    """Return the document as one self-contained HTML page that prints well on A4."""
    style, policy = _load_style()
    return (
        _build_environment()
        .get_template("compliance.html.j2")
        .render(
            document=document,
            tiles=build_tiles(document),
            sections=build_sections(document),
            bars=build_day_bars(document),
            method=describe_method(document),
            style=style,
            policy=policy,
        )
    )


def render_compliance_files(document: ComplianceDocument, formats: Collection[str] = FORMATS) -> dict[str, bytes]:
    """Return the files by name."""
    files: dict[str, bytes] = {}
    if "html" in formats:
        files[f"{build_file_name(document)}.html"] = render_compliance_html(document).encode("utf-8", "replace")
    if {"csv", "parquet"} & set(formats):
        for name, frame in build_compliance_frames(document).items():
            files |= {f"{name}.csv": render_csv(frame)} if "csv" in formats else {}
            files |= {f"{name}.parquet": render_parquet(frame)} if "parquet" in formats else {}
    return files


def write_compliance_files(
    document: ComplianceDocument, directory: Path, formats: Collection[str] = FORMATS
) -> dict[str, Path]:
    """Write the files into a folder of their own. Existing ones are replaced.

    Args:
        document: the figures.
        directory: the folder in which that folder is made.
        formats: "html", "csv", "parquet".

    Returns:
        The path of each file by its name.

    Raises:
        ReportError: a file can't be written.
    """
    path = directory / build_file_name(document)
    written: dict[str, Path] = {}
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, body in render_compliance_files(document, formats).items():
            written[name] = path / name
            partial = path / f".{name}.partial"
            partial.write_bytes(body)
            partial.replace(written[name])
    except OSError as error:
        raise ReportError(f"can't write {path}: {error.strerror or error}") from error
    return written


def build_file_name(document: ComplianceDocument) -> str:
    """Return a name without an extension: "compliance-2026-11-env-prod"."""
    scope_part = re.sub(r"[^a-zA-Z0-9]+", "-", document.scope).strip("-").lower()[:60]
    if document.scope.strip() == "*":
        return f"compliance-{document.month}"
    digest = hashlib.sha256(document.scope.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"compliance-{document.month}-{scope_part or 'scope'}-{digest}"


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.reports.compliance"),
        autoescape=True,  # not select_autoescape: it does not know .j2
        undefined=StrictUndefined,
        finalize=_sanitize_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["scope"] = format_scope
    return environment


def _sanitize_value(value: object) -> object:
    return sanitize(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _load_style() -> tuple[Markup, str]:
    """Return the style sheet, and the policy that allows only this style sheet."""
    loader = _build_environment().loader
    if loader is None:  # for the type checker; _build_environment always sets one
        raise RuntimeError("the templates have no loader")
    text = loader.get_source(_build_environment(), "compliance.css")[0].strip()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy  # noqa: S704  our own file
