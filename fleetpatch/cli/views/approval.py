"""Prints runs that wait for approval, their plans and decisions, and builds their JSON."""

from collections.abc import Sequence

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, render_count, to_safe_text
from fleetpatch.cli.runtime.table import TextTable, build_number_column, build_table, build_unwrapped_column
from fleetpatch.cli.views.plan import print_machine_plan, render_reboot_expectation
from fleetpatch.cli.views.recovery import build_lease_holder_json
from flows.approval.answers import describe_approval, format_moment
from flows.approval.decisions import WaitingRun
from flows.approval.plan_rendering import (
    MAX_NAMES,
    count_fixed_cves,
    describe_plan,
    find_service_restarts,
    group_identical_plans,
)
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunInfo, RunReport
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.states import URGENT_CLASSIFICATIONS
from tasks.records.approvals import Approval, ApprovalDecision, build_approval_row
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import describe_prediction
from tasks.rules.runs.approval import build_approve_command, compute_report_digest
from tasks.rules.runs.figures import collect_cves, compute_min_seconds, predict_reboot
from tasks.rules.timing.maintenance_window import describe_window


def print_waiting_runs(waiting_runs: Sequence[WaitingRun]) -> None:
    """Print the runs that wait, the first to expire on top."""
    if not waiting_runs:
        print_to_stdout("No run waits for approval.")
        return
    grid = build_table(
        build_unwrapped_column("run"),
        "configuration or scope",
        build_number_column("machines"),
        build_number_column("updates"),
        build_number_column("security"),
        "until",
        "started by",
    )
    for waiting_run in waiting_runs:
        run, chosen = waiting_run.run, [update for plan in waiting_run.plans for update in plan.chosen]
        grid.add_row(
            run.id,
            to_safe_text(str(run.request.get("configuration") or run.scope), limit=30),
            str(sum(bool(plan.chosen) for plan in waiting_run.plans)),
            render_count(len(chosen), "bold"),
            render_count(sum(update.classification in URGENT_CLASSIFICATIONS for update in chosen), "red"),
            format_moment(waiting_run.approval.expires_at, _find_zone_name(run)),
            to_safe_text(run.started_by, limit=20),
        )
    print_to_stdout(grid)
    print_unwrapped(f"To see the plan: fleetpatch approvals {waiting_runs[0].run.id}")
    print_unwrapped(f"To approve it: {build_approve_command(waiting_runs[0].run.id, waiting_runs[0].approval.digest)}")


def print_plan_for_approval(report: RunReport, approval: Approval | None) -> None:
    """Print the whole plan of a run, and its approval."""
    run = report.run
    print_to_stdout(Text.assemble(("Plan of run ", "bold"), (run.id, "bold"), f": {describe_plan(report)}"))
    if run.window is not None:
        print_to_stdout(f"Window {describe_window(run.window)}")
    print_approval_status(run, approval)
    print_to_stdout("", _build_plan_table(report))
    for names, plan in group_identical_plans(report.plans):
        print_machine_plan(plan, names)
        fixed = collect_cves(plan.chosen)
        if fixed:
            print_to_stdout(Text.assemble("  fixes ", to_safe_text(join_first_names(fixed, 20), "dim")))
    for machine, services in find_service_restarts(report).items():
        shown = to_safe_text(join_first_names(services, MAX_NAMES))
        print_to_stdout(Text.assemble(to_safe_text(machine), ": services that run replaced files: ", shown))


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


def build_waiting_run_json(waiting_run: WaitingRun) -> dict[str, object]:
    """Return a waiting run as JSON data."""
    return {
        **build_row_json(build_approval_row(waiting_run.approval)),
        "scope": waiting_run.run.scope,
        "configuration": waiting_run.run.request.get("configuration") or None,
        "startedBy": waiting_run.run.started_by,
        "machines": [_build_plan_json(plan) for plan in waiting_run.plans],
    }


def build_approval_json(report: RunReport, approval: Approval | None) -> dict[str, object]:
    """Return a run's plan and its approval as JSON data."""
    part = (
        build_row_json(build_approval_row(approval))
        if approval is not None
        else {"maintenanceRunId": report.run.id, "approval": None}
    )
    return {
        **part,
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


def _build_plan_table(report: RunReport) -> TextTable:
    grid = build_table(
        build_number_column("wave"),
        build_unwrapped_column("machine"),
        build_number_column("updates"),
        build_number_column("security"),
        build_number_column("CVEs"),
        build_number_column("minutes"),
        build_unwrapped_column("reboot"),
    )
    plans = {plan.machine: plan for plan in report.plans}
    for wave in report.waves:
        for name in wave.machines:
            plan = plans.get(name)
            if plan is None:
                grid.add_row(str(wave.number), to_safe_text(name), "no plan", "", "", "", "")
                continue
            grid.add_row(
                f"{wave.number}{' canary' if wave.canary else ''}",
                to_safe_text(name),
                render_count(len(plan.chosen), "bold"),
                render_count(sum(update.classification in URGENT_CLASSIFICATIONS for update in plan.chosen), "red"),
                str(count_fixed_cves(plan)),
                describe_prediction(plan) if plan.chosen else "",
                render_reboot_expectation(predict_reboot(plan)),
            )
    return grid


def _find_zone_name(run: RunInfo) -> str:
    return run.window.zone if run.window else "UTC"
