"""A report that can't be written: the run is done and recorded all the same, and the exit code says so."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Said, Stage, security


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the disk be full from then on, for whatever is a report's."""

    def fill() -> None:
        def no_room(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/reports")

        monkeypatch.setattr("tasks.reports.writer._write_file", no_room)

    return fill


def assert_told(said: Said, stage: Stage, code: int) -> None:
    assert said.code == code
    with open_records(stage.url) as records:
        (run,) = History(records).read_runs(9)
    assert f"error: the report of run {run.id} could not be written: " in said.err
    assert said.err.count("is full: ") == 1
    assert f"fleetpatch report {run.id} --to DIR" in said.err
    assert "Report: " not in said.err


def test_a_patch_is_done_and_ends_with_5(stage: Stage, tmp_path: Path, full_disk: Callable[[], None]) -> None:
    web = stage.add("web", security("openssl"))
    full_disk()
    said = stage.run("patch", "*", "--yes", "--no-prefect", "--report", str(tmp_path / "reports"))
    assert_told(said, stage, 5)
    assert web.world["openssl"].installed == "2.0"
    assert "Succeeded" in said.out


def test_an_assessment_is_kept_and_ends_with_5(stage: Stage, tmp_path: Path, full_disk: Callable[[], None]) -> None:
    stage.add("web", security("openssl"))
    full_disk()
    assert_told(stage.run("assess", "*", "--report", str(tmp_path / "reports")), stage, 5)
    assert "openssl" in stage.run("show", "last", "--machine", "web").out


def test_a_failed_machine_is_worse(stage: Stage, tmp_path: Path, full_disk: Callable[[], None]) -> None:
    stage.add("bad", security("openssl", fails="no"))
    full_disk()
    assert_told(stage.run("patch", "*", "--yes", "--no-prefect", "--report", str(tmp_path / "reports")), stage, 1)


def test_the_document_says_so_too(stage: Stage, tmp_path: Path, full_disk: Callable[[], None]) -> None:
    stage.add("web", security("openssl"))
    full_disk()
    said = stage.run("plan", "*", "--json", "--report", str(tmp_path / "reports"))
    assert said.code == said.json["exitCode"] == 5
    assert "is full: " in said.json["reportError"]
    assert [machine["machineName"] for machine in said.json["machines"]] == ["web"]


@pytest.mark.parametrize("verb", [("resume", "last"), ("reconcile",)], ids=["resume", "reconcile"])
def test_a_run_that_is_taken_up_ends_with_5(stage: Stage, verb: tuple[str, ...], full_disk: Callable[[], None]) -> None:
    web = stage.add("web", security("openssl"))
    stage.left_half_way()
    full_disk()
    said = stage.run(*verb, "--no-prefect")
    assert_told(said, stage, 5)
    assert web.world["openssl"].installed == "2.0"


def test_a_folder_that_is_in_the_way_when_the_run_has_ended(stage: Stage, tmp_path: Path) -> None:
    """A real fault: what was a folder when the run began is a file when its report is written."""
    web, reports = stage.add("web", security("openssl")), tmp_path / "reports"

    def take_away() -> None:
        reports.rmdir()
        reports.write_text("mine")

    web.on_start("install", 1, take_away)
    said = stage.run("patch", "*", "--yes", "--no-prefect", "--report", str(reports))
    assert said.code == 5
    assert "could not be written" in said.err
    assert "File exists" in said.err or "Not a directory" in said.err
    assert web.world["openssl"].installed == "2.0"
