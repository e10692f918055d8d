"""Runs that take others back by the snapshot from before: also on a machine that does not answer."""

from dataclasses import replace
from typing import Any, cast

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.undo_orders import find_undo_order
from flows.local_run import LocalRunner
from flows.policy.enforcement import build_demands
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest, WavesRequest
from flows.undo import build_undo_request
from inventory.machine import Check, CheckKind
from tasks.domain.errors import ProviderUnavailable, RequestError, WayUnreachable
from tasks.domain.model import Outcome, RunInfo
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.provided_machines import PowerState, ProvidedMachine, ProviderAct, ProviderOrder, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, UndoWay, UpdateState, YesNoUnknown
from tasks.domain.undo import UndoSnapshot
from tasks.records.queries.history import History
from tasks.rules.policy.model import RiskyOption
from tasks.rules.runs.snapshots import CARRIED_OUT_ACT, REVERT_ACT
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import FakeProvider, ProviderFault
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.snapshot_fleet import SnapshotFleet
from tests.support.taking_up import RUN, begin, resume, resume_unless_ended

PATCHED = "20260309-010000-bbbbbb"
BEFORE = {"app": "1.0", "shop": "1.0"}
REVERT = ProviderAct.REVERT


class UndoFleet(SnapshotFleet):
    """A machine on which a run has updated two packages, after it has taken a snapshot."""

    def __init__(self, *others: str) -> None:
        super().__init__()
        self.rows: dict[str, SnapshotRow] = {}
        self.later_runs: tuple[str, ...] = ()
        self.others = others
        self.save_snapshot = self._keep
        self.web = self.add("web", [FakePackage("shop"), FakePackage("app")])
        for name in others:
            self.add(name, [FakePackage("shop")])
        request = self.request("shop", "app", snapshot="before")
        self.patched = FleetRun(request, super().ports(), LocalRunner(), run_id=PATCHED).execute()

    def _keep(self, row: SnapshotRow) -> None:
        self.rows[row.machine] = row

    def forget_changes(self) -> None:
        """As if the run had changed nothing that it knows of."""
        outcomes = self.records.outcomes
        outcomes.update({key: replace(outcome, updates=()) for key, outcome in outcomes.items()})

    def find_snapshots(self, run: RunInfo) -> dict[str, UndoSnapshot]:
        return {name: UndoSnapshot(row, self.later_runs) for name, row in self.rows.items() if row.run_id == run.id}

    @property
    def history(self) -> History:
        return cast("History", FakeHistory(self.records))

    def ports(self) -> Ports:
        return replace(
            super().ports(), find_undo_order=lambda run: find_undo_order(self.history, run, self.find_snapshots)
        )

    def request_undo(self, *machines: str, by: UndoWay = UndoWay.SNAPSHOT, **fields: Any) -> PatchRequest:
        find = self.find_snapshots
        request = build_undo_request(self.history, PATCHED, machines, by=by, find_snapshots=find, **fields)
        return request.model_copy(update={"come_back_seconds": 0})

    def undo(self, **fields: Any) -> Outcome:
        report = self.campaign(self.request_undo("web", **fields)).execute()
        self.plans = report.plans
        self.notes = [note for plan in report.plans for note in plan.notes]
        return outcome_of(report, "web")


@pytest.fixture
def fleet() -> UndoFleet:
    return UndoFleet()


def test_a_machine_goes_back_to_its_snapshot(fleet: UndoFleet) -> None:
    assert fleet.web.world.whole() == {"app": "2.0", "shop": "2.0"}
    outcome = fleet.undo()
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert fleet.web.world.whole() == BEFORE
    assert len(fleet.find_acts("web", REVERT)) == 1
    assert {result_of(outcome, name).state for name in ("app", "shop")} == {UpdateState.INSTALLED}
    assert (fleet.rows["web"].state, fleet.rows["web"].run_id) == (SnapshotState.REVERTED, PATCHED)
    assert not [job for job in fleet.web.installs() if RUN in job.id]


