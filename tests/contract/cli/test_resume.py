"""resume, cancel, reconcile, and what other verbs say of runs that were left, over a simulated fleet."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from flows.engine.interruption import record_suspension
from flows.engine.resume_state import parse_recorded_request
from flows.execution import execute_run
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.recovery import unpublished_ends
from flows.recovery.unfinished_runs import wait_for_lease_expiry
from flows.request import RunRequest
from flows.request.request_parts import NotifyRequest
from tasks.domain.errors import SealBroken
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import PUBLISH_ACT, JournalMark
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Stage, security
from tests.support.fake_packages import FakePackage

SOMEBODY = LeaseHolder("other", "hilltop", 4711, "anne")


def two(stage: Stage) -> None:
    """Two machines, in two waves."""
    stage.add("first", security("openssl", seconds=20))
    stage.add("second", security("openssl", seconds=20))


def left(stage: Stage) -> str:
    two(stage)
    run = stage.left_half_way("--wave-size", "1", dies_at=52)
    assert stage.fleet.machines["first"].installs()
    assert not stage.fleet.machines["second"].installs()
    return run


def test_resume_goes_on_where_the_run_was_left(stage: Stage) -> None:
    run = left(stage)
    said = stage.run("resume", run, "--no-prefect", "--json")
    assert said.code == 0, said.err
    assert said.json["run"]["maintenanceRunId"] == run
    assert {row["machineName"]: row["status"] for row in said.json["machines"]} == dict.fromkeys(
        ("first", "second"), "Succeeded"
    )
    for machine in stage.fleet.machines.values():
        assert len(machine.installs()) == 1
        assert machine.world["openssl"].installed == "2.0"
    assert Path(said.json["reportFiles"]["html"]).exists()


def test_finalize_begins_nothing_more_and_records_the_result(stage: Stage) -> None:
    run = left(stage)
    begun = {name for name, machine in stage.fleet.machines.items() if machine.installs()}
    said = stage.run("resume", run, "--finalize", "--no-prefect", "--json")
    assert said.code == 130  # a person's stop kept "second" from beginning
    assert said.json["run"]["status"] == "Cancelled"
    rows = {row["machineName"]: row for row in said.json["machines"]}
    assert begun == {name for name, machine in stage.fleet.machines.items() if machine.installs()}
    assert rows["second"]["status"] == "NotStarted"
    assert "resumed with --finalize" in rows["second"]["reason"]


def test_reconcile_publishes_an_end_that_nobody_was_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    two(stage)
    monkeypatch.setattr(unpublished_ends, "_RECENT", timedelta(days=36500))  # the fleet has a time of its own
    done = stage.run("patch", "*", "--no-prefect", "--yes", "--json").json
    run, report = done["run"]["maintenanceRunId"], Path(done["reportFiles"]["json"])
    assert stage.run("reconcile", "--no-prefect", "--json").json["publishedEnds"] == []
    with open_records(stage.url) as records, records.database.begin_write("die before it was published") as connection:
        connection.execute(delete(schema.journal).where(schema.journal.c.document.contains(f'"{PUBLISH_ACT}"')))
    report.unlink()
    target = NotifyRequest(to="env:CHAT_URL", on=["failed"])
    monkeypatch.setattr(
        unpublished_ends,
        "parse_recorded_request",
        lambda run: parse_recorded_request(run).model_copy(update={"notify": [target]}),
    )

    said = stage.run("reconcile", "--no-prefect", "--json")  # not every machine has the secrets of a worker

    assert (said.code, said.json["publishedEnds"]) == (3, [])
    assert f"run {run}: its end was not published: " in said.err
    assert "CHAT_URL" in said.err
    assert not report.exists()
    monkeypatch.setenv("CHAT_URL", "json://127.0.0.1:9")

    said = stage.run("reconcile", "--no-prefect", "--json")

    assert (said.code, said.json["publishedEnds"]) == (0, [run])
    assert f"run {run}: its end was published" in said.err
    assert report.exists()
    assert stage.run("reconcile", "--no-prefect", "--json").json["publishedEnds"] == []


def test_a_run_that_can_not_be_read_does_not_keep_other_ends_from_people(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    two(stage)
    monkeypatch.setattr(unpublished_ends, "_RECENT", timedelta(days=36500))
    runs = [stage.run("patch", "*", "--no-prefect", "--yes", "--json").json["run"]["maintenanceRunId"] for _ in "123"]
    with open_records(stage.url) as records, records.database.begin_write("die before it was published") as connection:
        connection.execute(delete(schema.journal).where(schema.journal.c.document.contains(f'"{PUBLISH_ACT}"')))

    def parse_if_whole(run: RunInfo) -> RunRequest:
        if run.id == runs[1]:
            raise SealBroken("the row of the run was changed")
        if run.id == runs[2]:
            raise LeaseHeld(run.id, holder=SOMEBODY, until=run.started_at)
        return parse_recorded_request(run)

    monkeypatch.setattr(unpublished_ends, "parse_recorded_request", parse_if_whole)

    said = stage.run("reconcile", "--no-prefect", "--json")

    assert (said.code, said.json["publishedEnds"]) == (3, [runs[0]])
    assert f"run {runs[1]}: its end was not published: the row of the run was changed" in said.err
    assert runs[2] not in said.err  # another process publishes it


@pytest.mark.parametrize("verb", ["resume", "cancel"])
def test_a_run_that_is_over_is_told_so(stage: Stage, verb: str) -> None:
    two(stage)
    stage.run("patch", "*", "--no-prefect", "--yes")
    said = stage.run(verb, "last", *(["--no-prefect"] if verb == "resume" else []))
    assert said.code == 2
    assert "over" in said.err


def test_a_run_that_only_looked_can_neither_be_resumed_nor_cancelled(stage: Stage) -> None:
    two(stage)
    stage.run("assess")
    assert "only looked" in stage.run("resume", "last", "--no-prefect").err
    assert "only looks" in stage.run("cancel", "last").err


def test_whoever_lives_keeps_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = left(stage)
    with open_records(stage.url) as records:
        leases = records.leases
        leases.acquire(run, SOMEBODY, 60)
        slept = stage.fleet.clock.sleep

        def renewed(seconds: float) -> None:
            leases.renew(run, SOMEBODY, 60)
            slept(seconds)

        monkeypatch.setattr(stage.fleet.clock, "sleep", renewed)
        said = stage.run("resume", run, "--no-prefect", "--json")
    assert said.code == 5
    assert said.json["error"]["kind"] == "LeaseHeld"
    assert "anne on hilltop (pid 4711)" in said.json["error"]["message"]
    assert "waiting until its lease expires" in said.err


def test_a_lease_of_a_process_that_died_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = left(stage)
    with open_records(stage.url) as records:
        leases = records.leases
        leases.acquire(run, SOMEBODY, 3600)
        waits = []

        def ends(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 5:
                leases.release(run, SOMEBODY)

        monkeypatch.setattr(stage.fleet.clock, "sleep", ends)
        wait_for_lease_expiry(leases, run, clock=stage.fleet.clock)
    assert len(waits) == 5


def test_cancel_asks_the_run_that_somebody_carries(stage: Stage) -> None:
    run = left(stage)
    with open_records(stage.url) as records:
        records.leases.acquire(run, SOMEBODY, 60)
        said = stage.run("cancel", run, "--reason", "the wrong fleet")
        asked = records.leases.renew(run, SOMEBODY, 60).stop
    assert said.code == 0
    assert "anne on hilltop" in said.out
    assert asked is not None
    assert asked.reason == "the wrong fleet"
    listed = stage.run("runs").out
    assert "asked to stop: the wrong fleet" in " ".join(listed.split())


def test_cancel_of_a_run_that_nobody_carries_names_the_way(stage: Stage) -> None:
    run = left(stage)
    said = stage.run("cancel", run)
    assert said.code == 0
    assert f"fleetpatch resume {run} --finalize" in said.out
    document = stage.run("cancel", run, "--json").json
    assert (document["executed"], document["stopReason"]) == (False, "cancelled")


def test_cancel_and_wait_settles_a_run_that_nobody_carries(stage: Stage) -> None:
    run = left(stage)
    said = stage.run("cancel", run, "--reason", "the wrong fleet", "--wait", "--json")
    rows = {row["machineName"]: row for row in said.json["machines"]}
    assert "the wrong fleet" in rows["second"]["reason"]
    assert said.code == 130
    assert said.json["run"]["status"] == "Cancelled"
    assert " UTC: the wrong fleet. Left undone: " in said.json["run"]["message"]
    assert stage.run("resume", run, "--no-prefect").code == 2


def test_a_request_to_stop_stands_for_whoever_resumes(stage: Stage) -> None:
    run = left(stage)
    stage.run("cancel", run, "--reason", "the wrong fleet")
    begun = {name for name, machine in stage.fleet.machines.items() if machine.installs()}
    said = stage.run("resume", run, "--no-prefect", "--json")
    assert begun == {name for name, machine in stage.fleet.machines.items() if machine.installs()}
    assert "the wrong fleet" in said.out


def test_there_is_no_now_and_it_says_why(stage: Stage) -> None:
    run = left(stage)
    said = stage.run("cancel", run, "--now")
    assert said.code == 2
    assert "half patched" in said.err


def test_reconcile_resumes_while_the_window_is_open(stage: Stage) -> None:
    run = left(stage)
    looked = stage.run("reconcile", "--dry-run", "--json").json["runs"]
    assert [(each["maintenanceRunId"], each["action"]) for each in looked] == [(run, "resume")]
    assert "resumed" in stage.run("reconcile", "--dry-run").out
    said = stage.run("reconcile", "--no-prefect", "--json")
    assert said.code == 0, said.err
    assert [each["status"] for each in said.json["runs"]] == ["Succeeded"]
    assert stage.fleet.machines["second"].world["openssl"].installed == "2.0"
    assert "No run is abandoned" in stage.run("reconcile").out


def test_reconcile_settles_when_the_window_is_over(stage: Stage) -> None:
    left(stage)
    stage.fleet.clock.advance(timedelta(hours=24).total_seconds())
    said = stage.run("reconcile", "--no-prefect", "--json")
    (told,) = said.json["runs"]
    assert told["action"] == "finalize"
    assert "window was over" in told["reason"]
    assert stage.fleet.machines["second"].installs() == []


def test_reconcile_goes_on_after_a_run_that_can_not_be_taken_up(stage: Stage) -> None:
    first = left(stage)
    with open_records(stage.url) as records:
        run = History(records).find_run(first)
        bad = replace(run, id="20250101-000000-bad", request={"scope": 1}, started_at=run.started_at)
        records.save(bad)
    said = stage.run("reconcile", "--no-prefect", "--json")
    told = {each["maintenanceRunId"]: each for each in said.json["runs"]}
    assert told["20250101-000000-bad"]["error"]["kind"] == "RequestError"
    assert told[first]["status"] == "Succeeded"
    assert said.code == 2


def test_reconcile_takes_up_all_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = left(stage)
    with open_records(stage.url) as records:
        run = History(records).find_run(first)
        for name in ("second", "third"):
            records.save(replace(run, id=f"20250101-000000-{name}", started_at=run.started_at))
    together = threading.Barrier(3, timeout=120)

    def all_begun(run_id: str, *words: Any) -> RunReport:
        together.wait()  # one after the other, the first would wait for ever
        return execute_run(run_id, *words)

    monkeypatch.setattr("fleetpatch.cli.runtime.run_session.execute_run", all_begun)
    told = stage.run("reconcile", "--no-prefect", "--json").json["runs"]
    assert len(told) == 3
    assert all(each["status"] in ("Succeeded", "CompletedWithWarnings", "NotStarted") for each in told), told
    assert stage.run("reconcile", "--dry-run", "--json").json["runs"] == []


def test_runs_show_and_doctor_tell_of_it(stage: Stage) -> None:
    run = left(stage)
    assert f"fleetpatch resume {run}" in stage.run("runs").out
    (row,) = stage.run("runs", "--json").json["runs"]
    assert row["executed"] is False
    assert f"fleetpatch resume {run}" in stage.run("show", run).out
    said = stage.run("doctor", "--here")
    assert said.code == 3
    assert "fleetpatch reconcile" in said.out
    assert run in said.out


def test_a_live_assessment_is_not_abandoned(stage: Stage) -> None:
    two(stage)
    stage.run("assess")
    with open_records(stage.url) as records:
        (run,) = History(records).read_runs()
        records.save(replace(run, state=OperationState.IN_PROGRESS, ended_at=None))
        assert records.leases.find_leaseless_runs()
    assert "No run is abandoned" in stage.run("reconcile").out
    assert "abandoned" not in stage.run("runs").out


def test_a_resumed_run_reads_the_inventory_that_it_began_with(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    two(stage)
    found = stage.fleet.ports
    described = lambda: replace(found(), inventory=replace(found().inventory, source=stage.inventory))  # noqa: E731
    monkeypatch.setattr(stage.fleet, "ports", described)
    run = stage.left_half_way("--wave-size", "1", dies_at=52)
    with open_records(stage.url) as records:
        request = History(records).find_run(run).request
    assert request["inventory"] == str(stage.inventory)


def test_failed_machines_end_a_resumed_run_with_1(stage: Stage) -> None:
    stage.add("first", security("openssl", seconds=20, fails="no"))
    stage.add("second", FakePackage("vim"))
    run = stage.left_half_way("--wave-size", "1", "--failure-budget", "2", dies_at=20)
    assert stage.run("resume", run, "--no-prefect").code == 1


def test_a_run_that_is_suspended_is_named_and_left_alone(stage: Stage) -> None:
    run = left(stage)
    with open_records(stage.url) as records:
        now = History(records).find_run(run).started_at
        record_suspension(records, run, JournalMark.AFTER, now, "suspended in Prefect", "a flow run")
    shown, listed, taken = (
        stage.run("show", run),
        stage.run("reconcile", "--dry-run"),
        stage.run("reconcile", "--no-prefect"),
    )
    assert f"{run} was suspended in Prefect" in shown.out
    assert "abandoned" not in shown.out
    assert "left alone: suspended in Prefect" in " ".join(listed.out.split())
    assert taken.code == 0
    assert not stage.fleet.machines["second"].installs()
    assert stage.run("resume", run, "--no-prefect").code == 0  # somebody goes on with it
    assert stage.fleet.machines["second"].installs()


def test_what_a_suspended_run_did_is_told_and_what_it_left_is_told_as_well(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.add("first", security("openssl", seconds=20, asks_reboot=True))
    stage.add("second", security("openssl"))
    found = stage.ports

    def ports(who: Caller) -> Ports:
        button = lambda: who.stop_token.request_suspension("suspended in Prefect")  # noqa: E731
        stage.fleet.machines["first"].on_start("install", 5, button)
        return found(who)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "ports", ports)
        stage.run("patch", "*", "--no-prefect", "--yes", "--wave-size", "1")
    assert stage.fleet.machines["first"].installs()
    assert not stage.fleet.machines["second"].installs()

    done = stage.run("why", "first", "openssl").out
    assert "Installed" in done, done
    left = stage.run("why", "second", "openssl")
    assert "Installed" not in left.out
    with open_records(stage.url) as records:
        (run,) = History(records).read_runs()
    assert f"{run.id} was suspended in Prefect" in left.out
    assert f"fleetpatch resume {run.id}" in left.out
    for _ in range(3):  # later runs, however many, hide none that has no end
        stage.run("assess")
    assert stage.run("why", "second", "--json").json["openMaintenanceRunIds"] == [run.id]

    assert stage.run("resume", run.id, "--no-prefect").code == 3  # the first still asks for a reboot
    after = stage.run("why", "second", "openssl").out
    assert "Installed" in after
    assert "suspended" not in after
