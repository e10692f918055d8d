"""The script that switches a system's own updaters for good, by this machine's own shells."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script
from tests.contract.systemd_machine import Machine, asked, build_machine, in_every_shell

DAILY, UPGRADE = "apt-daily.timer", "apt-daily-upgrade.timer"
TEXT = '// ours\nAPT::Periodic::Unattended-Upgrade "0";\n'


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    made = build_machine(request, tmp_path)
    made.script = Script("switch_updaters", {}, package="tasks.machines.managers.apt")
    return made


def give(machine: Machine, **params: str | tuple[str, ...]) -> None:
    machine.script = replace(machine.script, params=params)


@in_every_shell
def test_it_looks_at_units_and_changes_nothing(machine: Machine) -> None:
    machine.unit(DAILY)
    (machine.unit(UPGRADE, active="inactive") / "etc").touch()
    give(machine, units=(DAILY, UPGRADE, "no.timer"), program="sh")
    program, *units = machine.told("look")
    assert (program["name"], program["present"]) == ("sh", True)
    assert [(unit["name"], unit["load"], unit["active"]) for unit in units] == [
        (DAILY, "loaded", "active"),
        (UPGRADE, "masked", "inactive"),
        ("no.timer", "not-found", "inactive"),
    ]
    assert {line.partition(" ")[0] for line in asked(machine)} == {"show"}


@in_every_shell
def test_a_file_is_written_and_units_are_switched(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.unit(UPGRADE, active="inactive", enabled="disabled")
    file = machine.place / "conf.d" / "zz-fleetpatch"
    give(machine, enable=(UPGRADE,), disable=(DAILY,), file=str(file), text=TEXT)
    assert [record["kind"] for record in machine.told("switch")] == ["switched"] * 3
    assert (file.read_text(), file.stat().st_mode & 0o777) == (TEXT, 0o644)
    assert (machine.active(DAILY), machine.active(UPGRADE)) == ("inactive", "active")
    assert list(file.parent.iterdir()) == [file]
    assert not any("service" in line for line in asked(machine))
    assert [record["kind"] for record in machine.told("switch")] == ["switched"] * 3


def test_without_the_lock_nothing_is_switched(machine: Machine) -> None:
    machine.unit(DAILY)
    give(machine, disable=(DAILY,))
    (refused,) = machine.told("switch", run="other")
    assert refused["kind"] == "refused"
    assert machine.active(DAILY) == "active"


def test_a_step_that_fails_is_told_and_the_others_are_done(machine: Machine) -> None:
    (machine.unit(DAILY) / "stuck").touch()
    machine.unit(UPGRADE)
    give(machine, disable=(DAILY, UPGRADE))
    failed, done = machine.told("switch")
    assert (failed["kind"], failed["step"]) == ("failed", f"systemctl disable --now {DAILY}")
    assert "no, says" in str(failed["why"])
    assert (done["kind"], machine.active(UPGRADE)) == ("switched", "inactive")


@pytest.mark.parametrize("gone", [True, False])
def test_a_machine_without_systemd_says_so(machine: Machine, gone: bool) -> None:
    if gone:
        (machine.units / "gone").touch()
    give(machine, units=(DAILY,) if gone else ())
    records = machine.told("look")
    assert [record["kind"] for record in records] == (["nothing"] if gone else [])