def test_a_provider_that_hangs_before_its_order_leaves_the_machine_not_started(
    fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, answers = FakeProvider.read_machine, [None]

    def hang(provider: FakeProvider, *, deadline: Deadline) -> ProvidedMachine:
        if not answers:
            raise ProviderUnavailable("the hypervisor hangs")
        answers.pop()
        return read(provider, deadline=deadline)

    monkeypatch.setattr(FakeProvider, "read_machine", hang)
    outcome = fleet.undo()
    assert (outcome.state, outcome.reason) == (OperationState.NOT_STARTED, "the hypervisor hangs")
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert not fleet.find_acts("web", REVERT)
    assert fleet.web.world.whole() != BEFORE


def test_a_revert_whose_end_was_not_seen_is_never_told_as_not_attempted(fleet: UndoFleet) -> None:
    def carry_out_and_go(name: str, order: ProviderOrder) -> None:
        follow(name, order)
        fleet.hypervisor.is_away = True

    follow, fleet.hypervisor.apply = fleet.hypervisor.apply, carry_out_and_go
    outcome = fleet.undo()
    assert fleet.web.world.whole() == BEFORE
    assert outcome.state is OperationState.FAILED
    assert {result.state for result in outcome.updates} == {UpdateState.PENDING}
    assert "whether it was put back was not seen: the hypervisor does not answer" in outcome.updates[0].reason


@pytest.mark.parametrize("is_off", [False, True])
def test_the_lock_that_comes_back_with_the_snapshot_is_taken_over_from_its_run(fleet: UndoFleet, is_off: bool) -> None:
    ((old, _),) = fleet.locks.values()
    assert old is not None
    assert old[0] == PATCHED
    assert old[2] > fleet.clock.now().timestamp()
    fleet.web.is_off = is_off
    outcome = fleet.undo()
    assert fleet.web.world.whole() == BEFORE
    assert (outcome.state, fleet.web.locked_by) == (OperationState.SUCCEEDED, None)


def test_an_undo_tells_that_it_has_taken_a_lock_over(fleet: UndoFleet) -> None:
    fleet.web.locked_by = (PATCHED, "anne", fleet.clock.now().timestamp() + 36_000)
    (finding,) = [one for one in fleet.undo(by=UndoWay.PACKAGES).findings if one.check == "machine lock"]
    assert finding.message == f"taken over from run {PATCHED}, which this run takes back"


def test_the_lock_of_the_shard_that_took_the_snapshot_is_taken_over(
    fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, row = f"{PATCHED}-1", fleet.rows["web"]
    monkeypatch.setattr(fleet, "find_snapshots", lambda _run: {"web": UndoSnapshot(replace(row, run_id=shard))})
    fleet.locks = dict.fromkeys(fleet.locks, ((shard, "anne", fleet.clock.now().timestamp() + 36_000), ""))
    outcome = fleet.undo()
    assert (outcome.state, fleet.web.locked_by) == (OperationState.SUCCEEDED, None), outcome.reason


def test_the_lock_of_any_other_run_that_comes_back_stays(fleet: UndoFleet) -> None:
    other = ("20260309-020000-cccccc", "bert", fleet.clock.now().timestamp() + 36_000)
    fleet.locks = dict.fromkeys(fleet.locks, (other, ""))
    outcome = fleet.undo()
    assert fleet.web.world.whole() == BEFORE
    assert (outcome.state, fleet.web.locked_by) == (OperationState.FAILED, other)
    assert f"it was put back, and locked by run {other[0]} (bert)" in outcome.reason


@pytest.mark.parametrize("is_off", [False, True])
def test_a_lock_that_can_not_be_removed_is_told(fleet: UndoFleet, is_off: bool) -> None:
    show = fleet.web._show_lock
    fleet.web.answer("lock", lambda script: [*show(script)[:1], {"kind": "refused", "why": "the disk is full"}])
    fleet.web.is_off = is_off
    outcome = fleet.undo()
    if is_off:
        (finding,) = [one for one in outcome.findings if one.remedy == "fleetpatch unlock web"]
        assert "may still be there: the lock can't be removed: the disk is full" in finding.message
        return
    assert outcome.state is OperationState.FAILED
    assert f"it was put back, and locked by run {PATCHED}" in outcome.reason
    assert "the lock can't be removed: the disk is full" in outcome.reason


def test_packages_that_the_run_broke_are_whole_again_and_no_warning(fleet: UndoFleet) -> None:
    (app,) = [package for package in fleet.web.world.packages if package.id == "app"]
    app.broken = True
    outcome = fleet.undo()
    assert [plan.refusals for plan in fleet.plans] == [()]
    assert (outcome.state, outcome.reason) == (OperationState.SUCCEEDED, "2 updates installed, rebooted")
    (finding,) = [one for one in outcome.findings if one.check == "packages"]
    assert (finding.level, "before the revert: " in finding.message) == (FindingLevel.GOOD, True)


@pytest.mark.parametrize(("checks", "goes_back"), [("probes", True), ("pre_checks", False)])
def test_a_probe_that_fails_keeps_no_machine_from_its_snapshot_and_a_check_of_the_owner_does(
    fleet: UndoFleet, checks: str, goes_back: bool
) -> None:
    own: dict[str, Any] = {checks: (Check("shop answers", CheckKind.COMMAND, "ask"),)}
    fleet.described[0] = replace(fleet.described[0], **own)

    def answer(_script: Script) -> list[ScriptRecord]:
        return [{"kind": "probe", "exit_code": int(fleet.web.world.whole() != BEFORE), "text": ""}]

    fleet.web.answer("probe", answer)
    outcome = fleet.undo()
    assert (fleet.web.world.whole() == BEFORE) is goes_back, outcome.reason
    assert (outcome.state is OperationState.SUCCEEDED) is goes_back


def test_its_plan_says_what_is_lost(fleet: UndoFleet) -> None:
    fleet.clock.advance(3 * 3600)
    fleet.undo(dry_run=True)
    assert any("OS disks since 2026-03-" in note and "(3 h) is lost" in note for note in fleet.notes)
    assert not fleet.find_acts("web", REVERT)


def test_later_runs_are_taken_back_with_it_and_the_plan_says_so(fleet: UndoFleet) -> None:
    fleet.later_runs = ("20260309-020000-cccccc",)
    outcome = fleet.undo()
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert any("later runs are taken back with it" in note for note in fleet.notes)


def test_a_snapshot_is_only_used_if_a_person_says_so(fleet: UndoFleet) -> None:
    find = fleet.find_snapshots
    request = build_undo_request(fleet.history, PATCHED, ["web"], find_snapshots=find, dry_run=True)
    assert request.undo_by is UndoWay.PACKAGES
    fleet.undo(by=UndoWay.PACKAGES)
    assert not fleet.find_acts("web", REVERT)
    assert any(f"fleetpatch undo {PATCHED} web --by snapshot" in note and "is lost" in note for note in fleet.notes)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"reboot": RebootPolicy.NEVER}, "`reboot` is Never"), ({"exclude": ["shop"]}, "also what `exclude` keeps: shop")],
)
def test_a_snapshot_does_not_go_over_what_the_request_forbids(
    fleet: UndoFleet, limits: dict[str, Any], reason: str
) -> None:
    outcome = fleet.undo(**limits)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert any(reason in finding.message for finding in outcome.findings)
    assert not fleet.find_acts("web", REVERT)


