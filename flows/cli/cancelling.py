"""Runs that were asked to stop, and runs that nobody carries out: what is said of them."""

import time
from collections.abc import Mapping, Sequence

from rich.text import Text

from flows.cli.conduct import Conducted
from flows.cli.ending import tell_unwritten
from flows.cli.exits import Code, code_of, trouble
from flows.cli.run_pick import whole
from flows.cli.screen import err, note, out, safe, say, solid, table
from flows.recovery import Asked, LeftRun
from flows.suspension import suspension_of
from inventory.errors import FleetpatchError
from tasks.errors import LeaseHeld
from tasks.model import RunInfo
from tasks.records.history import History, unfinished_of
from tasks.records.opening import open_records
from tasks.reporting.text import iso, one_line, plural
from tasks.seams.leases import Holder, LeaseView
from tasks.states import OPEN, OperationState

LOOK_SECONDS = 1.0
TELL_SECONDS = 10.0


def tell_asked(asked: Asked, *, wait: bool) -> None:
    """Say what a request to stop means for the run."""
    run, lease = asked.run, asked.lease
    if lease is not None and lease.held:
        _say(f"Run {run.id} was asked to stop. It is carried out by {lease.holder}, who hears it within some seconds:")
        _say("nothing new is begun then, and jobs on machines end after their transaction.")
        if not wait:
            _say(f"What becomes of it: fleetpatch show {run.id}")
        return
    _say(f"Run {run.id} is not carried out by anybody: {_last(lease)}. Nothing more is begun in it.")
    if not wait:
        _say(f"To record what became of each machine: fleetpatch resume {run.id} --settle")


def asked_document(asked: Asked) -> dict[str, object]:
    """Return it as JSON data."""
    return {
        "maintenanceRunId": asked.run.id,
        "stopRequestedBy": asked.request.who,
        "stopReason": asked.request.reason,
        "stopRequestedDateTime": iso(asked.request.at),
        **carrier_document(asked.lease),
    }


def carrier_document(lease: LeaseView | None) -> dict[str, object]:
    """Return who carries a run out as JSON data."""
    return {
        "carried": lease is not None and lease.held,
        "carriedBy": str(lease.holder) if lease is not None and lease.held else None,
        "lastCarriedBy": str(lease.holder) if lease is not None and lease.holder is not None else None,
    }


def watch_to_its_end(past: History, asked: Asked, records: str | None) -> Conducted | None:
    """Wait until a run has ended that somebody else carries out; None when nobody does (any more)."""
    run_id, told = asked.run.id, 0.0
    with open_records(records) as kept:
        while True:
            lease = kept.leases.lease(run_id)
            if (
                past.run(run_id).state is not OperationState.IN_PROGRESS
            ):  # read after the lease, which is given back last of all
                report = whole(past, run_id)
                return Conducted(report, code_of(report))
            if lease is None or not lease.held:
                return None
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                note(f"waiting for {plural(len(unfinished_of(past.report(run_id))), 'machine')}")
            time.sleep(LOOK_SECONDS)


def tell_left(found: Sequence[LeftRun]) -> None:
    """Show the runs that nobody carries out."""
    if not found:
        say("No run was left half-way. One whose process has died is seen a minute later, when its lease is over.")
        return
    grid = table(solid("run"), solid("scope"), solid("left since (UTC)"), "last carried out by", "is")
    for left in found:
        grid.add_row(
            left.run.id,
            safe(left.run.scope, limit=30),
            f"{left.since:%Y-%m-%d %H:%M:%S}",
            safe(_name(left.holder)),
            safe(left.action),
        )
    say(grid)


def tell_taken(left: LeftRun, result: Conducted | FleetpatchError) -> None:
    """Say in a line what became of a run that was taken up."""
    what = "settled" if left.settle else "suspended" if left.suspension else "resumed"
    if isinstance(result, Conducted):
        note(Text(f"run {left.run.id} was {what}: {result.report.run.state}"))
        tell_unwritten(result)
        return
    told = trouble(result)
    err().print(Text(f"run {left.run.id} could not be {what}: {one_line(told.message)}", "bold red"), soft_wrap=True)
    if told.hint:
        err().print(Text(f"hint: {one_line(told.hint)}"), soft_wrap=True)


def code_of_taking(result: Conducted | FleetpatchError) -> int:
    """Return what taking a run up means for the exit code. That somebody else did so meanwhile is as good."""
    if isinstance(result, LeaseHeld):
        return int(Code.GOOD)
    return int(result.code if isinstance(result, Conducted) else trouble(result).code)


def left_document(left: LeftRun, result: Conducted | FleetpatchError | None) -> dict[str, object]:
    """Return a run that was left, and what became of it, as JSON data."""
    told: dict[str, object] = {
        "maintenanceRunId": left.run.id,
        "scope": left.run.scope,
        "lastCarriedBy": str(left.holder) if left.holder is not None else None,
        "abandonedSince": iso(left.since),
        "action": "wait" if left.waits else "settle" if left.settle else "resume",
        "reason": left.settle or left.waits,
    }
    if isinstance(result, Conducted):
        told |= {"status": result.report.run.state.value, "exitCode": int(result.code)}
    elif result is not None:
        told |= trouble(result).document()
    return told


def carriers(found: Sequence[RunInfo], records: str | None) -> Mapping[str, LeaseView | None]:
    """Return who carries out those of the runs that change machines and have no end."""
    open_ones = [run for run in found if run.claims_machines and run.state in OPEN]
    if not open_ones:
        return {}
    with open_records(records) as kept:
        return {run.id: kept.leases.lease(run.id) for run in open_ones}


def tell_carriers(carried: Mapping[str, LeaseView | None], records: str | None) -> None:
    """Say of runs without an end who carries them out, and what to do where nobody does."""
    for run_id, lease in carried.items():
        asked = f", and was asked to stop: {lease.stop.reason}" if lease is not None and lease.stop else ""
        if lease is not None and lease.held:
            _say(f"{run_id} is carried out by {lease.holder}{asked}")
            continue
        with open_records(records) as kept:
            suspension = suspension_of(kept.entries(run_id, ""))
        if suspension is not None and suspension.is_complete:
            _say(f"{run_id} was {suspension.reason} ({_last(lease)}){asked}: fleetpatch resume {run_id}")
        else:
            _say(f"{run_id} was abandoned ({_last(lease)}){asked}: fleetpatch resume {run_id}")


def _say(line: str) -> None:
    out().print(safe(line), soft_wrap=True)  # a command in it is copied as it stands


def _last(lease: LeaseView | None) -> str:
    if lease is None or lease.holder is None or lease.until is None:
        return "nobody is known to have begun it"
    return f"last by {lease.holder}, until {lease.until:%Y-%m-%d %H:%M:%S} UTC"


def _name(holder: Holder | None) -> str:
    return str(holder) if holder is not None else "nobody"
