"""runs, orders, show, report and why: show the records of runs and orders, and write a report of a run again."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import JsonOption, MachineArgument, RecordsOption, RunArgument, app, parse_path
from fleetpatch.cli.runtime.completion import complete_machine, complete_update
from fleetpatch.cli.runtime.output import print_json, print_json_or_text, print_to_stdout, to_safe_text
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.model import Assessment, RunInfo
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.reports.formatting import format_count
from tasks.reports.sanitizing import sanitize_to_one_line

if TYPE_CHECKING:
    from tasks.records.queries.history import History

PANEL = "Look back"
_MASK_CHARACTERS = frozenset("*?[=")
"""With one of them, a name of an update is a mask: it may match nothing."""
KINDS = ("patch", "stage", "plan", "assess", "shard")


class ReportFormat(StrEnum):
    """The formats of reports."""

    HTML = "html"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@app.command("runs", rich_help_panel=PANEL)
def list_runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many runs.")] = 20,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Only runs of this kind: patch, stage, plan, assess, or shard: the parts of runs of several sites.",
            autocompletion=lambda: list(KINDS),
        ),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs, newest first."""
    from fleetpatch.cli.runtime.run_lookup import open_history, read_open_run_leases
    from fleetpatch.cli.views.recovery import build_lease_holder_json, print_lease_holders
    from fleetpatch.cli.views.runs import print_runs
    from tasks.domain.rows.runs import build_run_row
    from tasks.records.queries.other_fleets import describe_other_fleets
    from tasks.reports.export.tabular_formats import build_row_json

    if kind not in {None, *KINDS}:
        raise typer.BadParameter(f"--kind is one of {', '.join(KINDS)}")
    history = open_history(records)
    recorded_runs = history.read_runs(limit, kind=kind)
    other_fleets = "" if recorded_runs else describe_other_fleets(history.database)
    leases = read_open_run_leases(recorded_runs, records)
    rows = [build_run_row(run) for run in recorded_runs]
    if as_json:
        more = {run_id: build_lease_holder_json(lease) for run_id, lease in leases.items()}
        runs = [build_row_json(row) | more.get(row.run_id, {}) for row in rows]
        print_json({"runs": runs} | ({"otherFleets": other_fleets} if other_fleets else {}))
    else:
        print_runs(rows, other_fleets)
        print_lease_holders(leases, records)


