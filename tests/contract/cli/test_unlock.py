"""unlock: the whole command, with real records, and the machine's own scripts in a folder of this machine."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Said, Stage
from tests.contract.test_machine_lock_script import CLOCK, LATER, PAST, Machine
from tests.support.builders import make_run

RUN = "20260310-010000-aaaaaa"
HOLDER = LeaseHolder("other", "hilltop", 4711, "anne")


@pytest.fixture
def machine(stage: Stage, tmp_path: Path) -> Iterator[Machine]:
    place = tmp_path / "machine"
    place.mkdir()
    here = Machine(place)
    stage.add("web")
    stage.fleet.machines["web"] = cast("Any", here.shell)
    stage.fleet.clock = cast("Any", CLOCK)
    yield here
    here.stop()


def unlock(stage: Stage, *words: str) -> Said:
    return stage.run("unlock", "web", *words)


def known(stage: Stage, run: str = RUN) -> None:
    """Let the records know a run that was left half-way."""
    with open_records(stage.url) as records:
        records.save(make_run(id=run, state=OperationState.IN_PROGRESS, ended_at=None))


def test_a_machine_without_a_lock_says_so(stage: Stage, machine: Machine) -> None:
    said = unlock(stage)
    assert (said.code, said.out) == (0, "web is not locked.\nNo job is running on it.\n")
    assert not (machine.place / "machine-lock").exists()
    assert unlock(stage, "--json").json["locked"] is False


def test_a_lock_is_shown_and_lifted_and_the_run_learns_who_did_it(
    stage: Stage, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.ports.caller.read_login_name", lambda: "olga")
    known(stage)
    machine.take_lock(RUN, until=LATER)

    said = unlock(stage, "--yes")

    assert said.code == 0
    assert f"web is locked by run {RUN} (somebody) until 2286-11-20 17:46" in said.out
    assert f"fleetpatch resume {RUN}" in said.out
    assert "The lock of web is removed." in said.err
    with pytest.raises(
        ScriptFailed, match=rf"run {RUN} no longer has the lock of this machine: it was removed by olga"
    ):
        machine.start(run=RUN)
    assert machine.take_lock("other")["kind"] == "locked"
    with open_records(stage.url) as records:
        noted = [entry for entry in History(records).read_journal(RUN) if entry.act == "unlock"]
    assert [entry.mark for entry in noted] == [JournalMark.BEFORE, JournalMark.AFTER]
    assert {(entry.machine, entry.detail["by"]) for entry in noted} == {("web", "olga")}


def test_a_run_that_is_taken_up_later_gets_the_machine_again(stage: Stage, machine: Machine) -> None:
    machine.take_lock(RUN)
    unlock(stage, "--yes")
    assert machine.take_lock(RUN, attempt=2)["kind"] == "locked"
    assert machine.start(run=RUN, attempt=2) is False


def test_a_lock_of_a_run_that_these_records_do_not_know_is_lifted_too(stage: Stage, machine: Machine) -> None:
    machine.take_lock("stranger")
    said = unlock(stage, "--yes", "--json")
    assert said.code == 0
    assert said.json["lifted"] is True
    assert (said.json["maintenanceRunId"], said.json["runStatus"], said.json["executed"]) == ("stranger", None, False)
    assert (machine.place / "machine-lock").read_text().splitlines()[1] == "0"


def test_while_a_job_runs_nothing_is_lifted(stage: Stage, machine: Machine) -> None:
    machine.take_lock(RUN)
    machine.start(run=RUN)
    before = (machine.place / "machine-lock").read_text()

    said = unlock(stage, "--yes")

    assert said.code == 5
    assert "Job one (endless) is running on it since" in said.out
    assert "the lock is not removed: job one is running" in said.err
    assert (machine.place / "machine-lock").read_text() == before
    assert unlock(stage, "--yes", "--json").json["error"]["kind"] == "ManagerBusy"


def test_the_lock_of_a_run_that_is_alive_is_not_lifted(stage: Stage, machine: Machine) -> None:
    known(stage)
    with open_records(stage.url) as records:
        records.leases.acquire(RUN, HOLDER, 600)
    machine.take_lock(RUN)
    before = (machine.place / "machine-lock").read_text()

    said = unlock(stage, "--yes")

    assert said.code == 5
    assert "running as anne on hilltop (pid 4711)" in said.out
    assert "lease" in said.err
    assert (machine.place / "machine-lock").read_text() == before


def test_without_a_terminal_nothing_is_lifted_unless_it_was_said(
    stage: Stage, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.take_lock(RUN)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = unlock(stage)
    assert said.code == 2
    assert "--yes" in said.err
    assert machine.take_lock("other")["kind"] == "taken"


@pytest.mark.parametrize(("answer", "lifted"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_a_person_is_asked(
    stage: Stage, machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, *, lifted: bool
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    machine.take_lock(RUN)

    said = unlock(stage)

    assert said.code == 0
    assert "Remove the lock of web? [y/N]" in said.err
    assert (machine.take_lock("other")["kind"] == "locked") is lifted


def test_a_lock_that_has_changed_since_it_was_shown_is_not_lifted(
    stage: Stage, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)

    def answer() -> str:
        machine.take_lock(RUN, attempt=2)  # somebody takes the run up while the person thinks
        return "y\n"

    monkeypatch.setattr(terminal, "readline", answer)
    monkeypatch.setattr("sys.stdin", terminal)
    machine.take_lock(RUN, attempt=1)

    said = unlock(stage)

    assert said.code == 2
    assert "the lock changed in the meantime, so it was not removed" in said.err
    assert machine.take_lock("other")["kind"] == "taken"


def test_a_lock_that_is_over_is_told_as_such(stage: Stage, machine: Machine) -> None:
    machine.take_lock(RUN, until=PAST)
    said = unlock(stage, "--yes")
    assert "until 2001-09-09 01:46:40 UTC. The lock has expired." in said.out
    assert unlock(stage, "--json").json["locked"] is False


def test_a_machine_that_the_inventory_does_not_have(stage: Stage, machine: Machine) -> None:
    said = stage.run("unlock", "w*", "--yes")
    assert said.code == 2
    assert "the inventory has no machine 'w*'" in said.err


def test_where_the_journal_can_not_be_written_nothing_is_lifted(stage: Stage, machine: Machine) -> None:
    known(stage)
    machine.take_lock(RUN)
    stage.life.dies_at = stage.life.calls + 2
    before = (machine.place / "machine-lock").read_text()
    said = unlock(stage, "--yes")
    assert said.code != 0
    assert (machine.place / "machine-lock").read_text() == before
