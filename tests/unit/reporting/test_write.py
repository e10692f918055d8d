import csv
import errno
import json
import os
import stat
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings

from tasks.domain.errors import ReportError
from tasks.domain.model import RunReport
from tasks.reports.data.rows import ROW_TYPES
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import build_document, render_json_lines
from tasks.reports.export.tabular_formats import build_frames, render_csv, render_parquet
from tasks.reports.report_directory import build_report_error
from tasks.reports.sanitizing import escape_formula
from tasks.reports.writer import FORMATS, write_report
from tests.unit.reporting import samples
from tests.unit.reporting.strategies import report


def test_everything_is_written_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    run, logs = samples.forty()
    written = write_report(run, tmp_path / "a" / "reports", logs)
    place = tmp_path / "a" / "reports" / "20261120-0100-7f3a"
    assert written["directory"] == place
    wanted = {"directory", "html", "json", "logs"}
    wanted |= {f"{kind}.{table}" for kind in ("csv", "parquet") for table in ROW_TYPES}
    assert set(written) == wanted
    for path in (tmp_path / "a").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert not path.name.endswith(".part")
    assert "\x1b" not in (place / "logs" / "web-15.log").read_text()
    assert "dpkg: error processing package" in (place / "logs" / "web-15.log").read_text()


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    written = write_report(samples.three()[0], tmp_path, formats=("json",))
    assert set(written) == {"directory", "json"}
    assert [path.name for path in written["directory"].iterdir()] == ["report.json"]
    with pytest.raises(ValueError, match="unknown report format pdf: choose from html, csv, parquet, json"):
        write_report(samples.three()[0], tmp_path, formats=("pdf",))


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    run, _ = samples.three()
    page = write_report(run, tmp_path, formats=("html",))["html"]
    page.write_text("old")
    assert write_report(run, tmp_path, formats=("html",))["html"] == page
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "..", "a\x00b", "\ud800", "x" * 400])
def test_no_run_id_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    from dataclasses import replace

    run, _ = samples.empty()
    place = write_report(replace(run, run=replace(run.run, id=name)), tmp_path, formats=("json",))["directory"]
    assert place.resolve().parent == tmp_path.resolve()


def test_a_full_disk_is_said_clearly_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, logs = samples.three()
    before = write_report(run, tmp_path, logs, formats=("json",))["json"].read_bytes()
    real = os.fsync

    def full(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match=r"is full: .+ are free now") as raised:
        write_report(run, tmp_path, logs, formats=FORMATS)
    assert "make room" in raised.value.hint
    assert str(tmp_path) in str(raised.value)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert [path.name for path in files] == ["report.json"]
    assert files[0].read_bytes() == before


def test_a_file_in_the_way_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    with pytest.raises(ReportError, match="can't be written") as raised:
        write_report(samples.empty()[0], tmp_path / "reports", formats=("json",))
    assert "choose another directory" in raised.value.hint