def test_one_whose_time_is_over_is_not_used(fleet: UndoFleet) -> None:
    fleet.clock.advance(4 * 86400)
    assert any("it has expired" in finding.message for finding in fleet.undo().findings)
    assert not fleet.find_acts("web", REVERT)


def test_its_plan_says_that_the_machine_boots_anew(fleet: UndoFleet) -> None:
    fleet.undo(dry_run=True)
    assert [plan.reboot_expected for plan in fleet.plans] == [YesNoUnknown.YES]


def test_a_machine_goes_back_also_if_no_package_is_known_that_has_changed(fleet: UndoFleet) -> None:
    fleet.forget_changes()
    with pytest.raises(RequestError, match="it has a snapshot of it") as refused:
        fleet.undo(by=UndoWay.PACKAGES)
    assert f"fleetpatch undo {PATCHED} web --by snapshot" in (refused.value.hint or "")
    outcome = fleet.undo()
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert fleet.web.world.whole() == BEFORE


def test_a_machine_without_known_changes_that_stays_is_told(fleet: UndoFleet) -> None:
    fleet.forget_changes()
    fleet.hypervisor.machines["web"] = replace(fleet.provided("web"), snapshots=())
    outcome = fleet.undo()
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert any("not put back to its snapshot" in finding.message for finding in outcome.findings)


