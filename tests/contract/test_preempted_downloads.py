"""A run that only downloads gives its machine to a run that installs, by the machine's own scripts."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.errors import LockLost
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.transport import JobPhase, Script, ScriptParameter, ScriptRecord
from tasks.steps.jobs.job_result import EndedJob, build_job_result
from tests.contract.test_machine_lock_script import CLOCK, EXTRA, LATER, Machine, soon
from tests.contract.transport_subjects import scripts

DOWNLOAD = f"""{scripts("transactions")}
fetch() {{
  fp_transaction_started
  fp_while_in_time sleep 60
  if [ "$ended_for" = stop ]; then fp_not_attempted stop 'asked to stop'; else fp_transaction_ended 0 '' ''; fi
}}
fp_each_transaction fetch
"""
PARAMS: dict[str, ScriptParameter] = {"work": "stage", "numbers": ("0",), "tx_0_latest_start": LATER}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setitem(EXTRA, "download", DOWNLOAD)
    here = Machine(tmp_path)
    yield here
    here.stop()


def downloads(machine: Machine) -> None:
    """Let a run that only downloads begin to."""
    assert machine.take_lock("tomorrow", kind="stage")["kind"] == "locked"
    machine.start(run="tomorrow", what="download", until=LATER, more=PARAMS)


def patches(machine: Machine, run: str = "tonight") -> ScriptRecord:
    return machine.take_lock(run, preempts="stage")


def ended(machine: Machine) -> tuple[ScriptRecord, ...]:
    """Wait for the end of the job, and return its records."""
    while (seen := machine.shell.poll_job("one", deadline=soon())).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.02)
    return seen.events


def test_a_download_is_ended_for_a_run_that_installs_and_keeps_the_machine_until_then(machine: Machine) -> None:
    downloads(machine)

    answer = patches(machine)

    assert (answer["kind"], answer["run"], answer["job"], answer["ending"]) == ("taken", "tomorrow", "one", True)
    events = ended(machine)
    (left,) = [each for each in events if each["kind"] == "not_attempted"]
    assert (left["why"], left["detail"]) == ("preempted", "tonight (somebody)")
    result = build_job_result("one", EndedJob(JobPhase.FINISHED, 0, events, ""), [Transaction(0, (), 0, 0)], 0)
    assert result.refusals == ("its download was ended, because run tonight (somebody) took the machine over",)
    assert patches(machine)["kind"] == "locked"
    assert machine.start("two", "tonight", what="quick") is False


def test_a_download_whose_first_shell_was_killed_is_still_ended_when_it_is_asked_to_stop(machine: Machine) -> None:
    downloads(machine)
    while not machine.shell.poll_job("one", deadline=soon()).events:
        CLOCK.sleep(0.02)
    os.kill(int((machine.place / "jobs/one/meta").read_text().split()[0]), signal.SIGKILL)

    machine.stop()

    (left,) = [each for each in ended(machine) if each["kind"] == "not_attempted"]
    assert left["why"] == "stop"


def test_the_run_whose_download_was_ended_neither_repeats_it_nor_takes_the_machine_back(machine: Machine) -> None:
    downloads(machine)
    patches(machine)
    ended(machine)
    assert (
        machine.take_lock("tomorrow", attempt=2, kind="stage")["kind"] == "locked"
    )  # it is resumed before we ask again
    assert machine.start(run="tomorrow", attempt=2, what="download", more=PARAMS) is True
    assert machine.shell.poll_job("one", deadline=soon()).phase is JobPhase.FINISHED

    assert patches(machine)["preempted"] == "tomorrow"

    assert machine.start(run="tomorrow", attempt=2, what="download", more=PARAMS) is True
    assert machine.shell.poll_job("one", deadline=soon()).phase is JobPhase.FINISHED
    assert machine.take_lock("tomorrow", attempt=3, kind="stage")["kind"] == "taken"
    assert machine.take_lock("tomorrow", attempt=3, release="yes")["kind"] == "taken"
    assert machine.start("two", "tonight", what="quick") is False


def test_a_run_that_has_not_begun_its_download_begins_none_afterwards(machine: Machine) -> None:
    machine.take_lock("tomorrow", kind="stage")

    assert patches(machine)["preempted"] == "tomorrow"

    with pytest.raises(LockLost, match=r"run tomorrow no longer has .*: run tonight \(somebody\) has it") as caught:
        machine.start(run="tomorrow", what="download", more=PARAMS)
    assert caught.value.holder == "tonight"
    assert machine.shell.poll_job("one", deadline=soon()).phase is JobPhase.ABSENT


def test_a_dead_run_whose_download_has_ended_gives_its_machine_up_at_once(machine: Machine) -> None:
    machine.take_lock("tomorrow", kind="stage", until="5000000000")
    machine.start(run="tomorrow", what="quick", until=LATER)  # the order extends the lock, and keeps its kind
    ended(machine)
    assert patches(machine)["preempted"] == "tomorrow"


@pytest.mark.parametrize("kind", ["", "patch"])
def test_runs_that_install_still_refuse_each_other_and_each_others_downloads_go_on(machine: Machine, kind: str) -> None:
    machine.take_lock("first", kind=kind)
    assert patches(machine)["kind"] == "taken"
    machine.start(run="first", what="download", more=PARAMS)

    answer = patches(machine)

    assert (answer["kind"], answer["run"], answer["ending"]) == ("taken", "first", False)
    assert not (machine.place / "jobs/one/stop").exists()


def test_a_stop_by_a_person_keeps_the_reason_of_an_earlier_one(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = tmp_path / "goes-on"
    goes_on.touch()
    monkeypatch.setitem(EXTRA, "deaf", f"while [ -e '{goes_on}' ]; do sleep 0.05; done")
    machine.take_lock("tomorrow", kind="stage")
    machine.start(run="tomorrow", what="deaf")
    try:
        assert patches(machine)["ending"] is True
        machine.shell.run_script(Script("job_stop", {"id": "one"}), deadline=soon())
        assert (machine.place / "jobs/one/stop").read_text() == "tonight (somebody)\n"
    finally:
        goes_on.unlink()


def test_a_download_is_not_ended_for_another_download(machine: Machine) -> None:
    downloads(machine)
    answer = machine.take_lock("other", kind="stage", preempts="")
    assert (answer["kind"], answer["ending"]) == ("taken", False)
    assert not (machine.place / "jobs/one/stop").exists()


def test_a_lock_of_an_earlier_version_does_not_say_what_its_run_does_and_is_kept(machine: Machine) -> None:
    (machine.place / "machine-lock").write_text(f"run\n{LATER}\nsomebody\n1\n")
    assert patches(machine)["kind"] == "taken"


def test_only_the_job_of_the_run_that_has_the_lock_is_asked_to_stop(machine: Machine) -> None:
    machine.take_lock("first")
    machine.start(run="first", what="download", more=PARAMS)
    (machine.place / "machine-lock").write_text(f"tomorrow\n{LATER}\nsomebody\n1\nstage\n")

    answer = patches(machine)

    assert (answer["kind"], answer["job"], answer["ending"]) == ("taken", "one", False)
    assert not (machine.place / "jobs/one/stop").exists()


def test_a_request_of_the_runs_own_stays_one_without_another_run(machine: Machine) -> None:
    downloads(machine)
    machine.stop()
    (left,) = [each for each in ended(machine) if each["kind"] == "not_attempted"]
    assert (left["why"], left["detail"]) == ("stop", "asked to stop")
