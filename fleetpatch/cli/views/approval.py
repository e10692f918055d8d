"""Prints runs that wait for approval, their plans and decisions, and builds their JSON."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, render_count, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_table
from fleetpatch.cli.views.plan import build_plan_table, print_machine_plan
from fleetpatch.cli.views.recovery import build_lease_holder_json
from flows.approval.answers import describe_approval, format_moment
from flows.approval.decisions import WaitingRun
from flows.approval.plan_rendering import MAX_NAMES, describe_plan, find_service_restarts, group_identical_plans
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunInfo, RunReport, Update
from tasks.domain.protocols.leases import LeaseStatus
from tasks.records.approvals import Approval, ApprovalDecision, build_approval_row
from tasks.reports.export.tabular_formats import build_row_json
from tasks.rules.runs.approval import build_approve_command, compute_report_digest
from tasks.rules.runs.figures import collect_cves, compute_min_seconds, predict_reboot
from tasks.rules.timing.maintenance_window import describe_window


def _list_chosen(waiting_run: WaitingRun) -> list[Update]:
    return [update for plan in waiting_run.plans for update in plan.chosen]


def _render_urgent(waiting_run: WaitingRun) -> Text:
    chosen = _list_chosen(waiting_run)
    return render_count(sum(update.classification.is_urgent for update in chosen), "red")


WAITING_RUN_FACTS: Final[Sequence[Fact[WaitingRun]]] = (
    Fact("", lambda waiting: waiting.run.id, "run"),
    Fact(
        "",
        lambda waiting: str(waiting.run.request.get("configuration") or waiting.run.scope),
        "configuration or scope",
        limit=30,
        wraps=True,
    ),
    Fact("", lambda waiting: sum(bool(plan.chosen) for plan in waiting.plans), "machines", is_number=True),
    Fact("", lambda waiting: render_count(len(_list_chosen(waiting)), "bold"), "updates", is_number=True),
    Fact("", _render_urgent, "security", is_number=True),
    Fact(
        "",
        lambda waiting: format_moment(waiting.approval.expires_at, _find_zone_name(waiting.run)),
        "until",
        wraps=True,
    ),
    Fact("", lambda waiting: waiting.run.started_by, "started by", limit=20, wraps=True),
)


def print_waiting_runs(waiting_runs: Sequence[WaitingRun]) -> None:
    """Print the runs that wait, the first to expire on top."""
    if not waiting_runs:
        print_to_stdout("No run waits for approval.")
        return
    print_to_stdout(build_list_table(WAITING_RUN_FACTS, waiting_runs))
    print_unwrapped(f"To see the plan: fleetpatch approvals {waiting_runs[0].run.id}")
    print_unwrapped(f"To approve it: {build_approve_command(waiting_runs[0].run.id, waiting_runs[0].approval.digest)}")


def print_plan_for_approval(report: RunReport, approval: Approval | None) -> None:
    """Print the whole plan of a run, and its approval."""
    run = report.run
    print_to_stdout(Text.assemble(("Plan of run ", "bold"), (run.id, "bold"), f": {describe_plan(report)}"))
    if run.window is not None:
        print_to_stdout(f"Window {describe_window(run.window)}")
    print_approval_status(run, approval)
    headings = ("wave", "machine", "updates", "security", "CVEs", "minutes", "reboot")
    print_to_stdout("", build_plan_table(report, headings, {}))
    for names, plan in group_identical_plans(report.plans):
        print_machine_plan(plan, names)
        fixed = collect_cves(plan.chosen)
        if fixed:
            print_to_stdout(Text.assemble("  fixes ", to_safe_text(join_first_names(fixed, 20), "dim")))
    for machine, services in find_service_restarts(report).items():
        service_names = to_safe_text(join_first_names(services, MAX_NAMES))
        print_to_stdout(Text.assemble(to_safe_text(machine), ": services that run replaced files: ", service_names))


def print_approval_status(run: RunInfo, approval: Approval | None) -> None:
    """Print the approval of a run, and how to approve it."""
    if approval is None:
        print_to_stdout("The run does not wait for approval.")
        return
    approval_text = describe_approval(approval, _find_zone_name(run))
    print_to_stdout(
        Text.assemble(
            to_safe_text(approval_text[:1].upper() + approval_text[1:]), (f" (plan {approval.digest[:12]})", "dim")
        )
    )
    if approval.decision is ApprovalDecision.WAITING:
        print_unwrapped(f"To approve it: {build_approve_command(run.id, approval.digest)}")


def print_decision(approval: Approval, run: RunInfo, lease: LeaseStatus | None) -> None:
    """Print a decision and its effect."""
    print_unwrapped(f"Run {run.id}: {describe_approval(approval, _find_zone_name(run))}")
    if lease is None or not lease.is_held:
        print_unwrapped(f"No process executes the run now. To continue it: fleetpatch resume {run.id}")
    elif approval.decision is ApprovalDecision.APPROVED:
        print_unwrapped("It continues within seconds, and begins when its window is open.")
    else:
        print_unwrapped("It ends within seconds. Nothing was begun.")


def build_waiting_runs_json(waiting_runs: Sequence[WaitingRun]) -> dict[str, object]:
    """Return the runs that wait as JSON data."""
    return {
        "approvals": [
            {
                **build_row_json(build_approval_row(waiting.approval)),
                "scope": waiting.run.scope,
                "configuration": waiting.run.request.get("configuration") or None,
                "startedBy": waiting.run.started_by,
                "machines": [_build_plan_json(plan) for plan in waiting.plans],
            }
            for waiting in waiting_runs
        ]
    }


def build_approval_json(report: RunReport, approval: Approval | None) -> dict[str, object]:
    """Return a run's plan and its approval as JSON data."""
    no_approval = {"maintenanceRunId": report.run.id, "approval": None}
    return {
        **(no_approval if approval is None else build_row_json(build_approval_row(approval))),
        "recordedPlan": compute_report_digest(report),
        "startedBy": report.run.started_by,
        "machines": [_build_plan_json(plan) for plan in report.plans],
    }


def build_decision_json(approval: Approval, lease: LeaseStatus | None) -> dict[str, object]:
    """Return a decision as JSON data."""
    return {**build_row_json(build_approval_row(approval)), **build_lease_holder_json(lease)}


def _build_plan_json(plan: MachinePlan) -> dict[str, object]:
    return {
        "machine": plan.machine,
        "minutes": round(plan.prediction.total_seconds / 60, 1),
        "minutesWithoutReboot": round(compute_min_seconds(plan) / 60, 1),
        "predictionBasis": plan.prediction.basis,
        "rebootExpected": predict_reboot(plan).value,
        "updates": [
            {
                "id": update.id,
                "name": update.name,
                "installed": update.installed,
                "version": update.available,
                "classification": update.classification.value,
                "cves": list(update.cves) if update.cves is not None else None,
            }
            for update in plan.chosen
        ],
        "skipped": [
            {
                "id": skipped_update.update.id,
                "name": skipped_update.update.name,
                "state": skipped_update.state.value,
                "reason": skipped_update.reason,
            }
            for skipped_update in plan.skipped
        ],
        "notes": list(plan.notes),
    }


def _find_zone_name(run: RunInfo) -> str:
    return run.window.zone if run.window else "UTC"
