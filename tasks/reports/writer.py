"""Writes the report of a run into its own directory.

A report lists the missing security updates of each machine, so it is confidential: directories have mode 0700, files
0600. A file is complete or absent: it is written in a temporary folder and then renamed. The page is the last,
because it names the other files.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from inventory.files.paths import ensure_private_directory, expand_home
from tasks.domain.errors import ReportError
from tasks.domain.model import RunReport
from tasks.reports.data.rows import ROW_TYPES, Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import render_json_lines
from tasks.reports.export.tabular_formats import render_csv, render_parquet
from tasks.reports.html.renderer import render_html
from tasks.reports.log_files import LOG_DIRECTORY_NAME, build_log_file_name, sanitize_log
from tasks.reports.report_directory import build_report_error, hold_report_folder, require_present_folder
from tasks.reports.sanitizing import to_safe_file_name
from tasks.rules.automatic.progress import RolloutProgress

FORMATS: Final = ("html", "csv", "parquet", "json")


def write_report(
    report: RunReport,
    directory: Path,
    logs: Mapping[str, str] | None = None,
    formats: Collection[str] = FORMATS,
    *,
    now: datetime | None = None,
    rollout: RolloutProgress | None = None,
    generation: datetime | None = None,
    is_current: Callable[[], bool] = lambda: True,
) -> dict[str, Path]:
    """Write the report into ``directory``/<run id>. Overwrite the files of an earlier call for that run.

    All files are written first, and then get their names together, while no other process may do the same.

    Args:
        report: the report.
        directory: the directory of all reports. It is created if it does not exist.
        logs: machine → raw output of its jobs. Each log is sanitized and becomes logs/<machine>.log.
        formats: one or more of "html", "csv", "parquet", "json".
        now: the time of the page, see render_html.
        rollout: how far the rollout is that the run belongs to; None: it belongs to none.
        generation: when this process took its run; None: it writes what the records have.
        is_current: whether the report still tells what became of the run. Asked just before files get their names.

    Returns:
        Paths by key: "directory", and for the requested formats "html", "json", "logs" (a directory), and
        "csv.<table>" and "parquet.<table>" for each table.

    Raises:
        ReportError: the report cannot be written, or it is out of date. No incomplete file remains.
        ValueError: a format is unknown.
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise ValueError(f"unknown report format {', '.join(sorted(unknown))}: choose from {', '.join(FORMATS)}")
    report_directory = expand_home(directory, ReportError).absolute() / to_safe_file_name(report.run.id)
    tables = build_tables(report)
    written = {"directory": report_directory}
    try:
        ensure_private_directory(report_directory)
        with tempfile.TemporaryDirectory(dir=report_directory.parent, prefix=f".{report_directory.name}-") as part:
            relative_names = []
            for key, relative, content in _build_files(report, tables, logs or {}, formats, now, rollout):
                _write_file(Path(part) / relative, content, durable=not key.startswith("log:"))
                written[key] = report_directory / relative
                relative_names.append(relative)
            with hold_report_folder(report_directory, generation) as descriptor:
                if not is_current():
                    raise ReportError(
                        f"the report of run {report.run.id} is out of date, so it was not written",
                        hint="Another process has changed the run meanwhile.",
                    )
                if logs:
                    ensure_private_directory(report_directory / LOG_DIRECTORY_NAME)
                for relative in relative_names:
                    os.replace(f"{part}/{relative}", relative, dst_dir_fd=descriptor)
                os.fsync(descriptor)  # the journal says afterwards that they are there
                require_present_folder(report_directory, descriptor)
    except OSError as error:
        raise build_report_error(error, report_directory) from error
    if logs:
        written["logs"] = report_directory / LOG_DIRECTORY_NAME
    return {key: path for key, path in written.items() if not key.startswith("log:")}


def _build_files(
    report: RunReport,
    tables: Tables,
    logs: Mapping[str, str],
    formats: Collection[str],
    now: datetime | None,
    rollout: RolloutProgress | None,
) -> Iterator[tuple[str, str, bytes | Iterator[bytes]]]:
    """Yield (key, path below the report's directory, content) of each file, one at a time: files can be large."""
    for machine, text in logs.items():
        yield f"log:{machine}", f"{LOG_DIRECTORY_NAME}/{build_log_file_name(machine)}", sanitize_log(text).encode()
    if "csv" in formats or "parquet" in formats:
        for name, row_type in ROW_TYPES.items():
            rows = getattr(tables, name)
            if "parquet" in formats:
                yield f"parquet.{name}", f"{name}.parquet", render_parquet(row_type, rows)
            if "csv" in formats:
                yield f"csv.{name}", f"{name}.csv", render_csv(row_type, rows)
    if "json" in formats:
        yield "json", "report.json", (line.encode() for line in render_json_lines(tables))
    if "html" in formats:
        sibling_formats = {*formats, *(("logs",) if logs else ())} - {"html"}
        page = render_html(report, logs=logs, now=now, sibling_formats=sibling_formats, tables=tables, rollout=rollout)
        yield "html", "report.html", page.encode()


def _write_file(path: Path, content: bytes | Iterator[bytes], *, durable: bool) -> None:
    """Write a file, mode 0600.

    ``durable`` waits until the data is on the disk. Logs are not durable: there may be a thousand, and the records have
    them too.
    """
    ensure_private_directory(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
