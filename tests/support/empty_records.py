"""A file of empty records, made once for all tests of a run."""

from pathlib import Path

from tasks.records.setup import open_records
from tests.support.made_once import make_once


def make_empty_records() -> Path:
    """Return a file of empty records to copy, since migrating one takes longer than most tests."""
    return make_once("empty-records", _make) / "records.db"


def _make(folder: Path) -> None:
    open_records(f"sqlite:///{folder}/records.db").close()
    assert [file.name for file in folder.iterdir()] == ["records.db"], "a journal beside it"
