"""What waits for approval on the screen: the plan, machine by machine, and what was decided."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flows.approval import WaitingRun, moment_said, said
from flows.approval_view import alike, count_or_not_known, headline, names_of, restarts
from flows.cli.cancelling import carrier_document
from flows.cli.run_view import expected, tell_plan
from flows.cli.screen import number, out, right, safe, say, solid, table
from tasks.model import Plan, RunInfo, RunReport
from tasks.records.approvals import Answer, Approval
from tasks.reporting.text import iso
from tasks.reporting.wording import say_predicted
from tasks.rules.approval import command_to_approve, digest, shown
from tasks.rules.figures import cves_of, least_seconds, reboot_of
from tasks.rules.window import describe
from tasks.seams.leases import LeaseView
from tasks.states import URGENT


def tell_waiting(found: Sequence[WaitingRun]) -> None:
    """Show the runs that wait, what expires first on top."""
    if not found:
        say("No run waits for approval.")
        return
    grid = table(
        solid("run"),
        "configuration or scope",
        right("machines"),
        right("updates"),
        right("security"),
        "until",
        "started by",
    )
    for each in found:
        run, chosen = each.run, [update for plan in each.plans for update in plan.chosen]
        grid.add_row(
            run.id,
            safe(str(run.request.get("configuration") or run.scope), limit=30),
            str(sum(bool(plan.chosen) for plan in each.plans)),
            number(len(chosen), "bold"),
            number(sum(update.classification in URGENT for update in chosen), "red"),
            moment_said(each.approval.expires_at, _zone(run)),
            safe(run.started_by, limit=20),
        )
    say(grid)
    _line(f"The plan: fleetpatch approvals {found[0].run.id}")
    _line(f"Let it go on: {command_to_approve(found[0].run.id, found[0].approval.digest)}")


def tell_approval(report: RunReport, approval: Approval | None) -> None:
    """Show the whole plan of a run, and what was decided about it."""
    run = report.run
    say(Text.assemble(("Plan of run ", "bold"), (run.id, "bold"), f": {headline(report)}"))
    if run.window is not None:
        say(f"Window {describe(run.window)}")
    tell_standing(run, approval)
    say("", _machines(report))
    for names, plan in alike(report.plans):
        tell_plan(plan, names)
        fixed = cves_of(plan.chosen)
        if fixed:
            say(Text.assemble("  fixes ", safe(names_of(fixed, 20), "dim")))
    for machine, services in restarts(report).items():
        say(Text.assemble(safe(machine), " already runs on replaced files: ", safe(names_of(services))))


def tell_standing(run: RunInfo, approval: Approval | None) -> None:
    """Say what stands of a run's approval, and how to decide."""
    if approval is None:
        say("It does not wait for approval.")
        return
    what = said(approval, _zone(run))
    say(Text.assemble(safe(what[:1].upper() + what[1:]), (f" (plan {approval.digest[:12]})", "dim")))
    if approval.answer is Answer.WAITING:
        _line(f"Let it go on: {command_to_approve(run.id, approval.digest)}")


def tell_decided(approval: Approval, run: RunInfo, lease: LeaseView | None) -> None:
    """Say what a decision means."""
    _line(f"Run {run.id}: {said(approval, _zone(run))}")
    if lease is None or not lease.held:
        _line(f"Nobody carries it out now; whoever takes it up finds this: fleetpatch resume {run.id}")
    elif approval.answer is Answer.APPROVED:
        _line("It goes on within some seconds, and begins when its window is open.")
    else:
        _line("It ends within some seconds; nothing was begun.")


def waiting_document(each: WaitingRun) -> dict[str, object]:
    """Return a waiting run as JSON data."""
    return {
        **_approval_part(each.approval),
        "scope": each.run.scope,
        "configuration": each.run.request.get("configuration") or None,
        "startedBy": each.run.started_by,
        "machines": [_plan_part(plan) for plan in each.plans],
    }


def approval_document(report: RunReport, approval: Approval | None) -> dict[str, object]:
    """Return a run's plan and what was decided about it as JSON data."""
    part = _approval_part(approval) if approval is not None else {"maintenanceRunId": report.run.id, "approval": None}
    return {
        **part,
        "recordedPlan": digest(shown(report.plans)),
        "startedBy": report.run.started_by,
        "machines": [_plan_part(plan) for plan in report.plans],
    }


def decided_document(approval: Approval, lease: LeaseView | None) -> dict[str, object]:
    """Return a decision as JSON data."""
    return {**_approval_part(approval), **carrier_document(lease)}


def _approval_part(approval: Approval) -> dict[str, object]:
    return {
        "maintenanceRunId": approval.run_id,
        "approval": approval.answer.value or "waiting",
        "plan": approval.digest,
        "askedDateTime": iso(approval.asked_at),
        "expiresDateTime": iso(approval.expires_at),
        "decidedBy": approval.who or None,
        "decidedDateTime": iso(approval.decided_at),
        "remark": approval.remark,
    }


def _plan_part(plan: Plan) -> dict[str, object]:
    return {
        "machine": plan.machine,
        "minutes": round(plan.prediction.total / 60, 1),
        "minutesWithoutReboot": round(least_seconds(plan) / 60, 1),
        "predictionBasis": plan.prediction.basis,
        "rebootExpected": reboot_of(plan).value,
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
            {"id": each.update.id, "name": each.update.name, "state": each.state.value, "reason": each.reason}
            for each in plan.skipped
        ],
        "notes": list(plan.notes),
    }


def _machines(report: RunReport) -> Table:
    grid = table(
        right("wave"),
        solid("machine"),
        right("updates"),
        right("security"),
        right("CVEs"),
        right("minutes"),
        solid("reboot"),
    )
    plans = {plan.machine: plan for plan in report.plans}
    for wave in report.waves:
        for name in wave.machines:
            plan = plans.get(name)
            if plan is None:
                grid.add_row(str(wave.number), safe(name), "no plan", "", "", "", "")
                continue
            grid.add_row(
                f"{wave.number}{' canary' if wave.canary else ''}",
                safe(name),
                number(len(plan.chosen), "bold"),
                number(sum(update.classification in URGENT for update in plan.chosen), "red"),
                str(count_or_not_known(plan)),
                say_predicted(plan) if plan.chosen else "",
                expected(reboot_of(plan)),
            )
    return grid


def _zone(run: RunInfo) -> str:
    return run.window.zone if run.window else "UTC"


def _line(line: str) -> None:
    out().print(safe(line), soft_wrap=True)  # a command in it is copied as it stands
