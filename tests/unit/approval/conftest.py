"""The scene of the approval's tests."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.approval_gate import LOOK_SECONDS, SLICE_SECONDS
from tasks.records.opening import open_records
from tests.unit.approval.scene import Scene


@pytest.fixture
def scene(tmp_path: Path, empty_records: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Records are looked at ten times more seldom than they really are: that is most of what these tests take."""
    monkeypatch.setattr("flows.approval_gate.SLICE_SECONDS", 10 * SLICE_SECONDS)
    monkeypatch.setattr("flows.approval_gate._LOOK", timedelta(seconds=10 * LOOK_SECONDS))
    shutil.copy(empty_records, tmp_path / "records.db")
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url) as records:
        yield Scene(records, url)
