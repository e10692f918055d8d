"""approve, reject and approvals: a person's word about a run that waits for it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption

if TYPE_CHECKING:
    from tasks.records.approvals import Answer

PANEL = "Patch"
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or a beginning that no other has; `last` is the newest.")
]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who decides. Default: whoever is logged in.")]
Remark = Annotated[str, typer.Option("--remark", metavar="TEXT", help="Your words; they stand in the report.")]
PlanOption = Annotated[
    str,
    typer.Option("--plan", metavar="DIGEST", help="Only if the plan is the one that you have seen (see approvals)."),
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
    from flows.cli.run_pick import history, picked
    from flows.cli.screen import print_json
    from flows.context import Caller
    from flows.wiring import whoami
    from tasks.records.approvals import Answer

    found = picked(history(records), run)
    login = whoami(Caller())
    decide = approve_run if answer is Answer.APPROVED else reject_run
    decided = decide(found.id, name or login, remark, plan=plan, login=login, records_url=records)
    lease = carriers([found], records).get(found.id)
    if as_json:
        print_json(decided_document(decided, lease))
    else:
        tell_decided(decided, found, lease)
