"""What a decision of automatic patching sees of a fleet, on real records."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.automatic.fleet_view import build_fleet_view, judge_health
from flows.request.request_parts import FreezeRequest
from inventory.machine import Inventory, Machine, MachineSet, PatchOwner, WakeSettings
from tasks.domain.model import Assessment, ErrorInfo, Outcome, Services, StepRecord
from tasks.domain.states import OperationState, Step
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import ActiveRun, AutomaticPolicy, FleetView, MachineView, Rollout, RunPlan
from tasks.rules.calendar.freezes import Freeze
from tests.contract.records_subjects import new_database
from tests.support.builders import make_assessment, make_facts, make_outcome, make_package_state, make_run, make_update

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAN = RunPlan("k", "r1", 1, "ber", "a", "Europe/Berlin", ("web-1",), NOW, 235)


def machine(name: str, **fields: Any) -> Machine:
    return Machine(name=name, address="192.0.2.1", owner=fields.pop("owner", PatchOwner.MANAGED), **fields)


FLEET = Inventory(
    (
        machine("web-1", location="ber", availability_zone="a", zone="Europe/Berlin", environment="prod"),
        machine("web-2", zone="Asia/Tokyo", environment="prod", wake=WakeSettings(mac="00:00:5e:00:53:01")),
        machine("own-1", owner=PatchOwner.FLEETPATCH, environment="prod"),
        machine("lab-1", environment="lab"),
    ),
    sets=(
        MachineSet("web", "web-*", ("web-1", "web-2", "own-1")),
        MachineSet("first", "web-1", ("web-1",)),
    ),
)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    with new_database("sqlite", tmp_path) as url, open_records(url) as made:
        yield made


def view(records: SqlRecords, scope: str = "env=prod", **fields: Any) -> FleetView:
    return build_fleet_view(records, FLEET, AutomaticPolicy(scope=scope), NOW, **fields)


def look(records: SqlRecords, name: str = "web-1") -> MachineView:
    return next(each for each in view(records).machines if each.name == name)


def test_only_managed_machines_of_the_scope_are_seen(records: SqlRecords) -> None:
    found = view(records)
    assert [each.name for each in found.machines] == ["web-1", "web-2"]
    assert (found.machines[0].location, found.machines[0].availability_zone) == ("ber", "a")
    assert [each.sets for each in found.machines] == [("web", "first"), ("web",)]
    assert [each.can_wake for each in found.machines] == [False, True]
    assert found.set_sizes == {"web": 3, "first": 1}
    assert view(records, "name=gone").machines == ()


def test_what_a_machine_said_last_and_when_it_was_asked(records: SqlRecords) -> None:
    assert (look(records).last_seen, look(records).asked_at, look(records).is_healthy) == (None, None, None)
    records.save(make_assessment(machine="web-1", at=NOW - 3 * HOUR, run_id="a"))
    records.save(Assessment("web-1", NOW - HOUR, 1.0, error=ErrorInfo("Unreachable", "no"), run_id="b"))
    seen = look(records)
    assert (seen.last_seen, seen.assessed_at, seen.asked_at) == (NOW - 3 * HOUR, NOW - 3 * HOUR, NOW - HOUR)
    assert seen.is_healthy is None
    assert seen.pending


def test_a_pause_of_a_scope_is_seen_with_its_reason_until_it_ends(records: SqlRecords) -> None:
    opt_outs = SqlOptOuts(records.database)
    opt_outs.add(OptOut("web-*", "anne", "audit", NOW - HOUR, NOW + HOUR))
    opt_outs.add(OptOut("web-1", "bert", "", NOW))
    opt_outs.add(OptOut("web-2", "carl", "", NOW - 2 * HOUR, NOW))
    reason = "paused by anne, until 2026-11-21 23:00 UTC: audit"
    assert [each.opted_out for each in view(records).machines] == [reason, reason]
    opt_outs.remove("web-*")
    assert [each.opted_out for each in view(records).machines] == ["paused by bert", ""]


def test_runs_that_may_still_change_machines_are_seen(records: SqlRecords) -> None:
    runs = SqlAutomaticRuns(records.database)
    runs.add(AutomaticRun("k", PLAN.machines, NOW, NOW + HOUR, NOW, PLAN))
    runs.add(AutomaticRun("assess", ("web-2",), NOW, NOW + HOUR, NOW))
    request = {"only_machines": ["own-1", "web-2"]}
    under_way = make_run(id="by-hand", scope="env=prod", state=OperationState.IN_PROGRESS, request=request)
    for each in (
        under_way,
        replace(under_way, id="plan", kind="plan"),
        replace(under_way, id="over", state=OperationState.FAILED),
        replace(under_way, id="older", scope="shelf=3", request={}),
    ):
        records.save(each)
    found = {each.run_id: each for each in view(records).active_runs}
    assert found["k"] == ActiveRun("k", ("web-1",), PLAN)
    assert found["by-hand"] == ActiveRun("by-hand", ("web-2", "own-1"))
    assert set(found["older"].machines) == {each.name for each in FLEET.machines}, "its scope may mean every machine"
    assert set(found) == {"k", "by-hand", "older"}
    runs.set_flow_run("k", "flow-1")
    records.save(replace(under_way, id="mine", flow_run_id="flow-1", scope="web-1", request={}))
    assert [each.run_id for each in view(records).active_runs if each.plan is not None] == ["mine"]
    assert [each.run_id for each in view(records).active_runs].count("mine") == 1


def test_a_freeze_without_an_offset_holds_in_each_zone(records: SqlRecords) -> None:
    freeze = FreezeRequest(start=datetime(2026, 12, 24), end=datetime(2026, 12, 25), reason="eve")  # noqa: DTZ001
    starts = [each.start for each in view(records, freezes=[freeze]).freezes]
    assert sorted(starts) == [datetime(2026, 12, 23, 15, tzinfo=UTC), datetime(2026, 12, 23, 23, tzinfo=UTC)]
    exact = FreezeRequest(start=NOW, end=NOW + HOUR)
    assert view(records, freezes=[exact]).freezes == (Freeze(NOW, NOW + HOUR),)


def test_what_was_told_is_known_and_rollouts_come_with_the_newest_last(records: SqlRecords) -> None:
    SqlAnnouncements(records.database).add("k", "m", NOW)
    for number in (2, 1):
        SqlRollouts(records.database).save(Rollout(f"r{number}", NOW + number * HOUR, frozenset(), ()))
    found = view(records)
    assert found.announced == {"k"}
    assert [each.id for each in found.rollouts] == ["r1", "r2"]


def test_the_view_changes_nothing(records: SqlRecords) -> None:
    records.save(make_assessment(machine="web-1", at=NOW, packages=make_package_state(updates=(make_update(),))))
    first = view(records)
    assert view(records) == first


def finished(state: OperationState, *, failed_step: Step | None = None, **fields: Any) -> Outcome:
    steps = tuple(
        StepRecord(step, NOW, NOW, OperationState.FAILED if step is failed_step else OperationState.SUCCEEDED)
        for step in (Step.PRECHECK, Step.INSTALL, Step.REBOOT, Step.VALIDATE)
    )
    return make_outcome(machine="web-1", state=state, steps=steps, ended_at=NOW, **fields)


def assessed(at: datetime, *failed: str) -> Assessment:
    return make_assessment(machine="web-1", at=at, facts=make_facts(services=Services(failed=failed)))


GOOD = finished(OperationState.SUCCEEDED, facts=make_facts(services=Services(failed=("old.service",))))


@pytest.mark.parametrize(
    ("answers", "assessment", "outcome", "expected"),
    [
        (False, None, None, None),
        (True, assessed(NOW), None, True),
        (True, assessed(NOW, "broken.service"), None, True),  # before any run nothing is to blame
        (False, assessed(NOW), GOOD, None),  # it may only be off
        (True, assessed(NOW + HOUR), GOOD, True),
        (True, assessed(NOW + HOUR, "old.service"), GOOD, True),
        (True, assessed(NOW + HOUR, "new.service"), GOOD, False),
        (False, assessed(NOW), finished(OperationState.FAILED, failed_step=Step.REBOOT), False),
        (True, assessed(NOW - HOUR), finished(OperationState.FAILED, failed_step=Step.VALIDATE), False),
        (True, assessed(NOW + HOUR), finished(OperationState.FAILED, failed_step=Step.VALIDATE), None),
        (True, assessed(NOW + HOUR, "x.service"), finished(OperationState.FAILED, failed_step=Step.VALIDATE), False),
        (True, assessed(NOW + HOUR), finished(OperationState.FAILED, failed_step=Step.INSTALL, facts=None), True),
    ],
)
def test_health(answers: bool, assessment: Assessment | None, outcome: Outcome | None, expected: bool | None) -> None:
    assert judge_health(answers=answers, assessment=assessment, outcome=outcome) is expected
