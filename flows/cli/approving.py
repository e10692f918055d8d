"""approve, reject and approvals: a person's word about a run that waits for it."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption

if TYPE_CHECKING:
    from tasks.model import RunReport
    from tasks.records.approvals import Answer

PANEL = "Patch"
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or a beginning that no other has; `last` is the newest.")
]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who decides. Default: whoever is logged in.")]
Remark = Annotated[str, typer.Option("--remark", metavar="TEXT", help="Your words; they stand in the report.")]
PlanOption = Annotated[
    str,
    typer.Option(
        "--plan",
        metavar="DIGEST",
        help="Only if the plan is the one that you have seen (see approvals). Without it the plan is shown first.",
    ),
]


@app.command("approve", rich_help_panel=PANEL)
def approve(
    run: RunArgument,
    name: As = "",
    remark: Remark = "",
    plan: PlanOption = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a run go on that waits for approval: what its plan shows is installed, and nothing else."""
    from tasks.records.approvals import Answer

    _decide(Answer.APPROVED, run, name, remark, plan, records, as_json=as_json)


@app.command("reject", rich_help_panel=PANEL)
def reject(
    run: RunArgument,
    name: As = "",
    remark: Remark = "",
    plan: PlanOption = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a run that waits for approval, before it has begun anything."""
    from tasks.records.approvals import Answer

    _decide(Answer.REJECTED, run, name, remark, plan, records, as_json=as_json)


@app.command("approvals", rich_help_panel=PANEL)
def approvals(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Show this run's whole plan; without it, what waits.")
    ] = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs that wait for approval, or show the plan of one and what was decided."""
    from flows.approval import approval_of, waiting_runs
    from flows.cli.approving_view import approval_document, tell_approval, tell_waiting, waiting_document
    from flows.cli.run_pick import history, picked, whole
    from flows.cli.screen import print_json

    past = history(records)
    if not run:
        found = waiting_runs(records)
        if as_json:
            print_json({"approvals": [waiting_document(each) for each in found]})
        else:
            tell_waiting(found)
        return
    report = whole(past, picked(past, run).id)
    standing = approval_of(report.run.id, records)
    if as_json:
        print_json(approval_document(report, standing))
    else:
        tell_approval(report, standing)


def _decide(
    answer: "Answer", run: str, name: str, remark: str, plan: str, records: str | None, *, as_json: bool
) -> None:
    from flows.approval import approve_run, reject_run
    from flows.cli.approving_view import decided_document, tell_decided
    from flows.cli.cancelling import carriers
    from flows.cli.run_pick import history, picked, whole
    from flows.cli.screen import err, print_json
    from flows.wiring import login_name
    from tasks.records.approvals import Answer

    past = history(records)
    found = picked(past, run)
    login = login_name()
    if answer is Answer.APPROVED and not plan:
        agreed = _agreed(whole(past, found.id), records, as_json=as_json)
        if agreed is None:
            err().print("Nothing was done.")
            return
        plan = agreed
    decide = approve_run if answer is Answer.APPROVED else reject_run
    decided = decide(found.id, name or login, remark, plan=plan, login=login, records_url=records)
    lease = carriers([found], records).get(found.id)
    if as_json:
        print_json(decided_document(decided, lease))
    else:
        tell_decided(decided, found, lease)


def _agreed(report: "RunReport", records: str | None, *, as_json: bool) -> str | None:
    """Show a waiting run's plan, ask whether it may go on, and return the digest of what was shown; None: no.

    Raises:
        RequestError: there is nobody to be asked.
    """
    from flows.approval import approval_of
    from flows.cli.approving_view import tell_approval
    from flows.cli.screen import err
    from tasks.errors import RequestError
    from tasks.records.approvals import Answer
    from tasks.rules.approval import command_to_approve, digest, shown

    standing = approval_of(report.run.id, records)
    if standing is None or standing.answer is not Answer.WAITING:
        return ""  # that nothing waits is said where it is decided
    mark = digest(shown(report.plans))
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"run {report.run.id}: nobody can be shown its plan here, so say which one is approved",
            hint=f"Look at it (fleetpatch approvals {report.run.id}), then: {command_to_approve(report.run.id, mark)}",
        )
    tell_approval(report, standing)
    err().print("Approve this plan? [y/N] ", end="", markup=False)
    return mark if sys.stdin.readline().strip().lower() in {"y", "yes"} else None
