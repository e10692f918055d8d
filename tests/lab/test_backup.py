"""A controller is lost in the middle of a run: from the backup of docs/how-to/backup.md, the run is resumed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.kill_and_resume import faults_of
from tests.lab.killing import Controllers, configured, hold, is_held, its_lease_is_over, let_go, wait_for
from tests.support.backup import BackupCommands

pytestmark = pytest.mark.slow


def test_a_lost_controller_is_restored_and_its_run_is_resumed(
    hosts: Callable[[int], list[LabHost]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    monkeypatch.setenv("FLEETPATCH_KEYS", str(data / "keys"))
    controllers = Controllers(Fleet(hosts(1), data))
    commands = BackupCommands(tmp_path, data)
    try:
        hold(controllers.fleet.hosts)  # it orders no reboot before it is lost
        first = controllers.patch()
        wait_for(lambda: is_held(controllers.fleet.hosts[0]), "the installation", 240)
        (data / "keys").mkdir(mode=0o700, exist_ok=True)
        commands.back_up()  # while the run writes
        run = controllers.newest().run.id
        first.kill()
        shutil.rmtree(data)
        let_go(controllers.fleet.hosts)

        commands.restore()
        assert controllers.newest().run.id == run
        its_lease_is_over(controllers)
        told = controllers.resume()
        assert told.code in (0, 3), told.err
        assert set(told.states.values()) <= {"Succeeded", "CompletedWithWarnings"}
        assert max(configured(controllers.fleet.hosts[0]).values()) == 1
        assert faults_of(controllers.fleet.hosts) == []
    finally:
        controllers.end()