def test_a_snapshot_that_is_gone_is_not_replaced_by_packages_if_it_was_asked_for(fleet: UndoFleet) -> None:
    machine = fleet.provided("web")
    fleet.hypervisor.machines["web"] = replace(machine, snapshots=())
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "the provider does not have it" in outcome.reason
    assert fleet.web.world.whole() == {"app": "2.0", "shop": "2.0"}


@pytest.mark.parametrize("fault", [ProviderFault.AWAY_BEFORE, ProviderFault.AWAY_AFTER])
def test_a_provider_that_is_away_for_a_moment_is_asked_again(fleet: UndoFleet, fault: ProviderFault) -> None:
    fleet.hypervisor.faults[REVERT] = [fault]
    assert fleet.undo().state is OperationState.SUCCEEDED
    assert fleet.web.world.whole() == BEFORE


def test_a_refused_revert_fails_the_machine(fleet: UndoFleet) -> None:
    fleet.hypervisor.faults[REVERT] = [ProviderFault.REFUSED]
    outcome = fleet.undo()
    assert outcome.state is OperationState.FAILED
    assert "revert was refused" in outcome.reason
    assert fleet.rows["web"].state is SnapshotState.TAKEN


def test_a_machine_that_does_not_answer_goes_back_if_its_snapshot_is_asked_for(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert fleet.web.world.whole() == BEFORE
    assert len(fleet.find_acts("web", REVERT)) == 1
    assert any("did not answer, and was put back" in finding.message for finding in outcome.findings)


def test_without_that_a_machine_that_does_not_answer_stays_as_it_is(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    assert fleet.undo(by=UndoWay.PACKAGES).state is OperationState.FAILED
    assert not fleet.find_acts("web", REVERT)


@pytest.mark.parametrize(
    ("request_fields", "reverts"),
    [
        ({"undo_of": PATCHED, "undo_by": "snapshot"}, True),
        ({"undo_of": PATCHED}, False),
        ({"snapshot": {"take": "before", "revert_on_failure": True}}, True),
        ({"snapshot": "before"}, False),
    ],
)
def test_a_rule_can_forbid_it(fleet: UndoFleet, request_fields: dict[str, Any], *, reverts: bool) -> None:
    request = PatchRequest.model_validate({"scope": "*", **request_fields})
    now, inventory = fleet.clock.now(), fleet.ports().inventory
    demands = build_demands(request, request.window.to_window(now), inventory)
    assert (RiskyOption.REVERT in demands.options) is reverts


def test_it_is_put_back_once(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    fleet.undo(by=UndoWay.SNAPSHOT)
    assert len(fleet.find_acts("web", REVERT)) == 1


def test_nobody_has_named_a_machine_that_does_not_answer(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    request = fleet.request_undo(by=UndoWay.SNAPSHOT)
    assert request.waves == WavesRequest()
    request = request.model_copy(update={"waves": WavesRequest(unreachable_percent=100)})
    outcome = outcome_of(fleet.campaign(request).execute(), "web")
    assert outcome.state is OperationState.FAILED
    assert not fleet.find_acts("web", REVERT)
    assert any("nobody has named it" in finding.message for finding in outcome.findings)


def test_a_broken_way_is_no_reason_to_put_a_machine_back(fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise WayUnreachable("the address web can't be resolved")

    monkeypatch.setattr(fleet.web, "run_script", fail)
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.FAILED
    assert not fleet.find_acts("web", REVERT)
    assert any("the way to it is broken" in finding.message for finding in outcome.findings)


def test_a_blind_revert_must_fit_into_the_window(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    fleet.teach(revert_seconds=7200)
    outcome = fleet.undo(by=UndoWay.SNAPSHOT, minutes=60)
    assert not fleet.find_acts("web", REVERT)
    assert any("the revert" in finding.message for finding in outcome.findings)


def test_a_revert_waits_for_transactions_of_others(fleet: UndoFleet) -> None:
    fleet.web.lock_at_reboot_question(seconds=3600)
    outcome = fleet.undo()
    assert outcome.state is OperationState.NOT_STARTED, outcome.reason
    assert "the revert waits for them" in outcome.reason
    assert not fleet.find_acts("web", REVERT)


def begin_undo(fleet: UndoFleet, life: Life, *, is_off: bool) -> None:
    fleet.web.is_off = is_off
    begin(fleet, fleet.request_undo("web", *fleet.others, by=UndoWay.SNAPSHOT), life)


@pytest.mark.parametrize("others", [(), ("db",)])
@pytest.mark.parametrize("is_off", [False, True])
@pytest.mark.parametrize("after_the_act", [False, True])
def test_an_undo_that_is_killed_anywhere_puts_the_machine_back_once(
    after_the_act: bool, is_off: bool, others: tuple[str, ...]
) -> None:
    begin_undo(UndoFleet(*others), life := Life(), is_off=is_off)
    for call in choose_calls(life.calls - after_the_act, 4):
        fleet = UndoFleet(*others)
        with pytest.raises(Killed):
            begin_undo(fleet, Life(dies_at=call, after_the_act=after_the_act), is_off=is_off)
        was_put_back = bool(fleet.find_acts("web", REVERT))
        acts = {entry.act for entry in fleet.records.read_entries(RUN, "web")}
        fleet.clock.advance(900)
        if was_put_back:
            fleet.hypervisor.contents["web-os"] = "written since"
        outcome = outcome_of(resume_unless_ended(fleet), "web")
        assert len(fleet.find_acts("web", REVERT)) == 1, call
        assert (fleet.hypervisor.contents["web-os"] == "written since") is was_put_back, call
        assert fleet.web.world.whole() == BEFORE, call
        is_in_doubt = is_off and was_put_back and CARRIED_OUT_ACT not in acts
        if is_in_doubt and outcome.state is OperationState.FAILED:
            assert "was carried out is not known" in outcome.reason, call
        else:
            assert outcome.state is OperationState.SUCCEEDED, (call, outcome.reason)


def test_a_machine_that_a_killed_revert_has_left_off_is_put_back_and_started() -> None:
    begin_undo(UndoFleet("db"), life := Life(), is_off=True)
    killed_in_order = 0
    for call in range(4, life.calls):
        fleet = UndoFleet("db")
        with pytest.raises(Killed):
            begin_undo(fleet, Life(dies_at=call), is_off=True)
        if fleet.find_acts("web", REVERT):
            break
        if REVERT_ACT not in {entry.act for entry in fleet.records.read_entries(RUN, "web")}:
            continue
        killed_in_order += 1
        fleet.hypervisor.machines["web"] = replace(fleet.provided("web"), power=PowerState.STOPPED)
        outcome = outcome_of(resume(fleet), "web")
        assert outcome.state is OperationState.SUCCEEDED, (call, outcome.reason)
        assert fleet.provided("web").power is PowerState.RUNNING
        assert (len(fleet.find_acts("web", REVERT)), len(fleet.find_acts("web", ProviderAct.START))) == (1, 1)
    assert killed_in_order
