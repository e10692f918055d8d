"""Writes the compliance document: HTML to read and to print, CSV and Parquet for programs."""

import hashlib
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tasks.domain.errors import ReportError
from tasks.reports.compliance.sections import MAX_ROWS, build_day_bars, build_sections, build_tiles, describe_method
from tasks.reports.export.tabular_formats import render_csv, render_parquet
from tasks.reports.html.environment import build_environment, load_style
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


def render_compliance_html(document: ComplianceDocument) -> str:
    """Return the document as one self-contained HTML page that prints well on A4."""
    style, policy = load_style("compliance")
    template = _build_file_environment().get_template("compliance_document.html.j2")
    return template.render(build_values(document), style=style, policy=policy)


def build_values(document: ComplianceDocument, limit: int = MAX_ROWS) -> dict[str, object]:
    """Return the values of compliance_parts.html.j2, with ``limit`` rows of a table at most."""
    return {
        "document": document,
        "tiles": build_tiles(document),
        "sections": build_sections(document, limit),
        "bars": build_day_bars(document),
        "method": describe_method(document),
    }


def render_compliance_files(document: ComplianceDocument, formats: Collection[str] = FORMATS) -> dict[str, bytes]:
    """Return the files by name."""
    files: dict[str, bytes] = {}
    if "html" in formats:
        files[f"{build_file_name(document)}.html"] = render_compliance_html(document).encode("utf-8", "replace")
    if {"csv", "parquet"} & set(formats):
        for name, row_type in TABLE_TYPES.items():
            rows = getattr(document, name)
            files |= {f"{name}.csv": b"".join(render_csv(row_type, rows))} if "csv" in formats else {}
            files |= {f"{name}.parquet": render_parquet(row_type, rows)} if "parquet" in formats else {}
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


_build_file_environment: Final = cache(build_environment)
