"""Runs that take others back, with the real engine on a simulated machine."""

from dataclasses import replace
from typing import Any, cast

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.engine.fleet_run import FleetRun
from flows.engine.undo_orders import find_undo_order
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.undo import build_undo_request
from tasks.domain.errors import RequestError, ScriptFailed
from tasks.domain.model import RebootNeed, RunReport
from tasks.domain.protocols.package_manager import InstalledKernels, PackageNeeds, WayBack
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import OperationState, RebootPolicy, RebootState, UpdateState, YesNoUnknown
from tasks.records.queries.history import History
from tasks.rules.kept_packages import KEEP_CHECK
from tasks.rules.runs.figures import predict_reboot
from tasks.rules.undo import LEFT_REBOOT, REMOVAL_TERMS, leaves_pending_reboot
from tasks.steps import undo
from tests.support import taking_up
from tests.support.fake_components import PROBE
from tests.support.fake_jobs import JobRun
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine

PATCHED = "20260309-010000-bbbbbb"


class UndoFleet(SimFleet):
    """A machine on which a run has updated two packages, and has installed a third one with them."""

    def __init__(self) -> None:
        super().__init__()
        lib = FakePackage("lib", installed=None)
        self.web: SimMachine = self.add("web", [FakePackage("shop", needs=("lib",)), FakePackage("app"), lib])
        self.before = self.web.world.whole()
        request = self.request("shop", "app")
        self.patched = FleetRun(request, super().ports(), LocalRunner(), run_id=PATCHED).execute()
        for name in ("shop", "app"):
            self.web.world[name].available = "1.0"  # what its repository also has
        self.web.world["shop"].needs = ()

    @property
    def history(self) -> History:
        return cast("History", FakeHistory(self.records))

    def ports(self) -> Ports:
        return replace(super().ports(), find_undo_order=lambda run: find_undo_order(self.history, run))

    def undo(self, **fields: Any) -> RunReport:
        request = build_undo_request(self.history, self.patched.run.id, **fields)
        return self.campaign(request.model_copy(update={"come_back_seconds": 0})).execute()


@pytest.fixture
def fleet() -> UndoFleet:
    return UndoFleet()


def test_versions_are_as_before_and_what_came_anew_is_gone(fleet: UndoFleet) -> None:
    assert fleet.web.world.whole() == {"shop": "2.0", "app": "2.0", "lib": "2.0"}
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == fleet.before == {"shop": "1.0", "app": "1.0"}
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert {name: result_of(outcome, name).state for name in ("shop", "app", "lib")} == dict.fromkeys(
        ("shop", "app", "lib"), UpdateState.INSTALLED
    )
    (note,) = [finding.message for finding in outcome.findings if finding.check == "undo"]
    assert 'exclude: ["app", "shop"]' in note


def test_a_probe_that_fails_is_why_a_machine_goes_back_and_is_good_afterwards(fleet: UndoFleet) -> None:
    fleet.described = [replace(machine, probes=(PROBE,)) for machine in fleet.described]

    def probe(_script: Script) -> ScriptRecord:
        return {"kind": "probe", "exit_code": int(fleet.web.world["app"].installed != "1.0"), "text": "it is down"}

    fleet.web.answer("probe", probe)
    assert not [note for note in fleet.undo(dry_run=True).plans[0].notes if "would refuse" in note]
    outcome = outcome_of(fleet.undo(), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    assert "it is down" in outcome.reason
    assert fleet.web.world.whole() == fleet.before


def test_the_plan_changes_nothing_and_says_the_same(fleet: UndoFleet) -> None:
    now = fleet.web.world.whole()
    (plan,) = fleet.undo(dry_run=True).plans
    assert fleet.web.world.whole() == now
    assert [(update.id, update.available) for update in plan.chosen] == [("shop", "1.0"), ("app", "1.0")]
    assert f"to be removed ({REMOVAL_TERMS}), because the run has newly installed it: lib" in plan.notes


@pytest.mark.parametrize("when", ["before the plan", "after the plan"])
def test_what_somebody_has_chosen_since_stays(fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def choose(*_: object) -> str:
        fleet.web.world["lib"].chosen = True
        return ""

    if when == "before the plan":
        choose()
        (plan,) = fleet.undo(dry_run=True).plans
        assert not [note for note in plan.notes if note.startswith("to be removed")]
        assert [note for note in plan.notes if "lib: it stays: somebody has chosen it" in note]
    else:
        remove = undo._remove
        monkeypatch.setattr(undo, "_remove", lambda *words: (choose(), remove(*words)))
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "1.0", "app": "1.0", "lib": "2.0"}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "somebody has chosen it" in outcome.reason


def test_without_an_answer_nothing_is_removed(fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> PackageNeeds:
        raise ScriptFailed("apt_needs ended with 1", exit_code=1)

    remove = undo._remove
    monkeypatch.setattr(undo, "_remove", lambda *w: (monkeypatch.setattr(FakeManager, "read_needs", fail), remove(*w)))
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "1.0", "app": "1.0", "lib": "2.0"}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    assert "not removed: apt_needs ended with 1" in outcome.reason


def test_what_something_else_needs_stays_and_the_rest_is_removed(fleet: UndoFleet) -> None:
    fleet.web.world["app"].needs = ("lib",)
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "1.0", "app": "1.0", "lib": "2.0"}
    assert "not removed: something needs it" in outcome.reason


