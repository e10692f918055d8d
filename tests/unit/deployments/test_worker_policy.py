"""The worker of `fleetpatch deploy --serve` gives its runs the policy of the configurations that were deployed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from deployments.worker import worker_process


def test_runs_find_the_policy_wherever_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, str] = {}

    def remember(command: Sequence[str], environment: Mapping[str, str]) -> int:
        assert command
        found.update(environment)
        return 0

    monkeypatch.setattr(worker_process, "supervise_worker", remember)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", "elsewhere")
    monkeypatch.setenv("FLEETPATCH_POLICY", "policy.yaml")
    assert worker_process.run_worker("pool", tmp_path / "fleet.yaml", Path("configurations")) == 0
    assert found["FLEETPATCH_CONFIGURATIONS"] == str(tmp_path / "configurations")
    assert found["FLEETPATCH_POLICY"] == str(tmp_path / "policy.yaml")
