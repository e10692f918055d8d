"""Runs that upgrade a component, with the real engine on a simulated fleet: canary, batches, health, the way back."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.components.tries import find_try
from tasks.steps.context.run_control import StopToken
from tests.support.component_fleet import EXPORTER, RUN, UPDATE, ComponentFleet
from tests.support.components import make_try
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls, mortal_machine, mortal_records


@pytest.fixture
def fleet() -> ComponentFleet:
    return ComponentFleet()


def order_of(report: RunReport) -> list[str]:
    """The machines in the order in which their installations began."""
    begun = [
        (outcome.install.transactions[0].started_at, outcome.machine) for outcome in report.outcomes if outcome.install
    ]
    return [machine for _, machine in sorted(begun, key=lambda pair: str(pair[0]))]


def test_the_canary_location_is_first_and_then_one_batch_after_the_other(fleet: ComponentFleet) -> None:
    report = fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.1.0"}
    assert report.run.state is OperationState.SUCCEEDED
    assert [wave.machines for wave in report.waves] == [(name,) for name in ("m5", "m6", "m1", "m2", "m3", "m4")]
    assert [wave.canary for wave in report.waves] == [True, True, False, False, False, False]
    assert order_of(report) == ["m5", "m6", "m1", "m2", "m3", "m4"]
    assert all(result_of(outcome, UPDATE).state is UpdateState.INSTALLED for outcome in report.outcomes)
    assert not any(machine.boots.count for machine in fleet.fleet.machines.values())


def test_ten_machines_are_upgraded_in_batches_of_two() -> None:
    report = ComponentFleet(10).upgrade()
    assert [len(wave.machines) for wave in report.waves] == [2, 2, 2, 2, 2]


def test_nothing_else_is_installed_and_each_update_has_its_reason(fleet: ComponentFleet) -> None:
    before = {name: machine.world.whole() for name, machine in fleet.fleet.machines.items()}
    report = fleet.upgrade()
    for outcome in report.outcomes:
        other = result_of(outcome, "tzdata")
        assert (other.state, other.reason) == (
            UpdateState.NOT_SELECTED,
            "this run upgrades the component exporter alone",
        )
    assert {name: machine.world.whole() for name, machine in fleet.fleet.machines.items()} == before


def test_a_bad_version_is_taken_back_on_the_canary_and_nobody_else_gets_it(fleet: ComponentFleet) -> None:
    for components in fleet.on.values():
        components.unhealthy.add(("exporter", "1.1.0"))
    began = fleet.fleet.clock.now()
    report = fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.0.0"}
    assert fleet.on["m5"].jobs == [
        ("stage", "exporter", "1.1.0"),
        ("install", "exporter", "1.1.0"),
        ("roll-back", "exporter", "1.0.0"),
    ]
    assert [name for name, components in fleet.on.items() if components.jobs] == ["m5"]
    canary = outcome_of(report, "m5")
    result = result_of(canary, UPDATE)
    assert (canary.state, result.state, result.version_after) == (OperationState.FAILED, UpdateState.FAILED, "1.0.0")
    assert (
        "app: command ask the application: exit code 1: the application is down; version 1.0.0 is back" in result.reason
    )
    assert fleet.fleet.clock.now() - began >= timedelta(minutes=5)
    for name in ("m1", "m2", "m3", "m4", "m6"):
        left = outcome_of(report, name)
        assert left.state is OperationState.NOT_STARTED
        assert "1 of 1 upgraded machines became unhealthy, and 20 % may be" in left.reason
    (after,) = [one.packages for one in report.assessments if one.machine == "m5"]
    assert after is not None
    assert [one.version for one in after.components] == ["1.0.0"]  # so pages and later runs see what is there
    attempt = find_try(canary)
    assert attempt is not None
    assert (attempt.version, attempt.succeeded, attempt.run_id) == ("1.1.0", False, RUN)
    assert find_try(outcome_of(report, "m1")) is None


def test_one_bad_machine_of_many_does_not_stop_the_others() -> None:
    fleet = ComponentFleet(10)
    fleet.on["m8"].unhealthy.add(("exporter", "1.1.0"))  # the last but the canaries
    report = fleet.upgrade()
    assert fleet.versions == {name: "1.0.0" if name == "m8" else "1.1.0" for name in fleet.on}
    assert outcome_of(report, "m8").state is OperationState.FAILED


def test_a_batch_goes_on_to_its_end_and_then_the_run_stops() -> None:
    fleet = ComponentFleet(10)
    fleet.on["m1"].unhealthy.add(("exporter", "1.1.0"))  # the canaries are good: 1 of 4 is more than 20 %
    report = fleet.upgrade()
    assert fleet.versions["m2"] == "1.1.0"  # of the same batch
    assert "1 of 4 upgraded machines" in outcome_of(report, "m3").reason
    assert fleet.versions["m3"] == "1.0.0"


@pytest.mark.parametrize(("sick", "begins"), [(1, True), (2, False)])
def test_too_many_unhealthy_machines_keep_the_run_from_beginning(
    fleet: ComponentFleet, sick: int, begins: bool
) -> None:
    for name in ["m1", "m2"][:sick]:
        fleet.on[name].is_sick = True
    report = fleet.upgrade()
    assert any(components.jobs for components in fleet.on.values()) is begins
    if not begins:
        assert "2 of 6 machines of the scope are unhealthy" in outcome_of(report, "m5").reason
    else:
        assert fleet.versions == {name: "1.0.0" if name == "m1" else "1.1.0" for name in fleet.on}


def test_machines_that_were_off_before_are_no_harm_of_the_rollout(fleet: ComponentFleet) -> None:
    """Two of six are more than 20 %, and no reason to leave the others without the version."""
    for name in ("m1", "m2"):
        fleet.fleet.machines[name].is_off = True
    report = fleet.upgrade()
    assert fleet.versions == {name: "1.0.0" if name in {"m1", "m2"} else "1.1.0" for name in fleet.on}
    assert outcome_of(report, "m1").state is OperationState.FAILED  # and they are not reported good


def test_a_machine_that_becomes_healthy_within_five_minutes_keeps_the_version(fleet: ComponentFleet) -> None:
    for components in fleet.on.values():
        components.unhealthy.add(("exporter", "1.1.0"))
        components.heals_after = 240
    fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.1.0"}


def test_a_version_whose_service_listens_no_more_is_taken_back_on_the_canary(fleet: ComponentFleet) -> None:
    """Its checks and its services are good: only the port tells."""
    for components in fleet.on.values():
        components.deaf.add("1.1.0")
    report = fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.0.0"}
    assert [name for name, components in fleet.on.items() if components.jobs] == ["m5"]
    assert "nothing listens any more on tcp/443" in outcome_of(report, "m5").reason


def test_health_that_is_not_known_is_no_health(fleet: ComponentFleet) -> None:
    canary = fleet.on["m5"]
    fleet.fleet.machines["m5"].on_start("install", 5, lambda: setattr(canary, "is_silent", True))
    fleet.fleet.machines["m5"].on_start("roll-back", 1, lambda: setattr(canary, "is_silent", False))
    report = fleet.upgrade()
    assert fleet.versions["m5"] == "1.0.0"
    assert "its health was not known in 5 minutes" in result_of(outcome_of(report, "m5"), UPDATE).reason


def test_an_installation_that_fails_and_changes_nothing_needs_no_way_back(fleet: ComponentFleet) -> None:
    fleet.on["m5"].fails["1.1.0"] = "no such library"
    report = fleet.upgrade()
    assert [work for work, _, _ in fleet.on["m5"].jobs] == ["stage", "install"]
    assert result_of(outcome_of(report, "m5"), UPDATE).state is UpdateState.FAILED
    assert "no such library" in outcome_of(report, "m5").reason


def test_an_installation_that_leaves_nothing_is_taken_back(fleet: ComponentFleet) -> None:
    fleet.on["m5"].breaks.add("1.1.0")
    report = fleet.upgrade()
    assert fleet.versions["m5"] == "1.0.0"
    assert "version 1.0.0 is back" in result_of(outcome_of(report, "m5"), UPDATE).reason


def test_a_version_that_does_not_come_back_is_told(fleet: ComponentFleet) -> None:
    fleet.on["m5"].unhealthy.add(("exporter", "1.1.0"))
    fleet.on["m5"].stuck.add("1.0.0")
    outcome = outcome_of(fleet.upgrade(), "m5")
    assert "version 1.0.0 is not back, there is 1.1.0: " in result_of(outcome, UPDATE).reason
    assert "it can't be put back" in result_of(outcome, UPDATE).reason
    assert any(finding.check == "component" and finding.level is FindingLevel.BLOCK for finding in outcome.findings)


def test_what_failed_is_tried_again_later_and_not_before(fleet: ComponentFleet) -> None:
    fleet.tries = (make_try("m9", "earlier", fleet.fleet.clock.now() - timedelta(hours=1)),)
    report = fleet.upgrade()
    assert not any(components.jobs for components in fleet.on.values())
    assert any("RetryLater: its upgrade was stopped once" in note for plan in report.plans for note in plan.notes)
    fleet.fleet.clock.advance(24 * 3600)
    fleet.fleet.records = type(fleet.fleet.records)()
    fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.1.0"}


def test_a_machine_that_waits_for_another_component_is_told_so(fleet: ComponentFleet) -> None:
    fleet.held_back = {"m1": "it waits for agent, whose upgrade failed here"}
    report = fleet.upgrade()
    result = result_of(outcome_of(report, "m1"), UPDATE)
    assert (result.state, result.reason) == (UpdateState.BLOCKED, "it waits for agent, whose upgrade failed here")
    assert fleet.versions["m1"] == "1.0.0"
    assert fleet.versions["m2"] == "1.1.0"


def test_a_machine_without_the_component_or_an_answer_is_left_alone(fleet: ComponentFleet) -> None:
    fleet.on["m1"].versions["exporter"] = None
    fleet.on["m2"].problem = "segmentation fault"
    report = fleet.upgrade()
    assert (fleet.on["m1"].jobs, fleet.on["m2"].jobs) == ([], [])
    notes = {plan.machine: plan.notes for plan in report.plans}
    assert "component exporter: NotInstalled: it is not installed: only upgrades are done" in notes["m1"]
    assert any("component exporter: Unknown: the question for its version ended with 1" in note for note in notes["m2"])


@pytest.mark.parametrize("proof", ["", "was current before"])
def test_canaries_that_tell_no_version_prove_nothing(fleet: ComponentFleet, proof: str) -> None:
    fleet.on["m5"].problem = "segmentation fault"
    fleet.on["m6"].versions["exporter"] = "1.1.0" if proof else None
    report = fleet.upgrade()
    assert fleet.versions["m1"] == ("1.1.0" if proof else "1.0.0")
    assert outcome_of(report, "m5").state is OperationState.COMPLETED_WITH_WARNINGS
    if not proof:
        assert "no machine of the canary locations has shown" in outcome_of(report, "m1").reason


def test_an_assessment_tells_the_versions_and_no_update_of_them(fleet: ComponentFleet) -> None:
    report = fleet.upgrade(dry_run=True)
    assert not any(components.jobs for components in fleet.on.values())
    packages = next(one.packages for one in report.assessments if one.machine == "m1")
    assert packages is not None
    assert [(one.name, one.version) for one in packages.components] == [("exporter", "1.0.0")]
    assert [update.id for update in packages.updates] == ["tzdata"]
    planned = result_of(outcome_of(report, "m1"), UPDATE)
    assert (planned.state, planned.update.available) == (UpdateState.PENDING, "1.1.0")


def test_the_way_back_is_part_of_the_window(fleet: ComponentFleet) -> None:
    report = fleet.upgrade(window=WindowRequest(minutes=6))
    assert not any(work == "install" for components in fleet.on.values() for work, _, _ in components.jobs)
    assert "kept for its health and the way back" in str([outcome.reason for outcome in report.outcomes])


def test_a_pending_reboot_stays_pending(fleet: ComponentFleet) -> None:
    fleet.fleet.machines["m1"].world.shelf.reboot_reasons.append("a kernel")
    report = fleet.upgrade()
    assert outcome_of(report, "m1").reboot is RebootState.REQUIRED
    assert outcome_of(report, "m1").state is OperationState.SUCCEEDED  # it asked for it before
    assert fleet.fleet.machines["m1"].boots.count == 0
    assert fleet.versions["m1"] == "1.1.0"


def test_a_request_to_stop_does_not_stop_the_way_back(fleet: ComponentFleet) -> None:
    fleet.on["m5"].unhealthy.add(("exporter", "1.1.0"))
    fleet.fleet.machines["m5"].on_start("install", 60, lambda: fleet.fleet.control.request_stop("somebody"))
    fleet.upgrade()
    assert fleet.versions["m5"] == "1.0.0"
    assert not any("roll-back" in job_id for job_id in fleet.fleet.machines["m5"].stopped)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reboot": "IfRequired"}, "reboot must be Never"),
        ({"waves": WavesRequest(percent=50, round_down=True)}, "waves.percent must be at most 20"),
        ({"waves": WavesRequest(percent=20)}, "waves.round_down must be on"),
        ({"waves": WavesRequest(size=3, percent=20, round_down=True)}, "waves.size must be empty"),
        ({"remove_unused_kernels": True}, "remove_unused_kernels must be off"),
    ],
)
def test_a_request_that_would_do_more_is_refused(fleet: ComponentFleet, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        fleet.upgrade(**fields)
    assert fleet.fleet.records.runs == {}


class TestController:
    """The controller is killed at any call, and another process resumes the run."""

    def run(self, fleet: ComponentFleet, life: Life, *, resumed: bool = False, stop: str = "") -> RunReport:
        ports, stop_token = fleet.ports(), StopToken()
        if stop:
            stop_token.request_stop(stop)
        mortal = replace(
            ports,
            stop_token=stop_token,
            records=mortal_records(ports.records, life),
            connect=lambda machine: mortal_machine(ports.connect(machine), life),
        )
        past = read_resume_state(FakeHistory(fleet.fleet.records), RUN) if resumed else None  # type: ignore[arg-type]
        request = parse_recorded_request(past.run) if past is not None else fleet.request()
        assert isinstance(request, PatchRequest)
        return FleetRun(request, mortal, LocalRunner(), run_id=RUN, resume_state=past).execute()

    @staticmethod
    def make(bad: str) -> ComponentFleet:
        fleet = ComponentFleet(3, canaries=1)
        if bad:
            fleet.on[bad].unhealthy.add(("exporter", "1.1.0"))
        return fleet

    @pytest.mark.parametrize("bad", ["", "m3"])
    def test_it_may_die_anywhere(self, bad: str) -> None:
        whole = Life()
        expected = self.make(bad)
        self.run(expected, whole)
        for call in choose_calls(whole.calls - 1, 2):
            fleet = self.make(bad)
            life = Life(dies_at=call, after_the_act=call % 2 == 1)
            report: RunReport | None
            try:
                report = self.run(fleet, life)
            except Killed:
                is_over = fleet.fleet.records.runs[RUN].state not in UNFINISHED_RUN_STATES  # its end was saved
                report = None if is_over else self.run(fleet, Life(), resumed=True)
            assert fleet.versions == expected.versions, call
            for name, components in fleet.on.items():
                works = [work for work, _, _ in components.jobs]
                assert len(works) == len(set(works)), (call, name, works)  # each job once
                assert works == [work for work, _, _ in expected.on[name].jobs], (call, name)
            assert report is None or {outcome.machine for outcome in report.outcomes} == set(fleet.on)

    def test_a_stop_does_not_end_a_way_back_that_another_process_completes(self) -> None:
        fleet, life = self.make("m3"), Life()
        machine = fleet.fleet.machines["m3"]
        machine.on_start("roll-back", 2, lambda: setattr(life, "dies_at", life.calls + 1))
        with pytest.raises(Killed):
            self.run(fleet, life)
        self.run(fleet, Life(), resumed=True, stop="somebody")
        assert fleet.versions["m3"] == "1.0.0"
        assert not any("roll-back" in job_id for job_id in machine.stopped)
        assert [work for work, _, _ in fleet.on["m3"].jobs] == ["stage", "install", "roll-back"]

    def test_the_way_back_does_not_depend_on_the_file(self) -> None:
        """The process dies in the watch, and the version before has gone from the file until another one resumes."""
        fleet, life = self.make("m3"), Life()
        fleet.fleet.machines["m3"].on_start("install", 30, lambda: setattr(life, "dies_at", life.calls + 2))
        with pytest.raises(Killed):
            self.run(fleet, life)
        assert fleet.versions["m3"] == "1.1.0"
        fleet.component = replace(EXPORTER, versions=EXPORTER.versions[1:])
        report = self.run(fleet, Life(), resumed=True)
        assert fleet.versions["m3"] == "1.0.0"
        assert "version 1.0.0 is back" in outcome_of(report, "m3").reason