@pytest.mark.parametrize(("policy", "rebooted"), [("IfRequired", False), ("Always", True), ("Never", False)])
def test_a_reboot_that_was_pending_is_done_as_the_plan_says(fleet: UndoFleet, policy: str, *, rebooted: bool) -> None:
    fleet.web.world.shelf.reboot_reasons.append("libc asks for it")
    (plan,) = fleet.undo(dry_run=True, reboot=RebootPolicy(policy)).plans
    assert (predict_reboot(plan) is YesNoUnknown.YES) is rebooted
    assert (LEFT_REBOOT in plan.notes) is (policy == "IfRequired")
    assert "a reboot is pending: libc asks for it" in plan.notes
    outcome = outcome_of(fleet.undo(reboot=RebootPolicy(policy)), "web")
    assert fleet.web.world.whole() == fleet.before
    assert outcome.reboot is (RebootState.COMPLETED if rebooted else RebootState.REQUIRED)


def test_what_goes_back_may_ask_for_a_reboot_itself(fleet: UndoFleet) -> None:
    assert leaves_pending_reboot(RebootNeed(YesNoUnknown.YES), RebootPolicy.IF_REQUIRED, ())
    asking = replace(fleet.web.world["app"].update(), requires_reboot=True)
    assert not leaves_pending_reboot(RebootNeed(YesNoUnknown.YES), RebootPolicy.IF_REQUIRED, (asking,))


def test_an_undo_in_vain_has_attempted_nothing(fleet: UndoFleet) -> None:
    for name in ("shop", "app"):
        fleet.web.world[name].refused = "no longer offered"
    fleet.web.world["lib"].chosen = True
    for dry_run in (True, False):
        report = fleet.undo(dry_run=dry_run)
        assert to_run_exit_code(report) is ExitCode.NOTHING_ATTEMPTED
    assert fleet.web.world.whole() == {"shop": "2.0", "app": "2.0", "lib": "2.0"}


def test_asked_twice_it_is_done_once(fleet: UndoFleet) -> None:
    fleet.undo()
    jobs = len(fleet.web.jobs())
    outcome = outcome_of(fleet.undo(), "web")
    assert len(fleet.web.jobs()) == jobs
    assert (outcome.state, fleet.web.world.whole()) == (OperationState.SUCCEEDED, fleet.before)


def test_what_changed_since_and_what_is_no_longer_offered_stays(fleet: UndoFleet) -> None:
    fleet.web.world["app"].installed = "2.1"
    fleet.web.world["shop"].refused = "no longer offered"
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "2.0", "app": "2.1"}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "no longer offered" in outcome.reason
    assert "it has changed again since" in outcome.reason


def test_a_manager_that_takes_nothing_back_says_so(fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeManager, "way_back", WayBack("go back as a whole"))
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "2.0", "app": "2.0", "lib": "2.0"}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "3 packages: package manager: go back as a whole: " in outcome.reason


def test_kernels_that_can_t_be_told_keep_new_packages(fleet: UndoFleet) -> None:
    fleet.web.world.shelf.kernels = InstalledKernels(obstacle="no answer")
    outcome = outcome_of(fleet.undo(), "web")
    assert fleet.web.world.whole() == {"shop": "1.0", "app": "1.0", "lib": "2.0"}
    assert "whether it belongs to a kernel is not known: no answer" in outcome.reason


def test_a_failed_way_back_keeps_what_it_may_need(fleet: UndoFleet) -> None:
    fleet.web.world["shop"].fails = "cannot migrate data back"
    outcome = outcome_of(fleet.undo(), "web")
    assert outcome.state is OperationState.FAILED
    assert fleet.web.world["lib"].installed == "2.0"
    assert "not removed: packages that may need it are not back: shop" in outcome.reason + str(outcome.findings)


