"""The same script with the updaters of systems with RPM packages, and with those of a former release."""

from pathlib import Path

import pytest

from tasks.machines.managers.image.manager import ImageManager
from tasks.machines.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.machines.managers.rpm.system_state import YUM_CRON_UNIT, build_rpm_updaters_script
from tests.contract.systemd_machine import Machine, asked, build_machine, in_every_shell
from tests.support.boot import read_boot

DAILY = "apt-daily.timer"


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return build_machine(request, tmp_path)


@in_every_shell
@pytest.mark.parametrize("running", [False, True])
def test_a_service_that_others_start_is_masked_and_never_stopped_nor_started(machine: Machine, running: bool) -> None:
    machine.script = build_rpm_updaters_script("tasks.machines.managers.rpm.dnf")
    kit = machine.unit("packagekit.service", active="active" if running else "inactive", enabled="static")
    machine.unit("dnf-automatic.timer")
    told = [("paused", "dnf-automatic.timer"), ("paused", "packagekit.service")]
    assert machine.said("pause") == [*told, *([("running", "packagekit.service")] if running else [])]
    assert machine.said("pause")[:2] == told
    assert machine.masked("packagekit.service")
    (kit / "active").write_text("inactive\n")  # it has ended, as it was idle
    assert machine.said("restore") == [("back", "dnf-automatic.timer"), ("back", "packagekit.service")]
    assert not machine.masked("packagekit.service")
    assert not {"stop packagekit.service", "start packagekit.service"} & set(asked(machine))
    assert machine.active("dnf-automatic.timer") == "active"


@in_every_shell
def test_a_service_that_runs_no_program_rests_as_a_timer_does(machine: Machine) -> None:
    machine.script = build_rpm_updaters_script("tasks.machines.managers.rpm.yum")
    machine.unit(YUM_CRON_UNIT)
    assert machine.said("pause") == [("paused", YUM_CRON_UNIT)]
    assert (machine.masked(YUM_CRON_UNIT), machine.active(YUM_CRON_UNIT)) == (True, "inactive")
    machine.lock_ends()
    assert (machine.masked(YUM_CRON_UNIT), machine.active(YUM_CRON_UNIT)) == (False, "active")


@in_every_shell
def test_an_agent_rests_and_the_daemon_that_it_asks_goes_on(machine: Machine) -> None:
    script = ImageManager(RPM_OSTREE).updaters_script
    assert script is not None
    machine.script = script
    machine.unit("zincati.service")
    machine.unit("rpm-ostreed.service", enabled="static")
    machine.unit("rpm-ostreed-automatic.service", enabled="static")  # at work: told, and never stopped
    assert machine.said("pause") == [("paused", "zincati.service"), ("running", "rpm-ostreed-automatic.service")]
    assert (machine.masked("zincati.service"), machine.active("zincati.service")) == (True, "inactive")
    assert machine.said("restore") == [("back", "zincati.service")]
    assert (machine.masked("zincati.service"), machine.active("zincati.service")) == (False, "active")
    assert not any("rpm-ostreed" in line and "show" not in line for line in asked(machine))


def test_what_can_not_be_masked_is_told(machine: Machine) -> None:
    machine.script = build_rpm_updaters_script("tasks.machines.managers.rpm.dnf")
    (machine.unit("packagekit.service", active="inactive", enabled="static") / "stuck").touch()
    assert machine.said("pause") == [("failed", "packagekit.service")]


def test_another_name_of_a_timer_is_left_to_its_own_name(machine: Machine) -> None:
    machine.script = build_rpm_updaters_script("tasks.machines.managers.rpm.dnf")
    (machine.unit("dnf-automatic.timer") / "id").write_text("dnf5-automatic.timer\n")
    machine.unit("dnf5-automatic.timer")
    assert machine.said("pause") == [("paused", "dnf5-automatic.timer")]
    assert machine.said("restore") == [("back", "dnf5-automatic.timer")]


def test_what_a_former_release_had_rest_comes_back_though_its_list_was_another(machine: Machine) -> None:
    (machine.unit("old.timer", active="inactive") / "run").touch()
    boot = read_boot()
    machine.file.write_text(f"run\n{boot}\nold.timer active enabled\n")
    machine.unit(DAILY)
    assert machine.said("pause") == [("paused", DAILY), ("paused", "old.timer")]
    assert machine.said("restore") == [("back", DAILY), ("back", "old.timer")]
    assert machine.active("old.timer") == "active"