@app.command("orders", rich_help_panel=PANEL)
def list_orders(
    machine: Annotated[
        str, typer.Option("--machine", "-m", metavar="NAME", help="Only orders to it.", autocompletion=complete_machine)
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what people changed on machines outside of runs: enrolments for hotpatches, and the systems' updaters."""
    from fleetpatch.cli.views.orders import build_orders_json, print_orders
    from tasks.records.machine_orders import SqlMachineOrders
    from tasks.records.setup import open_records

    with open_records(records) as database:
        rows = SqlMachineOrders(database.database).read_newest(limit, machine)
    print_json_or_text(as_json, build_orders_json, print_orders, rows)


@app.command("show", rich_help_panel=PANEL)
def show_run(
    run: RunArgument = "last",
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-m",
            metavar="NAME",
            help="Show everything about one machine of the run.",
            autocompletion=complete_machine,
        ),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Show the output of the package manager.")] = False,
    journal: Annotated[bool, typer.Option("--journal", help="Show the journal: each act that began or ended.")] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the result of a run, or of one machine in it."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history, read_full_report, read_full_summary
    from fleetpatch.cli.views.runs import (
        build_show_json,
        print_job_logs,
        print_journal,
        print_run_summary,
        print_shards,
    )
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.queries.shard_rows import read_shard_rows
    from tasks.records.queries.whole_journal import read_whole_journal

    history = open_history(records)
    recorded_run = find_run(history, run)
    shards = read_shard_rows(history.database, recorded_run.id, SystemClock().now())
    if machine is not None:
        _require_machine_in_run(history, recorded_run.id, machine)
    if as_json:
        print_json(
            build_show_json(
                history, read_full_report(history, recorded_run.id, machine), machine, shards, log=log, journal=journal
            )
        )
        return
    if not (log or journal):
        if machine is not None:
            from fleetpatch.cli.views.machine import print_machine

            print_machine(read_full_report(history, recorded_run.id, machine), machine)
        elif recorded_run.kind == "plan":
            from fleetpatch.cli.views.plan import print_plan

            print_plan(read_full_report(history, recorded_run.id))
        else:
            print_run_summary(read_full_summary(history, recorded_run.id))
        if machine is None:
            print_shards(shards)
            _print_whole_run(recorded_run)
            _print_approval(history, recorded_run)
            _print_unfinished_acts(history, recorded_run, records)
    if journal:
        print_journal(read_whole_journal(history, recorded_run.id, machine))
    if log:
        print_job_logs(history, recorded_run.id, machine)


@app.command("report", rich_help_panel=PANEL)
def write_run_report(
    run: RunArgument = "last",
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="DIR",
            parser=parse_path,
            help="Target folder. The report is in a subfolder with the id of the run.",
        ),
    ] = Path(),
    formats: Annotated[
        list[ReportFormat] | None,
        typer.Option("--format", "-f", help="Format of the report. Repeatable. Default: all."),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a recorded run again, as HTML, CSV, Parquet and JSON."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history, read_full_report
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.rollouts import read_rollout_progress
    from tasks.records.setup import open_records
    from tasks.reports.writer import write_report

    history = open_history(records)
    full_report = read_full_report(history, find_run(history, run).id)
    logs = history.open_job_logs(full_report.run.id)
    with open_records(records) as database:
        rollout = read_rollout_progress(database.database, full_report, SystemClock().now())
    written = write_report(
        full_report,
        to,
        logs,
        [report_format.value for report_format in formats or ReportFormat],
        rollout=rollout,
        is_current=lambda: history.is_unchanged(full_report.run),
    )
    if as_json:
        print_json({"maintenanceRunId": full_report.run.id, "files": {key: str(path) for key, path in written.items()}})
    for key in ("html", "json", "directory") if not as_json else ():
        if key in written:
            print_to_stdout(f"{key}: {written[key]}")
    logs.require_readable()


@app.command("why", rich_help_panel=PANEL)
def explain_update(
    machine: MachineArgument,
    update: Annotated[
        str,
        typer.Argument(
            metavar="UPDATE", help='Name of an update, or a mask such as "linux-*".', autocompletion=complete_update
        ),
    ] = "*",
    runs: Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many of its latest runs to search.")] = 5,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why an update was installed on a machine, or why not."""
    from fleetpatch.cli.runtime.run_lookup import open_history, read_open_run_leases
    from fleetpatch.cli.views.explanation import build_why_json, print_explanations

    history = open_history(records)
    explanations = history.explain_updates(machine, update, runs=runs)
    latest = history.read_latest_assessments([machine]).get(machine)
    open_leases = read_open_run_leases(history.read_unfinished_runs(), records)
    leases = {run: lease for run, lease in open_leases.items() if machine in history.read_machine_names(run)}
    if not explanations:
        _require_known_update(history, machine, update, latest, runs)
    if as_json:
        print_json(build_why_json(machine, explanations, latest) | {"openMaintenanceRunIds": list(leases)})
        return
    print_explanations(machine, update, explanations, latest, runs=runs)
    _print_holders(leases, records)


def _require_known_update(history: "History", machine: str, update: str, latest: Assessment | None, runs: int) -> None:
    """Raise RequestError if a machine, or an update named in full, is not in the records: a typing error, mostly."""
    names = {explanation.update.name for explanation in history.explain_updates(machine, runs=runs)}
    if latest is None and not names and machine not in (machines := history.read_known_machines()):
        hint = f"{did_you_mean(machine, machines)}To assess it: fleetpatch assess name={machine}"
        raise RequestError(f"the records have no machine {machine!r}", hint=hint)
    packages = latest.packages if latest is not None else None
    if packages is None or _MASK_CHARACTERS & set(update) or any(update in text for text in packages.problems):
        return
    assert latest is not None  # noqa: S101 - for the type checker
    raise RequestError(
        f"no update {update!r} is known on {machine}: none is pending since {latest.at:%Y-%m-%d %H:%M} UTC, "
        f"and none is in its latest {format_count(runs, 'run')}",
        hint=f"{did_you_mean(update, names)}What is up to date has no update. "
        f"All that is known: fleetpatch why {sanitize_to_one_line(machine)}",
    )


def _require_machine_in_run(history: "History", run_id: str, machine: str) -> None:
    machine_names = history.read_machine_names(run_id)
    if machine not in machine_names:
        raise RequestError(
            f"run {run_id} has no machine {machine!r}",
            hint=f"{did_you_mean(machine, machine_names)}It has {', '.join(machine_names[:10]) or 'none yet'}.",
        )


def _print_whole_run(run: RunInfo) -> None:
    """Print of which run this one is a part, if it is one."""
    from tasks.rules.runs.shards import find_whole_run_of

    if whole := find_whole_run_of(run):
        print_to_stdout("", to_safe_text(f"It is a part of run {whole}, which has its results too."))


def _print_approval(history: "History", run: RunInfo) -> None:
    """Print the approval of a run: who decided, or that it waits."""
    from tasks.records.approvals import ApprovalDecision, SqlApprovals

    approval = SqlApprovals(history.database).find_approval(run.id) if run.kind == "patch" else None
    if approval is not None:
        from fleetpatch.cli.views.approval import print_approval_status

        print_to_stdout("")
        print_approval_status(run, approval)
        if approval.decision is ApprovalDecision.WAITING:
            print_to_stdout(f"To see its plan: fleetpatch approvals {run.id}")


def _print_unfinished_acts(history: "History", run: RunInfo, records: str | None) -> None:
    """Print the open acts of an unfinished run, and the process that executes it."""
    from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts, read_open_run_leases
    from tasks.records.queries.whole_journal import read_whole_journal

    if run.state not in UNFINISHED_RUN_STATES:
        return
    unfinished = find_unfinished_acts(read_whole_journal(history, run.id))
    if unfinished:
        print_to_stdout("", "Begun, and no end is recorded (jobs on machines keep running):")
        for entry in unfinished:
            print_to_stdout(
                to_safe_text(f"  {entry.machine}  {entry.act}  {entry.key}  since {entry.at:%Y-%m-%d %H:%M:%S} UTC")
            )
    _print_holders(read_open_run_leases([run], records), records)


def _print_holders(leases: Mapping[str, LeaseStatus | None], records: str | None) -> None:
    from fleetpatch.cli.views.recovery import print_lease_holders

    if leases:
        print_to_stdout("")
        print_lease_holders(leases, records)
