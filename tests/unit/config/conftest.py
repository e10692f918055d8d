"""What tests of configurations share."""

from pathlib import Path

import pytest

from tests.unit.config.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = tmp_path / "configurations"
    made.mkdir()
    return Folder(made)
