"""The script that has a system's own updaters rest, by this machine's own shells, over a systemd that is made of files.

Tests that go through the script's parts run in every shell; what is special about one situation, in one of them.
"""

import re
import time
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK
from tasks.steps.machine.facts import read_facts
from tests.contract.systemd_machine import Machine, asked, build_machine, in_every_shell
from tests.support.boot import read_boot

DAILY, UPGRADE = "apt-daily.timer", "apt-daily-upgrade.timer"


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return build_machine(request, tmp_path)


@in_every_shell
def test_what_is_active_rests_and_is_brought_back(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.unit(UPGRADE)
    assert machine.said("pause") == [("paused", DAILY), ("paused", UPGRADE)]
    assert machine.masked(DAILY)
    assert machine.masked(UPGRADE)
    assert machine.active(UPGRADE) == "inactive"
    boot = read_boot()
    assert machine.file.read_text().split() == ["run", boot, DAILY, "active", "enabled", UPGRADE, "active", "enabled"]
    assert machine.file.stat().st_mode & 0o777 == 0o600

    assert machine.said("restore") == [("back", DAILY), ("back", UPGRADE)]
    assert (machine.masked(DAILY), machine.active(DAILY)) == (False, "active")
    assert (machine.masked(UPGRADE), machine.active(UPGRADE)) == (False, "active")
    assert not machine.file.exists()


@in_every_shell
def test_only_what_would_act_is_touched_and_each_is_as_it_was_before(machine: Machine) -> None:
    machine.unit(DAILY, active="inactive", enabled="enabled")
    machine.unit(UPGRADE, active="inactive", enabled="disabled")
    assert machine.said("pause") == [("paused", DAILY)]
    assert not machine.masked(UPGRADE)
    assert machine.said("restore") == [("back", DAILY)]
    assert machine.active(DAILY) == "inactive"


@in_every_shell
def test_what_its_owner_had_masked_stays_masked(machine: Machine) -> None:
    (machine.unit(DAILY, active="inactive") / "etc").touch()
    machine.unit(UPGRADE)
    (machine.unit("other.timer") / "run").touch()
    assert machine.said("pause") == [("left", DAILY), ("paused", UPGRADE)]
    assert machine.said("restore") == [("back", UPGRADE)]
    assert (machine.units / DAILY / "etc").exists()
    assert machine.active(DAILY) == "inactive"
    assert not any(DAILY in line and "show" not in line for line in asked(machine))


def test_a_mask_at_runtime_that_is_not_ours_stays(machine: Machine) -> None:
    (machine.unit(DAILY, active="inactive") / "run").touch()
    assert machine.said("pause") == [("left", DAILY), ("nothing", "none of its own updaters is switched on")]
    assert machine.said("restore")[0][0] == "nothing"
    assert machine.masked(DAILY)


def test_what_its_owner_masks_meanwhile_stays_masked(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.said("pause")
    (daily / "etc").touch()
    assert machine.said("restore") == [("left", DAILY)]
    assert machine.active(DAILY) == "inactive"
    assert not machine.file.exists()


@in_every_shell
def test_a_service_at_work_is_told_of_and_never_touched(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.unit("apt-daily.service", active="activating", enabled="static")
    assert machine.said("pause") == [("paused", DAILY), ("running", "apt-daily.service")]
    machine.said("restore")
    assert not any("daily.service" in line and not line.startswith("show") for line in asked(machine))
    assert not any("unattended" in line for line in asked(machine))


@in_every_shell
@pytest.mark.parametrize("nothing", ["no systemd", "no timers"])
def test_where_there_is_nothing_to_pause_it_says_so(machine: Machine, nothing: str) -> None:
    if nothing == "no systemd":
        (machine.units / "gone").touch()
    ((kind, why),) = machine.said("pause")
    assert kind == "nothing"
    assert "switched on" in str(why) if nothing == "no timers" else "systemd" in str(why)
    assert not machine.file.exists()


def test_asked_twice_it_is_done_once(machine: Machine) -> None:
    machine.unit(DAILY)
    assert machine.said("pause") == machine.said("pause") == [("paused", DAILY)]
    assert machine.said("restore") == [("back", DAILY)]
    assert machine.said("restore") == [("nothing", "this run has none rest here")]
    assert machine.active(DAILY) == "active"


@in_every_shell
def test_after_a_reboot_nothing_is_undone_twice(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.said("pause")
    machine.file.write_text(machine.file.read_text().replace(machine.file.read_text().split()[1], "another-boot"))
    (daily / "run").unlink()
    (daily / "active").write_text("inactive\n")  # as its owner wants it by now
    (told,) = machine.told("restore")
    assert (told["kind"], told["how"]) == ("back", "a reboot has brought it back")
    assert machine.active(DAILY) == "inactive"
    assert not machine.file.exists()


@in_every_shell
def test_after_a_reboot_they_are_paused_anew(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.unit(UPGRADE, active="inactive", enabled="disabled")
    machine.file.write_text(f"run\nanother-boot\n{DAILY} inactive\n{UPGRADE} active\n")
    assert machine.said("pause") == [("paused", DAILY)]
    machine.said("restore")
    assert (daily / "active").read_text() == "active\n"


@in_every_shell
def test_what_a_run_that_never_came_back_has_left_is_brought_back_by_the_next(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause")
    machine.take_lock("next")
    assert machine.said("pause", "next") == [("paused", DAILY)]
    assert machine.said("restore", "run") == [("nothing", "this run has none rest here")]
    assert machine.said("restore", "next") == [("back", DAILY)]
    assert machine.active(DAILY) == "active"


def test_cut_short_before_or_while_it_was_brought_back_it_is_finished(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.said("pause")
    (daily / "run").unlink()  # unmasked, and not started yet
    assert machine.said("restore") == [("back", DAILY)]
    assert machine.active(DAILY) == "active"


@pytest.mark.parametrize(("run", "attempt", "until"), [("other", 1, 9999999999), ("run", 2, 9999999999), ("run", 1, 0)])
def test_an_order_of_a_run_or_an_attempt_without_the_lock_is_refused(
    machine: Machine, run: str, attempt: int, until: int
) -> None:
    machine.unit(DAILY)
    machine.take_lock(run, attempt, until)
    assert machine.said("pause")[0][0] == "refused"
    assert not machine.masked(DAILY)
    assert not machine.file.exists()


@in_every_shell
def test_a_later_attempt_makes_earlier_ones_void(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause", attempt=1)
    assert machine.said("restore", attempt=2) == [("back", DAILY)]
    assert machine.said("pause", attempt=1)[0][0] == "refused"
    assert machine.active(DAILY) == "active"


def test_an_earlier_attempt_does_not_bring_back_what_a_later_one_needs_at_rest(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause", attempt=2)
    assert machine.said("restore", attempt=1)[0][0] == "refused"
    assert machine.masked(DAILY)


def test_they_are_brought_back_when_the_lock_is_over(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause")
    machine.take_lock("other")
    assert machine.said("restore") == [("back", DAILY)]


@in_every_shell
def test_what_fails_is_told_and_remembered(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.unit(UPGRADE)
    (daily / "stuck").touch()
    first, second = machine.told("pause")
    assert (first["kind"], first["unit"]) == ("failed", DAILY)
    assert "no, says apt-daily.timer" in str(first["why"])
    assert second["kind"] == "paused"
    assert machine.said("restore") == [("failed", DAILY), ("back", UPGRADE)]
    (daily / "stuck").unlink()
    assert machine.said("restore")[0] == ("back", DAILY)
    assert not machine.file.exists()


def test_of_what_systemd_does_not_answer_nothing_is_told_that_it_said_of_another_unit(machine: Machine) -> None:
    machine.unit(DAILY)
    upgrade = machine.unit(UPGRADE)
    for name in ("busy", "stuck"):
        (upgrade / name).touch()
    machine.unit("apt-daily.service", active="activating", enabled="static")
    assert machine.said("pause") == [("paused", DAILY), ("failed", UPGRADE), ("running", "apt-daily.service")]


def test_what_systemd_does_not_answer_of_is_brought_back_later(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.said("pause")
    (daily / "busy").touch()
    (told,) = machine.told("restore")
    assert (told["kind"], "Connection timed out" in str(told["why"])) == ("failed", True)
    assert machine.file.exists()
    for name in ("busy", "reloading"):
        (daily / name).unlink()
    assert machine.said("restore") == [("back", DAILY)]
    assert machine.active(DAILY) == "active"


@in_every_shell
def test_what_can_not_be_remembered_is_not_paused(machine: Machine) -> None:
    machine.unit(DAILY)
    (machine.place / "updaters.new").mkdir()
    ((kind, why),) = machine.said("pause")
    assert kind == "refused"
    assert "cannot write" in str(why)
    assert not machine.masked(DAILY)


@in_every_shell
def test_when_the_lock_ends_the_machine_brings_them_back_by_itself(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.unit(UPGRADE, active="inactive")
    machine.take_lock("run", until=int(time.time()) + 1000)
    machine.said("pause")
    assert machine.armed
    (left,) = re.findall(r"--on-active=(\d+) ", (machine.place / "armed").read_text())
    assert 980 <= int(left) <= 1000

    machine.lock_ends()

    assert (machine.masked(DAILY), machine.active(DAILY)) == (False, "active")
    assert (machine.masked(UPGRADE), machine.active(UPGRADE)) == (False, "inactive")
    assert not machine.file.exists()
    assert machine.said("restore") == [("nothing", "this run has none rest here")]


def test_the_machine_waits_for_the_end_of_the_lock_that_the_order_has_extended(machine: Machine) -> None:
    machine.unit(DAILY)
    now = int(time.time())
    machine.take_lock("run", until=now + 1000)
    machine.told("pause", until=now + 5000)
    assert (machine.place / "machine-lock").read_text().split()[1] == str(now + 5000)
    (left,) = re.findall(r"--on-active=(\d+) ", (machine.place / "armed").read_text())
    assert 4900 <= int(left) <= 5000


def test_what_a_run_has_brought_back_needs_the_machines_timer_no_more(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause")
    machine.said("restore")
    assert not machine.armed


def test_the_timer_of_a_run_leaves_alone_what_another_one_has_rest_by_now(machine: Machine) -> None:
    machine.unit(DAILY)
    machine.said("pause")
    first = (machine.place / "timer").read_text()
    machine.take_lock("next")
    machine.said("pause", "next")
    (machine.place / "timer").write_text(first)
    machine.lock_ends()
    assert machine.masked(DAILY)


def overdue(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the machine's facts say of a pause."""
    clock, way = SystemClock(), PrivilegeEscalator(PrivilegeMethod.NONE)
    shell = PosixShell(
        LocalShellChannel(clock), machine="here", privilege=way, clock=clock, job_root=str(machine.place / "jobs")
    )
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{machine.place}:/usr/bin:/bin")
        facts = read_facts(shell, clock, Deadline.after(clock, 60))
    return [finding.message for finding in facts.findings if finding.check == AUTO_UPDATER_CHECK]


def test_a_pause_that_has_outlived_its_lock_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer's service could not be run, or could not write: nobody else would ever say so."""
    (machine.place / "journalctl").write_text("#!/bin/sh\necho 'updaters.sh: 33: Read-only file system'\n")
    (machine.place / "journalctl").chmod(0o755)
    machine.unit(DAILY)
    assert overdue(machine, monkeypatch) == []
    machine.said("pause")
    assert overdue(machine, monkeypatch) == []
    told = "run run has paused the system's own updaters, and they did not come back when its lock ended: "
    told += "updaters.sh: 33: Read-only file system "
    machine.take_lock("run", until=int(time.time()) - 400)
    assert overdue(machine, monkeypatch) == [told]
    machine.take_lock("run", until=0)
    assert overdue(machine, monkeypatch) == [told]
    machine.take_lock("another")
    assert overdue(machine, monkeypatch) == [told]
    machine.file.write_text(machine.file.read_text().replace(read_boot(), "an earlier boot"))
    assert overdue(machine, monkeypatch) == []


@in_every_shell
def test_the_timer_is_told_when_it_can_not_be_had(machine: Machine) -> None:
    machine.unit(DAILY)
    (machine.place / "no-timers").touch()
    assert machine.said("pause") == [("untimed", "Unknown option"), ("paused", DAILY)]
    assert machine.said("restore") == [("back", DAILY)]


@in_every_shell
@pytest.mark.parametrize("how", ["restore", "lock ends", "torn note"])
def test_what_its_owner_disables_meanwhile_is_not_started(machine: Machine, how: str) -> None:
    daily = machine.unit(DAILY)
    machine.said("pause")
    (daily / "enabled").write_text("disabled\n")
    if how == "torn note":
        machine.file.write_text(machine.file.read_text().replace("active enabled", "active"))
    if how == "lock ends":
        machine.lock_ends()
    else:
        assert machine.said("restore") == [("left", DAILY)]
    assert (machine.masked(DAILY), machine.active(DAILY)) == (False, "inactive")
    assert not machine.file.exists()


def test_what_was_started_by_hand_and_is_not_enabled_is_as_it_was(machine: Machine) -> None:
    machine.unit(DAILY, enabled="disabled")
    machine.said("pause")
    assert machine.said("restore") == [("back", DAILY)]
    assert machine.active(DAILY) == "active"


def test_a_note_that_is_out_of_date_starts_nothing_that_its_owner_has_disabled(machine: Machine) -> None:
    daily = machine.unit(DAILY)
    machine.unit(UPGRADE)
    machine.said("pause")
    (daily / "run").unlink()  # by its owner, who took it back and switched it off
    (daily / "enabled").write_text("disabled\n")
    machine.take_lock("next")
    assert machine.said("pause", "next") == [("paused", UPGRADE)]
    assert machine.said("restore", "next") == [("back", UPGRADE)]
    assert machine.active(DAILY) == "inactive"
