"""The named faults on Windows machines of the tests, once."""

from pathlib import Path

import pytest

from tests.faults.windows_cases import CASES, play
from tests.support.local_powershell import require_pwsh


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_no_fault_on_a_windows_machine_breaks_a_promise(name: str, tmp_path: Path) -> None:
    require_pwsh()
    play(name, tmp_path)
