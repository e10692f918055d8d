"""What the contract tests of leases, of records under a lease, and of SSH are held against."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.machines.transport import tcp_connection
from tasks.records.sql_records import SqlRecords
from tests.contract.component_subjects import ShellSubject, open_shells
from tests.contract.records_subjects import BOTH, Place, opened, place_of
from tests.contract.ssh_world import World

pytest.register_assert_rewrite("tests.contract.manager_contract")


@pytest.fixture(params=["fake", *BOTH])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(tcp_connection, "RETRY_DELAYS_SECONDS", (0.02, 0.02))
    it = World(tmp_path)
    yield it
    it.close()


@pytest.fixture
def make_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ShellSubject]]:
    """Makes this machine one with a component of a kind."""
    with open_shells(tmp_path, monkeypatch) as make:
        yield make
