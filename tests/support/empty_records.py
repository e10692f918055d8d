"""A file of empty records, made once by each process."""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.records.setup import open_records


def make_empty_records() -> Path:
    """Return a file of empty records to copy, since migrating one takes longer than most tests."""
    return Path(_make_folder().name) / "records.db"


@functools.cache
def _make_folder() -> TemporaryDirectory[str]:
    """Return the folder with the file. It is removed with this process."""
    folder = TemporaryDirectory(prefix="fleetpatch-records-")
    open_records(f"sqlite:///{folder.name}/records.db").close()
    assert [file.name for file in Path(folder.name).iterdir()] == ["records.db"], "a journal beside it"
    return folder
