"""How hard the property tests look: the default at every save, "ci" for every change, "thorough" before a release.

HYPOTHESIS_PROFILE names it. Tests whose examples are expensive take a share: ``settings().max_examples // 2``.
"""

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SPREAD = ("tests/lab/test_patch.py", "tests/lab/test_trouble.py", "tests/lab/test_apt.py", "tests/lab/test_ssh.py")
"""Files whose tests share nothing but the lab and take long: each may go to another process."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests are divided among processes, keep together what shares something that is dear to make."""
    for item in items:
        place = item.path.relative_to(item.config.rootpath).as_posix()
        if place.startswith("tests/flows/"):
            item.add_marker(pytest.mark.xdist_group("prefect"))  # one server for all of them
        elif place not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(place))


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
