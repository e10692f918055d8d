"""Prints stop requests, abandoned runs and run leases, and builds their JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from fleetpatch.cli.runtime.error_description import describe_error
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_to_stderr, print_to_stdout, print_unwrapped, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_table
from flows.engine.interruption import find_suspension
from inventory.errors import FleetpatchError
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.run_errors import LeaseHeld
from tasks.records.setup import open_records
from tasks.reports.formatting import format_iso_utc

if TYPE_CHECKING:  # they load the engine, which a list of runs does not need
    from fleetpatch.cli.runtime.run_session import RunResult
    from flows.recovery.cancellation import CancelRequest
    from flows.recovery.unfinished_runs import AbandonedRun


def print_cancel_request(cancel_request: "CancelRequest", *, wait: bool) -> None:
    """Print the effect of a stop request on the run."""
    run, lease = cancel_request.run, cancel_request.lease
    if lease is not None and lease.is_held:
        print_unwrapped(f"Run {run.id} is running as {lease.holder}. It stops within seconds.")
        print_unwrapped("Nothing new begins. Jobs on machines end after their current transaction.")
        if not wait:
            print_unwrapped(f"To see the result: fleetpatch show {run.id}")
        return
    print_unwrapped(f"Run {run.id} has no live process ({_describe_last_holder(lease)}). Nothing more begins.")
    if not wait:
        print_unwrapped(f"To record the result: fleetpatch resume {run.id} --finalize")


def build_cancel_request_json(cancel_request: "CancelRequest") -> dict[str, object]:
    """Return it as JSON data."""
    return {
        "maintenanceRunId": cancel_request.run.id,
        "stopRequestedBy": cancel_request.stop_request.who,
        "stopReason": cancel_request.stop_request.reason,
        "stopRequestedDateTime": format_iso_utc(cancel_request.stop_request.at),
        **build_lease_holder_json(cancel_request.lease),
    }


def build_lease_holder_json(lease: LeaseStatus | None) -> dict[str, object]:
    """Return the process that executes a run as JSON data."""
    return {
        "executed": lease is not None and lease.is_held,
        "executedBy": str(lease.holder) if lease is not None and lease.is_held else None,
        "lastExecutedBy": str(lease.holder) if lease is not None and lease.holder is not None else None,
    }


ABANDONED_RUN_FACTS: Final["Sequence[Fact[AbandonedRun]]"] = (
    Fact("", lambda abandoned: abandoned.run.id, "run"),
    Fact("", lambda abandoned: abandoned.run.scope, "scope", limit=30),
    Fact("", lambda abandoned: f"{abandoned.since:%Y-%m-%d %H:%M:%S}", "abandoned (UTC)"),
    Fact("", lambda abandoned: str(abandoned.holder or "not known"), "last process", wraps=True),
    Fact("", lambda abandoned: abandoned.planned_action, "action", wraps=True),
)


def print_abandoned_runs(abandoned_runs: "Sequence[AbandonedRun]") -> None:
    """Print the runs without a live process."""
    if not abandoned_runs:
        print_to_stdout(
            "No run is abandoned. A run whose process died is listed a minute later, when its run lease has expired."
        )
        return
    print_to_stdout(build_list_table(ABANDONED_RUN_FACTS, abandoned_runs))


def print_recovery_result(abandoned_run: "AbandonedRun", result: "RunResult | FleetpatchError") -> None:
    """Print the result of a recovered run in one line."""
    verb = "finalized" if abandoned_run.finalize_reason else "suspended" if abandoned_run.suspension else "resumed"
    if not isinstance(result, FleetpatchError):
        print_to_stderr(Text(f"run {abandoned_run.run.id} was {verb}: {result.report.run.state}"))
        from fleetpatch.cli.views.run_result import print_report_error

        print_report_error(result)
        return
    error = describe_error(result)
    print_to_stderr(to_safe_text(f"run {abandoned_run.run.id} could not be {verb}: {error.message}", "bold red"))
    if error.hint:
        print_to_stderr(to_safe_text(f"hint: {error.hint}"))


def find_recovered_run_exit_code(result: "RunResult | FleetpatchError") -> int:
    """Return the exit code of a recovered run. A run that another process recovered meanwhile counts as success."""
    if isinstance(result, LeaseHeld):
        return int(ExitCode.SUCCESS)
    return int(describe_error(result).exit_code if isinstance(result, FleetpatchError) else result.exit_code)


def build_abandoned_run_json(
    abandoned_run: "AbandonedRun", result: "RunResult | FleetpatchError | None"
) -> dict[str, object]:
    """Return an abandoned run, and its result, as JSON data."""
    document: dict[str, object] = {
        "maintenanceRunId": abandoned_run.run.id,
        "scope": abandoned_run.run.scope,
        "lastExecutedBy": str(abandoned_run.holder) if abandoned_run.holder is not None else None,
        "abandonedSince": format_iso_utc(abandoned_run.since),
        "action": "wait" if abandoned_run.wait_reason else "finalize" if abandoned_run.finalize_reason else "resume",
        "reason": abandoned_run.finalize_reason or abandoned_run.wait_reason,
    }
    if isinstance(result, FleetpatchError):
        document |= describe_error(result).to_json()
    elif result is not None:
        document |= {"status": result.report.run.state.value, "exitCode": int(result.exit_code)}
    return document


def print_lease_holders(leases: Mapping[str, LeaseStatus | None], records: str | None) -> None:
    """Print the process of each unfinished run, or how to resume a run without a live process."""
    for run_id, lease in leases.items():
        stop_request = f"; asked to stop: {lease.stop.reason}" if lease is not None and lease.stop else ""
        if lease is not None and lease.is_held:
            until = f" until {lease.until:%Y-%m-%d %H:%M:%S} UTC" if lease.until else ""
            print_unwrapped(f"{run_id}: run lease held by {lease.holder}{until}{stop_request}")
            continue
        with open_records(records) as records_database:
            suspension = find_suspension(records_database.read_entries(run_id, "", require_seals=False))
        reason = suspension.reason if suspension is not None and suspension.is_complete else "abandoned"
        state = f"{run_id} was {reason} ({_describe_last_holder(lease)}){stop_request}"
        print_unwrapped(f"{state}. To continue: fleetpatch resume {run_id}")


def _describe_last_holder(lease: LeaseStatus | None) -> str:
    if lease is None or lease.holder is None or lease.until is None:
        return "its process is not known"
    return f"last process: {lease.holder}, until {lease.until:%Y-%m-%d %H:%M:%S} UTC"
