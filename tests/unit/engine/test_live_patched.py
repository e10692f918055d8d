"""A reboot that live patches mitigate: taken as ever, or left for later when the request says so."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flows.approval.plan_rendering import render_plan_markdown
from flows.engine.fleet_run import FleetRun
from flows.engine.run_info import build_run_id
from flows.local_run import LocalRunner
from tasks.domain.model import LivePatching, Outcome, PackageState, RebootNeed, RunReport
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, RebootState, Step, UpdateState, YesNoUnknown
from tasks.reports.data.tables import build_tables
from tasks.reports.html.renderer import render_html
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine

LAST = 3
"""How often a machine is assessed: for the plan, after the installation, and after services were restarted."""
BY = "kpatch: all fixes"
WAITS = f"the machine asks for a reboot (kernel; mitigated by {BY}), and the request lets such a reboot wait"


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet()


@pytest.fixture
def web(fleet: SimFleet) -> SimMachine:
    web = fleet.add("web", [FakePackage("kernel", asks_reboot=True, changes_boot=True)])
    web.world.mitigated_by = BY
    return web


@pytest.fixture
def pending(fleet: SimFleet) -> SimMachine:
    """A machine with a mitigated reboot from before, and nothing to install."""
    web = fleet.add("web", [FakePackage("a", installed="2.0")])
    web.world.mitigated_by = BY
    web.world.shelf.reboot_reasons.append("kernel")
    return web


def levels(outcome: Outcome) -> list[FindingLevel]:
    return [finding.level for finding in outcome.findings if finding.check == "pending-reboot"]


def test_without_the_option_it_is_taken(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.state, outcome.reboot, web.boots.count) == (OperationState.SUCCEEDED, RebootState.COMPLETED, 1)
    assert outcome.reboot_result is not None
    assert not outcome.reboot_result.mitigated_by


@pytest.mark.parametrize("policy", [RebootPolicy.IF_REQUIRED, RebootPolicy.NEVER])
def test_with_the_option_it_waits_and_the_machine_has_succeeded(
    fleet: SimFleet, web: SimMachine, policy: RebootPolicy
) -> None:
    outcome = outcome_of(fleet.patch(reboot=policy, reboot_if_live_patched=False), "web")

    assert result_of(outcome, "kernel").state is UpdateState.INSTALLED
    assert web.boots.orders == []
    assert outcome.reboot is RebootState.REQUIRED
    assert outcome.reboot_result is not None
    assert (outcome.reboot_result.reason, outcome.reboot_result.mitigated_by) == (
        WAITS.replace("(kernel;", f"({web.world.shelf.reboot_reasons[0]};"),
        BY,
    )
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert f"a required reboot waits: {outcome.reboot_result.reason}" in outcome.reason


def test_always_takes_it_all_the_same(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS, reboot_if_live_patched=False), "web")
    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 1)


def test_a_reboot_that_is_not_mitigated_is_taken(fleet: SimFleet, web: SimMachine) -> None:
    web.world.mitigated_by = ""
    assert outcome_of(fleet.patch(reboot_if_live_patched=False), "web").reboot is RebootState.COMPLETED
    assert web.boots.count == 1


def test_without_the_option_a_policy_of_never_is_a_warning_that_tells_the_mitigation(
    fleet: SimFleet, web: SimMachine
) -> None:
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert f"mitigated by {BY}), and the reboot policy is Never" in outcome.reason


def test_a_mitigated_reboot_from_before_is_no_warning(fleet: SimFleet, pending: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot_pending_first=True, reboot_if_live_patched=False), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.REQUIRED)
    assert [finding.message for finding in outcome.findings if finding.check == "pending-reboot"] == [WAITS]
    assert levels(outcome) == [FindingLevel.GOOD]
    assert pending.boots.orders == []


def test_a_mitigated_reboot_from_before_is_not_taken_before_an_installation(
    fleet: SimFleet, pending: SimMachine
) -> None:
    pending.world.packages.append(FakePackage("b"))

    outcome = outcome_of(fleet.patch(reboot_pending_first=True, reboot_if_live_patched=False), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.REQUIRED), outcome.reason
    assert [step.step for step in outcome.steps].count(Step.REBOOT) == 1  # after the installation: it decides
    assert levels(outcome) == [FindingLevel.GOOD]
    assert pending.boots.orders == []


def test_a_mitigated_reboot_from_before_is_taken_first_without_the_option(fleet: SimFleet, pending: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")
    assert (outcome.state, outcome.reboot, pending.boots.count) == (
        OperationState.SUCCEEDED,
        RebootState.COMPLETED,
        1,
    )


def test_live_patches_that_are_gone_at_validation_make_it_a_warning(
    fleet: SimFleet, web: SimMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.world.packages[0].used_by = ("nginx.service",)
    judged, state = [], web.world.state

    def lose() -> PackageState:
        judged.append(state())
        found = judged[-1]
        return replace(found, reboot=replace(found.reboot, mitigated_by="")) if len(judged) == LAST else found

    monkeypatch.setattr(web.world, "state", lose)
    outcome = outcome_of(fleet.patch(reboot_if_live_patched=False, restart_services="IfRequired"), "web")
    assert len(judged) == LAST
    assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED)
    assert "live patches mitigate it no longer" in outcome.reason
    assert web.boots.orders == []


def test_a_report_has_the_live_patches_that_the_validation_found(fleet: SimFleet, web: SimMachine) -> None:
    web.world.live_patching = LivePatching("kpatch", "no live patch")
    patched, installed = LivePatching("kpatch", "enabled", patches=("kpatch_1",)), web.world.packages[0]
    state = web.world.state

    def load() -> PackageState:
        found = state()
        return replace(found, live_patching=patched) if installed.installed == installed.available else found

    web.world.state = load  # type: ignore[method-assign]
    (row,) = build_tables(fleet.patch(reboot_if_live_patched=False)).machines

    assert (row.live_patches, row.reboot_mitigated_by) == ("kpatch: enabled; kpatch_1", BY)


def wait_days(fleet: SimFleet, days: float) -> None:
    fleet.clock.sleep(timedelta(days=days).total_seconds())


def patch_again(fleet: SimFleet, **fields: Any) -> RunReport:
    """A run of its own, beside earlier ones in the records."""
    request = fleet.request(**fields)
    return FleetRun(request, fleet.ports(), LocalRunner(), run_id=build_run_id(fleet.clock.now())).execute()


PUT_OFF: Mapping[str, Any] = {"reboot_if_live_patched": False, "live_patched_reboot_days": 30}


def test_a_put_off_reboot_is_done_after_its_days_though_nothing_is_to_be_installed(
    fleet: SimFleet, pending: SimMachine
) -> None:
    for days in (0.0, 29.0):
        wait_days(fleet, days)
        (plan,) = patch_again(fleet, dry_run=True, **PUT_OFF).plans
        assert (plan.reboot_expected, [note for note in plan.notes if "pending reboot is" in note]) == (
            YesNoUnknown.NO,
            ["the pending reboot is put off until 2026-04-09 01:00 UTC"],
        )
        outcome = outcome_of(patch_again(fleet, **PUT_OFF), "web")
        assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.REQUIRED)
        assert "put off until 2026-04-09 01:00 UTC" in str(outcome.findings)
    wait_days(fleet, 1)
    (plan,) = patch_again(fleet, dry_run=True, **PUT_OFF).plans
    assert plan.reboot_expected is YesNoUnknown.YES
    due = "due since 2026-04-09 01:00 UTC: live patches mitigate it, but it has waited 30 days, and may wait 30"
    assert f"the pending reboot is {due}" in plan.notes
    outcome = outcome_of(patch_again(fleet, **PUT_OFF), "web")
    assert (outcome.state, outcome.reboot, pending.boots.count) == (
        OperationState.SUCCEEDED,
        RebootState.COMPLETED,
        1,
    ), outcome.reason
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.reason.endswith(due)
    assert levels(outcome) == [FindingLevel.GOOD]


def test_the_days_begin_anew_with_each_boot(fleet: SimFleet, web: SimMachine) -> None:
    assert outcome_of(patch_again(fleet, reboot=RebootPolicy.ALWAYS), "web").reboot is RebootState.COMPLETED
    wait_days(fleet, 100)
    web.world.packages.append(FakePackage("kernel-2", asks_reboot=True))
    outcome = outcome_of(patch_again(fleet, **PUT_OFF), "web")
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.REQUIRED)
    wait_days(fleet, 31)
    assert outcome_of(patch_again(fleet, **PUT_OFF), "web").reboot is RebootState.COMPLETED


def test_a_machine_that_boots_its_old_kernel_again_may_wait_as_long_again(
    fleet: SimFleet, pending: SimMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = pending.world.state
    monkeypatch.setattr(
        pending.world, "state", lambda: replace(state(), reboot=RebootNeed(YesNoUnknown.YES, ("kernel",), BY))
    )
    patch_again(fleet, **PUT_OFF)
    wait_days(fleet, 31)
    assert patch_again(fleet, **PUT_OFF).outcomes[0].reboot_result is not None
    assert pending.boots.count == 1
    last = fleet.records.read_last_assessment("web")
    assert last is not None
    assert last.packages is not None
    assert last.packages.reboot.since is not None
    assert fleet.clock.now() - last.packages.reboot.since < timedelta(days=1), "it counts from the boot"
    wait_days(fleet, 1)
    (plan,) = patch_again(fleet, dry_run=True, **PUT_OFF).plans
    assert plan.reboot_expected is YesNoUnknown.NO
    assert "the pending reboot is put off until 2026-05-10" in str(plan.notes)


def test_never_makes_an_overdue_reboot_a_warning(fleet: SimFleet, pending: SimMachine) -> None:
    patch_again(fleet, **PUT_OFF)
    wait_days(fleet, 31)
    outcome = outcome_of(patch_again(fleet, reboot=RebootPolicy.NEVER, **PUT_OFF), "web")
    assert (outcome.state, pending.boots.orders) == (OperationState.COMPLETED_WITH_WARNINGS, [])


@pytest.mark.parametrize(("wanted", "expected"), [(True, YesNoUnknown.YES), (False, YesNoUnknown.NO)])
def test_a_plan_expects_what_the_run_would_do_and_describes_the_live_patches(
    fleet: SimFleet, pending: SimMachine, wanted: bool, expected: YesNoUnknown
) -> None:
    pending.world.live_patching = LivePatching("kpatch", "enabled", patches=("kpatch_1",), cves=("CVE-2024-1086",))
    (plan,) = fleet.patch(dry_run=True, reboot_if_live_patched=wanted).plans
    assert plan.reboot_expected is expected
    assert f"a reboot is pending: kernel; mitigated by {BY}" in plan.notes
    assert "live patches: kpatch: enabled; kpatch_1; fixes 1 CVE" in plan.notes


@pytest.mark.parametrize(
    ("policy", "note"),
    [
        (RebootPolicy.IF_REQUIRED, "a reboot is expected because of kernel"),
        (RebootPolicy.NEVER, "no reboot is expected: the request allows none, although one is needed for kernel"),
    ],
)
def test_a_plan_says_why_it_expects_a_reboot_wherever_it_is_shown(
    fleet: SimFleet, web: SimMachine, policy: RebootPolicy, note: str
) -> None:
    web.world.packages.append(FakePackage("quiet", requires_reboot=False))
    report = fleet.patch(dry_run=True, reboot=policy)
    (plan,) = report.plans
    assert note in plan.notes
    assert note in render_plan_markdown(report, "a" * 64, "soon")
    assert note in render_html(report)
    (row,) = build_tables(report).machines
    assert note.endswith(row.reboot_expected_reason)
    assert row.reboot_expected_reason.endswith("kernel")
