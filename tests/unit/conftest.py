"""What is slow to make is made once."""

import functools
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_finish() -> None:
    """Keep the collector from looking again and again through all that was imported: that is there to stay."""
    gc.freeze()


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of empty records to copy, since migrating one takes longer than most tests."""
    from tasks.records.opening import open_records

    path = tmp_path_factory.mktemp("records") / "records.db"
    open_records(f"sqlite:///{path}").close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing is left in a journal beside it
    return path


@pytest.fixture(scope="session")
def built_command() -> Iterator[None]:
    """Let the command's parser be built once, not at every call: a process has but one anyway."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield
