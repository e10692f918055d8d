"""audit: show the audit log, check its chain, remove old entries."""

from collections.abc import Sequence
from typing import Annotated

import typer

from fleetpatch.cli.app import JsonOption, RecordsOption, YesOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_names
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stderr, shorten_list
from inventory.files.problems import did_you_mean
from inventory.name_lists import format_count
from tasks.domain.errors import RequestError

audit_app = typer.Typer(
    no_args_is_help=True, help="Who did what: show the audit log, and check that nobody changed it."
)
app.add_typer(audit_app, name="audit", rich_help_panel="Look")


@audit_app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many entries, newest first.")] = 100,
    who: Annotated[
        str,
        typer.Option(
            "--who", metavar="NAME", help="Only what this proven name did.", autocompletion=complete_names("actors")
        ),
    ] = "",
    act: Annotated[str, typer.Option("--act", metavar="ACT", help="Only these acts: patch, approve, login …")] = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what people and programs did, newest first."""
    from fleetpatch.cli.views.audit import print_audit
    from tasks.records.audit.log import SqlAuditLog
    from tasks.records.setup import open_records
    from tasks.reports.export.tabular_formats import build_row_json

    with open_records(records) as database:
        log = SqlAuditLog(database.database)
        entries = log.read(limit, who=who, act=act)
        if not entries:
            for option, name, known_names in zip(("--who", "--act"), (who, act), log.read_names(), strict=True):
                _require_known(option, name, known_names)
    print_json_or_text(as_json, lambda entries: list(map(build_row_json, entries)), print_audit, entries)


def _require_known(option: str, name: str, known: Sequence[str]) -> None:
    """Raise RequestError for a name that the log does not have: an empty list would look like innocence."""
    if name and name not in known:
        listed = f"It has {', '.join(shorten_list(known, 10))}." if known else "It is empty."
        raise RequestError(f"{option}: the audit log has no {name!r}", hint=f"{did_you_mean(name, known)}{listed}")


@audit_app.command("verify")
def verify(
    head: Annotated[
        str,
        typer.Option(
            "--head", metavar="NUMBER:SEAL", help="An entry that must be there, as your syslog server has it."
        ),
    ] = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no entry was changed, added, removed or cut off. Exit code 0 only if that is certain."""
    from fleetpatch.cli.views.audit import AUDIT_EXIT_CODES, build_verification_json, print_verification
    from tasks.records.audit.log import SqlAuditLog
    from tasks.records.audit.seals_and_heads import parse_head
    from tasks.records.audit.verification import verify_log
    from tasks.records.setup import open_records

    expected = parse_head(head) if head else None
    with open_records(records) as database:
        verification = verify_log(SqlAuditLog(database.database), expected)
    print_json_or_text(as_json, build_verification_json, print_verification, verification)
    raise typer.Exit(int(AUDIT_EXIT_CODES[verification.state]))


@audit_app.command("cut")
def cut(
    through: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The newest entry that is removed.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why. The log keeps it.")],
    accept_faults: Annotated[
        bool, typer.Option("--accept-faults", help="Also if the log is broken. The log keeps what was wrong.")
    ] = False,
    yes: YesOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the oldest entries, up to a number. The log keeps who did it, when and why, and begins behind them."""
    from flows.ports.caller import read_os_actor
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.audit.cutting import cut_log
    from tasks.records.setup import open_records
    from tasks.reports.export.tabular_formats import build_row_json

    question = f"Remove all entries of the audit log up to {through}?"
    if not (yes or confirm(question, "removing entries of the audit log")):
        return
    with open_records(records) as database:
        actor = read_os_actor()
        entry, removed = cut_log(
            database.database,
            through,
            SystemClock().now(),
            (actor.who, actor.source, actor.claimed, actor.address),
            reason,
            accept_faults=accept_faults,
        )
    if as_json:
        print_json({"removed": removed, "entry": build_row_json(entry)})
    else:
        print_to_stderr(f"{format_count(removed, 'entry', ('is', 'are'))} removed. Entry {entry.number} records it.")


@audit_app.command("renew", cls=ActingCommand)
def renew(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why. The log keeps it.")],
    yes: YesOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a new chain of decisions, if you have deleted the records or restored an older backup."""
    from tasks.records.decisions import SqlDecisions
    from tasks.records.setup import open_records

    if not reason.strip():
        raise RequestError("a new chain of decisions needs a reason", hint="Say it with --reason TEXT.")
    question = (
        "Begin a new chain? Decisions that are gone count no more: tokens that were removed, runs that were stopped."
    )
    if not (yes or confirm(question, "beginning a new chain of decisions")):
        return
    with open_records(records) as database:
        fault, removed = SqlDecisions(database.database).begin_anew()
    if as_json:
        print_json({"fault": fault, "removed": removed})
    else:
        print_to_stderr(
            f"A new chain has begun ({format_count(removed, 'entry', ('is', 'are'))} removed). It was: {fault}"
        )
        print_to_stderr(
            "Restart the worker and the pages. If they run as other users, do the same as each of these users."
        )


@audit_app.command("send")
def send(records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """Send entries that your syslog server or webhook does not have yet. Exit code 1: some are left."""
    from fleetpatch.cli.runtime.row_table import Fact, build_list_json
    from flows.composition import read_own_secret
    from flows.notify.audit_forwarding import SYSLOG_VARIABLE, WEBHOOK_VARIABLE, Backlog, read_targets, send_pending
    from tasks.records.setup import open_records

    targets = read_targets()
    if not targets:
        raise RequestError(
            "the audit log is sent nowhere", hint=f"Set {SYSLOG_VARIABLE} or {WEBHOOK_VARIABLE} for all programs."
        )
    with open_records(records) as database:
        results = send_pending(database.database, targets, read_own_secret)
    if as_json:
        facts: Sequence[Fact[Backlog]] = (
            Fact("receiver", lambda result: result.receiver),
            Fact("count", lambda result: result.count),
            Fact("message", lambda result: result.message),
            Fact("fault", lambda result: result.fault),
            Fact("oldest", lambda result: result.oldest_at),
        )
        print_json(build_list_json(facts, results))
    else:
        for result in results:
            counted = format_count(result.count, "entry", ("is", "are"))
            message = f"{counted} not sent: {result.message or 'another program is sending'}"
            print_to_stderr(f"{result.receiver}: {message if result.count or result.fault else 'all is sent'}")
    is_left = any(result.count or result.fault for result in results)
    raise typer.Exit(int(ExitCode.MACHINE_FAILED if is_left else ExitCode.SUCCESS))
