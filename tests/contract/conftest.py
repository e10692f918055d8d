"""What the contract tests of leases, and of records under a lease, are held against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.records.sql import SqlRecords
from tests.contract.records_subjects import BOTH, Place, opened, place_of


@pytest.fixture(params=["fake", *BOTH])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as made:
        yield made
