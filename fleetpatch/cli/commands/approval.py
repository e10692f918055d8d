"""approve, reject and approvals: a person decides about runs that wait for approval."""

from typing import Annotated, Final

import typer

from fleetpatch.cli.app import JsonOption, RecordsOption, RunArgument, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_run
from fleetpatch.cli.runtime.output import ask, can_ask, print_json, print_json_or_text, print_to_stderr
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.rules.runs.approval import build_approve_command, compute_report_digest

PANEL = "Patch"
ApproverOption = Annotated[str, typer.Option("--as", metavar="NAME", help="Who decides. Default: your login name.")]
RemarkOption = Annotated[str, typer.Option("--remark", metavar="TEXT", help="Your remark. The report shows it.")]
PlanDigestOption = Annotated[
    str,
    typer.Option(
        "--plan",
        metavar="DIGEST",
        help="Decide only about this plan; `approvals` shows its digest. Without it: show the plan and ask.",
    ),
]


@app.command("approvals", rich_help_panel=PANEL)
def list_approvals(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]",
            help="Show the whole plan of this run. Without it: list the runs that wait.",
            autocompletion=complete_run,
        ),
    ] = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs that wait for approval, or show the plan and the decision of one run."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history, read_full_report
    from fleetpatch.cli.views.approval import (
        build_approval_json,
        build_waiting_runs_json,
        print_plan_for_approval,
        print_waiting_runs,
    )
    from flows.approval.decisions import find_waiting_runs, read_approval

    history = open_history(records)
    if not run:
        print_json_or_text(as_json, build_waiting_runs_json, print_waiting_runs, find_waiting_runs(records))
        return
    report = read_full_report(history, find_run(history, run).id)
    approval = read_approval(report.run.id, records)
    print_json_or_text(as_json, build_approval_json, print_plan_for_approval, report, approval)


_DECISIONS: Final = {
    "approve": "Approve a run that waits for approval. It installs what its plan shows, and nothing else.",
    "reject": "Reject a run that waits for approval. It ends without a change.",
}
"""The verbs that decide, with their help."""


def _add_decision_command(verb: str, description: str) -> None:
    @app.command(verb, cls=ActingCommand, rich_help_panel=PANEL, help=description)
    def decide(
        run: RunArgument,
        name: ApproverOption = "",
        remark: RemarkOption = "",
        plan: PlanDigestOption = "",
        records: RecordsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from fleetpatch.cli.runtime.run_lookup import find_run, open_history, read_full_report, read_open_run_leases
        from fleetpatch.cli.views.approval import build_decision_json, print_decision
        from flows.approval.decisions import approve_run, reject_run
        from flows.ports.caller import read_login_name

        history = open_history(records)
        recorded_run = find_run(history, run)
        login = read_login_name()
        if verb == "approve" and not plan:
            plan_digest = _confirm_plan(read_full_report(history, recorded_run.id), records, as_json=as_json)
            if plan_digest is None:
                print_to_stderr("Nothing was done.")
                return
            plan = plan_digest
        record_decision = approve_run if verb == "approve" else reject_run
        approval = record_decision(recorded_run.id, name or login, remark, plan=plan, login=login, records_url=records)
        lease = read_open_run_leases([recorded_run], records).get(recorded_run.id)
        if as_json:
            print_json(build_decision_json(approval, lease))
        else:
            print_decision(approval, recorded_run, lease)


for _verb, _description in _DECISIONS.items():
    _add_decision_command(_verb, _description)


def _confirm_plan(report: RunReport, records: str | None, *, as_json: bool) -> str | None:
    """Show a waiting plan, ask for approval, and return its digest; None: no. RequestError: there is no terminal."""
    from fleetpatch.cli.views.approval import print_plan_for_approval
    from flows.approval.decisions import read_approval
    from tasks.records.approvals import ApprovalDecision

    approval = read_approval(report.run.id, records)
    if approval is None or approval.decision is not ApprovalDecision.WAITING:
        return ""  # the decision reports that the run does not wait
    plan_digest = compute_report_digest(report)
    if as_json or not can_ask():
        approve_command = build_approve_command(report.run.id, plan_digest)
        raise RequestError(
            f"run {report.run.id}: there is no terminal to show its plan; name the plan that you approve",
            hint=f"Read the plan (fleetpatch approvals {report.run.id}), then: {approve_command}",
        )
    print_plan_for_approval(report, approval)
    return plan_digest if ask("Approve this plan?") else None
