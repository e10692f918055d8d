"""Writes a run's report into a directory of its own.

A report lists what each machine still lacks: a list of open doors. So directories are made for their owner alone
(0700) and files too (0600). Each file appears whole or not at all: it is written beside its place and moved there.
The page comes last, since people open it and it speaks of the others.
"""

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from inventory.places import with_home
from tasks.errors import ReportError
from tasks.model import RunReport
from tasks.reporting.document import json_lines
from tasks.reporting.flatten import tables
from tasks.reporting.frames import frames_of
from tasks.reporting.html import render_html
from tasks.reporting.logs import FOLDER, clean_log, file_name, safe_name
from tasks.reporting.place import make_private, translated
from tasks.reporting.rows import Tables
from tasks.reporting.sheets import csv_bytes, parquet_bytes

FORMATS: Final = ("html", "csv", "parquet", "json")


def write_report(
    report: RunReport,
    directory: Path,
    logs: Mapping[str, str] | None = None,
    formats: Collection[str] = FORMATS,
    *,
    now: datetime | None = None,
) -> dict[str, Path]:
    """Write the report into ``directory``/<run id>, over what an earlier call for that run left there.

    Args:
        report: the run.
        directory: where reports are kept; made when it is not there.
        logs: machine → raw output of its jobs. Each becomes logs/<machine>.log, made harmless for terminals.
        formats: any of "html", "csv", "parquet", "json".
        now: for the page, see render_html.

    Returns:
        Where things are: "directory", and of what was asked for "html", "json", "logs" (a directory), and
        "csv.<table>" and "parquet.<table>" for each table.

    Raises:
        ReportError: it can't be written; no half file is left.
        ValueError: a format that is not known.
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise ValueError(f"unknown report format {', '.join(sorted(unknown))}: choose from {', '.join(FORMATS)}")
    place = with_home(directory, ReportError).absolute() / safe_name(report.run.id)
    laid_out = tables(report)
    written = {"directory": place}
    try:
        make_private(place)
        for key, relative, content in _files(report, laid_out, logs or {}, formats, now):
            _write(place / relative, content, durable=not key.startswith("log:"))
            written[key] = place / relative
    except OSError as error:
        raise translated(error, place) from error
    if logs:
        written["logs"] = place / FOLDER
    return {key: path for key, path in written.items() if not key.startswith("log:")}


def _files(
    report: RunReport, laid_out: Tables, logs: Mapping[str, str], formats: Collection[str], now: datetime | None
) -> Iterator[tuple[str, str, bytes | Iterator[bytes]]]:
    """Yield (key, path below the report's directory, content) of each file, one at a time: they can be big."""
    for machine, text in logs.items():
        yield f"log:{machine}", f"{FOLDER}/{file_name(machine)}", clean_log(text).encode()
    if "csv" in formats or "parquet" in formats:
        for name, frame in frames_of(laid_out).items():
            if "parquet" in formats:
                yield f"parquet.{name}", f"{name}.parquet", parquet_bytes(frame)
            if "csv" in formats:
                yield f"csv.{name}", f"{name}.csv", csv_bytes(frame)
    if "json" in formats:
        yield "json", "report.json", (line.encode() for line in json_lines(laid_out))
    if "html" in formats:
        beside = {*formats, *(("logs",) if logs else ())} - {"html"}
        page = render_html(report, logs=logs, now=now, beside=beside, laid_out=laid_out)
        yield "html", "report.html", page.encode()


def _write(path: Path, content: bytes | Iterator[bytes], *, durable: bool) -> None:
    """Write a file beside its place, then move it there.

    ``durable`` waits until it is on the disk. Logs don't: there may be a thousand, and the records have them too.
    """
    make_private(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