def test_what_others_have_half_configured_does_not_count_as_removed(
    fleet: UndoFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(*_: object) -> str:
        fleet.web.world.reconfigure(2)
        return "no time is left"

    monkeypatch.setattr(undo, "_explain_no_removal", explain)
    outcome = outcome_of(fleet.undo(), "web")
    assert [package.id for package in fleet.web.world.half_done] == ["lib"]
    result = result_of(outcome, "lib")
    assert (result.state, result.version_after) == (UpdateState.BLOCKED, "2.0")


@pytest.mark.parametrize("calls", choose_calls(120, 12))
def test_a_dead_controller_s_undo_is_finished_once(calls: int) -> None:
    fleet = UndoFleet()
    request = build_undo_request(fleet.history, fleet.patched.run.id).model_copy(update={"come_back_seconds": 0})
    life = Life(calls)
    try:
        taking_up.begin(fleet, request, life)
    except Killed:
        report = taking_up.resume(fleet)
        assert report.run.state in {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS}
    assert fleet.web.world.whole() == fleet.before
    configured = fleet.web.world.shelf.configured
    assert [configured.count(f"{name} 1.0") for name in ("shop", "app")] == [1, 1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"component": "exporter"}, "component must be empty"),
        ({"download_only": True}, "download_only must be off"),
        ({"remove_unused_kernels": True}, "remove_unused_kernels must be off"),
    ],
)
def test_an_undo_does_nothing_else(fleet: UndoFleet, fields: dict[str, Any], words: str) -> None:
    request = build_undo_request(fleet.history, fleet.patched.run.id).model_copy(update=fields)
    with pytest.raises(RequestError, match=words):
        FleetRun(request, fleet.ports(), LocalRunner())


def test_a_run_that_changed_nothing_can_t_be_taken_back(fleet: UndoFleet) -> None:
    planned = fleet.patch(dry_run=True)
    with pytest.raises(RequestError, match="has installed nothing"):
        build_undo_request(fleet.history, planned.run.id)
    with pytest.raises(RequestError, match="has installed nothing on 'wbe'"):
        build_undo_request(fleet.history, fleet.patched.run.id, ["wbe"])
    with pytest.raises(RequestError, match="there is no run"):
        build_undo_request(fleet.history, "20200101")


def test_the_download_keeps_what_is_replaced_and_the_report_says_what_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(job: JobRun, number: str) -> None:
        planned(job, number)
        told.append({name: value for name, value in job.script.params.items() if name.startswith("keep")})
        if answers:
            job.steps.append((job.past, answers.pop()))

    told: list[dict[str, object]] = []
    answers = [{"kind": "kept", "number": 0, "kept": 1, "total": 2, "lost": " app=1.0", "full": "", "late": ""}]
    planned = JobRun._stage
    monkeypatch.setattr(JobRun, "_stage", stage)
    fleet = SimFleet()
    for name in ("web", "db"):
        fleet.add(name, [FakePackage("shop"), FakePackage("app")])
    request = fleet.request("shop", "app").model_copy(update={"keep_previous": True, "stage": False})
    without = FleetRun(request, fleet.ports(), LocalRunner(), run_id=PATCHED).execute()
    assert told == []  # its package manager can't
    assert all(KEEP_CHECK not in {f.check for f in outcome.findings} for outcome in without.outcomes)
    assert "is not kept here" in without.plans[0].notes[0]

    monkeypatch.setattr(FakeManager, "way_back", WayBack(caution="no promise", keeps=True))
    fleet = SimFleet()
    for name in ("web", "db"):
        fleet.add(name, [FakePackage("shop"), FakePackage("app")])
    request = fleet.request("shop", "app").model_copy(update={"keep_previous": True, "stage": False})
    report = FleetRun(request, fleet.ports(), LocalRunner(), run_id=PATCHED).execute()

    assert [given["keep"] for given in told] == [PATCHED] * 2
    findings = [f for outcome in report.outcomes for f in outcome.findings if f.check == KEEP_CHECK]
    assert sorted(finding.message for finding in findings) == [
        "kept 1 of 2 packages that this run replaces; not kept: neither the machine nor its repositories have the file "
        "of app",
        "kept none of the packages that this run replaces: the download ahead of the installation did not come so far",
    ]
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}  # it stops nothing