def test_a_place_that_a_unit_may_not_write_names_the_option_of_the_unit(tmp_path: Path) -> None:
    error = build_report_error(OSError(errno.EROFS, os.strerror(errno.EROFS), "/srv/reports"), tmp_path)
    assert "/srv/reports: the file system of /srv is read-only" in error.message
    assert "ReadWritePaths=" in error.hint


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("  =1", "'  =1"),
        ("\uff1d1", "'\uff1d1"),
        ("1.2-3+deb12u1", "1.2-3+deb12u1"),
        ("", ""),
        ("\x1b[31mred", "red"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_no_spreadsheet_runs_what_machines_say(value: str, safe: str) -> None:
    assert escape_formula(value) == safe


@settings(deadline=None, max_examples=settings().max_examples // 4)
@given(report())
def test_csv_and_parquet_hold_every_row(drawn: RunReport) -> None:
    import io

    tables = build_tables(drawn)
    for name, frame in build_frames(drawn).items():
        table = getattr(tables, name)
        rows = list(csv.reader(io.StringIO(b"".join(render_csv(ROW_TYPES[name], table)).decode(), newline="")))
        assert rows[0] == list(frame.columns)
        assert len(rows) == len(frame) + 1
        for row in rows[1:]:
            for column, value in zip(frame.columns, row, strict=True):
                if frame[column].dtype == "string":
                    assert not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        back = pd.read_parquet(io.BytesIO(render_parquet(ROW_TYPES[name], table)))
        pd.testing.assert_frame_equal(back, frame)


def test_files_of_long_tables_have_all_rows_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("tasks.reports.export.tabular_formats._CSV_ROWS", 7)
    monkeypatch.setattr("tasks.reports.export.tabular_formats._PARQUET_ROWS", 7)
    machines = build_tables(samples.forty()[0]).machines
    parts = list(render_csv(ROW_TYPES["machines"], machines))
    assert len(parts) == 6
    names = [row["machine"] for row in csv.DictReader(io.StringIO(b"".join(parts).decode(), newline=""))]
    assert names == [row.machine for row in machines]
    frame = pd.read_parquet(io.BytesIO(render_parquet(ROW_TYPES["machines"], machines)))
    assert frame["machine"].tolist() == names


def test_parquet_keeps_types_and_values() -> None:
    import io

    frame = build_frames(samples.forty()[0]).machines
    file = io.BytesIO(render_parquet(ROW_TYPES["machines"], build_tables(samples.forty()[0]).machines))
    pd.testing.assert_frame_equal(pd.read_parquet(file), frame)
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"


def test_csv_moments_are_iso_in_utc() -> None:
    text = b"".join(render_csv(ROW_TYPES["runs"], build_tables(samples.three()[0]).runs)).decode()
    (row,) = csv.DictReader(text.splitlines())
    assert row["window_start"] == "2026-11-20T01:00:00.000000Z"
    assert row["machines"] == "3"


@settings(deadline=None, max_examples=10)
@given(report())
def test_json_is_json_whatever_machines_say(drawn: RunReport) -> None:
    text = "".join(render_json_lines(build_tables(drawn)))
    assert text.isascii()
    assert json.loads(text) == json.loads(json.dumps(build_document(build_tables(drawn))))


def test_json_has_the_names_that_azure_gives_and_keeps_them() -> None:
    told = json.loads("".join(render_json_lines(build_tables(samples.forty()[0]))))
    assert list(told) == ["schema_version", "run", "waves", "hooks", "machines"]
    assert told["schema_version"] == 1
    assert told["run"]["machineCounts"] == {
        "total": 40, "succeeded": 17, "completedWithWarnings": 3, "failed": 6, "inProgress": 0, "notStarted": 14,
        "unknown": 0,
    }  # fmt: skip
    machine = next(m for m in told["machines"] if m["machineName"] == "web-15")
    assert set(machine) >= {
        "status", "rebootStatus", "maintenanceWindowExceeded", "installedPatchCount", "failedPatchCount",
        "setupFailedPatchCount", "blockedPatchCount", "pendingPatchCount",
        "excludedPatchCount", "notSelectedPatchCount", "notAttemptedPatchCount",
        "criticalAndSecurityPatchCount", "startDateTime", "lastModifiedDateTime", "patchServiceUsed", "errorDetails",
    }  # fmt: skip
    assert machine["status"] == "Failed"
    assert machine["errorDetails"]["code"] == "BrokenPackages"
    patch = next(p for p in machine["patches"] if p["patchName"] == "postgresql-15")
    assert patch["installationState"] == "Failed"
    assert patch["classifications"] == ["Security"]
    assert patch["rebootBehavior"] == "NeverReboots"
    assert patch["patchTitle"] is None
    assert set(patch) >= {"version", "kbId", "publishedDateTime", "rebootRequired", "reason", "versionBefore"}
