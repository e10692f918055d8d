"""Attacks on the approval that a policy demands: runs that change machines without any update."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.admission import RefusedRun, admit_run
from flows.approval.gate import ApprovalGate
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from flows.request import PatchRequest
from flows.request.request_parts import HookRequest, HooksRequest
from tasks.domain.model import PackageState, RebootNeed, RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import HookKind, RebootPolicy, YesNoUnknown
from tasks.rules.runs.approval import UNKNOWN_STARTER, compute_plan_digest
from tasks.steps.start_checks import is_visit_needed_for_plan
from tests.contract.policy_doors import Stage, build_stage, call_local_engine
from tests.support.builders import make_assessment, make_package_state, make_plan, make_run
from tests.support.fake_clock import FakeClock

POLICY = "approval: {by: [nobody-here]}"
NO_UPDATES: dict[str, Any] = {"updates": {"classifications": []}, "approval": {"expires_minutes": 1}}
HOOK = HookRequest(name="x", kind=HookKind.CONTROLLER_COMMAND, target="/bin/true")


def build_waiting_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return machines that have reasons for a visit beside updates, under a policy that demands an approval."""
    folder.mkdir(exist_ok=True)
    stage = build_stage(folder, monkeypatch)
    stage.write_policy(POLICY)
    for machine in stage.fleet.machines.values():
        machine.world.services.outdated = ["nginx.service", "postgresql.service"]
        machine.world.reboot_answer = YesNoUnknown.YES
    return stage


def list_changes(stage: Stage) -> list[str]:
    """Return what became of the machines: jobs that began, reboots, services that were restarted."""
    return [
        f"{name}: {words}"
        for name, machine in stage.fleet.machines.items()
        for words, is_changed in (
            ("a job", bool(machine.begun())),
            ("a reboot", machine.boots.count > 0),
            ("a restart", len(machine.world.services.outdated) < 2),
        )
        if is_changed
    ]


def test_services_restart_without_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: a login with the role run. Way: no kind of update, but restarts of services. Must hold: the run waits
    for its approval, nothing restarts, and no machine with a pending reboot reboots.
    """
    stage = build_waiting_stage(tmp_path, monkeypatch)
    request = PatchRequest(scope="*", restart_services="IfRequired", **NO_UPDATES)
    said = call_local_engine(stage, request, Caller(name="eve", records_url=stage.url))
    assert "no approval until" in said
    assert list_changes(stage) == []


def test_a_hook_begins_without_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: a login with the role run. Way: no update, but a hook before the run. Must hold: no hook is called."""
    stage = build_waiting_stage(tmp_path, monkeypatch)
    mark = tmp_path / "called"
    hook = HookRequest(name="x", kind=HookKind.CONTROLLER_COMMAND, target=f"/usr/bin/touch {mark}")
    request = PatchRequest(scope="*", hooks=HooksRequest(before_run=[hook]), **NO_UPDATES)
    said = call_local_engine(stage, request, Caller(name="eve", records_url=stage.url))
    assert "no approval until" in said
    assert not mark.exists()


@pytest.mark.parametrize(("deployment", "configuration"), [("on-demand", ""), ("on-demand", "web"), ("web", "")])
def test_a_schedule_of_ones_own_is_a_known_starter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deployment: str, configuration: str
) -> None:
    """Attacker: a person with Prefect's password, who may approve. Way: a schedule of one's own at a deployment, with
    parameters of one's own. Must hold: it is not known who starts the run, and it is refused.
    """
    stage = build_waiting_stage(tmp_path, monkeypatch)
    due = datetime(2026, 3, 10, 1, tzinfo=UTC)
    request = PatchRequest(scope="*", configuration=configuration)
    origin = FlowRunOrigin("flow-1", due, deployment)
    admission = admit_run(request, Caller(records_url=stage.url), origin, FakeClock(due))
    assert isinstance(admission, RefusedRun)
    assert "it is not known who starts it" in admission.refusal.reason
    assert admission.report.run.started_by.startswith(UNKNOWN_STARTER)


def test_an_empty_plan_is_approved_for_other_acts() -> None:
    """Attacker: the starter of a run. Way: let an empty plan be approved, and start one with a reboot, restarts or
    hooks. Must hold: it is another plan.
    """
    requests = [
        PatchRequest(scope="*", **fields).model_dump(mode="json")
        for fields in (
            {},
            {"reboot": "Always"},
            {"restart_services": "Never"},
            {"repair": True},
            {"reboot_pending_first": True},
            {"reboot_if_live_patched": False, "live_patched_reboot_days": 0.0001},
            {"hooks": {"before_run": [HOOK]}},
        )
    ]
    assert len({compute_plan_digest({}, request) for request in requests}) == len(requests)


REQUESTS = st.fixed_dictionaries(
    {
        "reboot": st.sampled_from(list(RebootPolicy)),
        "restart_services": st.sampled_from(["Never", "IfRequired"]),
        "live_patched_reboot_days": st.sampled_from([None, 0.0001]),
        "hooks": st.sampled_from([{}, {"before_run": [HOOK]}, {"before_machine": [HOOK]}]),
        **{
            name: st.booleans()
            for name in ("repair", "reboot_pending_first", "reboot_if_live_patched", "download_only")
        },
    }
)
PACKAGES = st.builds(
    lambda answer, mitigated, problems, services: make_package_state(
        reboot=RebootNeed(answer, mitigated_by=mitigated, since=datetime(2026, 1, 1, tzinfo=UTC)),
        problems=problems,
        services_to_restart=services,
    ),
    st.sampled_from(YesNoUnknown),
    st.sampled_from(["", "kpatch"]),
    st.sampled_from([(), ("half-configured",)]),
    st.sampled_from([(), ("nginx.service",)]),
)


@given(REQUESTS, PACKAGES, st.booleans())
def test_whatever_may_begin_is_asked_for(fields: dict[str, Any], packages: PackageState, has_updates: bool) -> None:
    """Attacker: whoever fills in a request. Way: any values that are a reason to visit a machine, or a hook. Must hold:
    the gate asks wherever the engine would visit the machine, and before each hook.
    """
    request = PatchRequest.model_validate({"scope": "*", **fields})
    plan = make_plan() if has_updates else make_plan(chosen=())
    run = make_run(request=request.model_dump(mode="json"))
    planned = RunReport(run, (), plans=(plan,), assessments=(make_assessment(packages=packages),))
    gate = ApprovalGate(request, None, None, SystemClock())  # type: ignore[arg-type]  # it asks no records
    options = request.to_patch_options(window=run.window)
    begins = is_visit_needed_for_plan(plan, packages, options) or bool(request.hooks.to_hooks())
    assert gate.is_approval_needed(planned) or not begins
