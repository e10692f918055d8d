"""A report that can't be written, of a run that the command started as a flow run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.prefect_server import QUIET_PREFECT_SETTINGS
from tests.contract.cli.conftest import Stage, fresh_consoles, security, stage
from tests.contract.cli.test_report_unwritten import assert_told, full_disk

__all__ = ["fresh_consoles", "full_disk", "stage"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these where they are missing; other tests do not find them."""
    for name, value in QUIET_PREFECT_SETTINGS.items():
        monkeypatch.setenv(name, value)


def test_a_patch_that_is_a_flow_run_is_done_and_ends_with_5(
    prefect_server: None, stage: Stage, tmp_path: Path, full_disk: Callable[[], None]
) -> None:
    web = stage.add("web", security("openssl"))
    full_disk()
    said = stage.run("patch", "*", "--yes", "--report", str(tmp_path / "reports"))
    assert_told(said, stage, 5)
    assert web.world["openssl"].installed == "2.0"
    assert "Succeeded" in said.out
