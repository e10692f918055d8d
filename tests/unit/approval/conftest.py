"""The scene of the approval's tests."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.approval.gate import RECORDS_POLL_SECONDS, STOP_POLL_SECONDS
from tasks.records.setup import open_records
from tests.unit.approval.scene import Scene


@pytest.fixture
def scene(tmp_path: Path, empty_records: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Records are looked at ten times more seldom than they really are: that is most of what these tests take."""
    monkeypatch.setattr("flows.approval.gate.STOP_POLL_SECONDS", 10 * STOP_POLL_SECONDS)
    monkeypatch.setattr("flows.approval.gate._RECORDS_POLL_INTERVAL", timedelta(seconds=10 * RECORDS_POLL_SECONDS))
    # These records need not survive a power cut, so a commit does not wait for the disk.
    monkeypatch.setattr("tasks.records.storage.database.SQLITE_SYNCHRONOUS", "OFF")
    shutil.copy(empty_records, tmp_path / "records.db")
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url) as records:
        yield Scene(records, url)
