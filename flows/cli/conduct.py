"""Carry a run out while somebody watches: the run in a thread of its own, signals and screen in the main one."""

import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from flows.campaign import new_run_id
from flows.carrying import take_up
from flows.cli import prefect_side
from flows.cli.exits import Code, code_of
from flows.cli.stopping import Interrupts, still_open, tell_leaving, tell_stopping
from flows.cli.watching import display
from flows.context import Caller, called_by
from flows.plain import carry_out_plainly
from flows.recovery import LeftRun, Reconciled, note_stop, reporting_runner, take_all
from flows.request import AssessRequest, PatchRequest
from inventory.errors import FleetpatchError
from tasks.errors import FleetPatchFailed, RecordsError, RequestError
from tasks.model import RunInfo, RunReport, Window
from tasks.records.opening import open_records
from tasks.rules.window import window as open_window
from tasks.seams.clock import SystemClock
from tasks.seams.records import JournalEntry
from tasks.states import OperationState
from tasks.steps.context import Control

LOOK_SECONDS = 0.1  # how soon a Ctrl-C is answered
_GOODBYE_SECONDS = 3.0

Request = PatchRequest | AssessRequest


class _Left(BaseException):
    """A second Ctrl-C: unwinds the display, and nothing else."""


@dataclass(slots=True)
class _Ending:
    """What a run in a thread came to."""

    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Conducted:
    """A run that came to its end.

    Attributes:
        code: the exit code that this means.
        interrupted: whether a person here asked it to stop.
        unwritten: why its report could not be written; None when it was, or when there is none.
    """

    report: RunReport
    code: Code
    interrupted: bool = False
    unwritten: FleetpatchError | None = None


def conduct(request: Request, names: Sequence[str], *, as_flow: bool, records: str | None) -> Conducted:
    """Carry a request out, show its progress on stderr, and mind Ctrl-C and SIGTERM.

    Args:
        request: what is to be done.
        names: of the machines in its scope, for the display.
        as_flow: as a Prefect flow; otherwise without Prefect.
        records: URL of the records.

    Raises:
        FleetpatchError: the run could not be carried out. That machines failed is no error: the report says so.
    """
    run_id = new_run_id(SystemClock().now())
    changes = isinstance(request, PatchRequest) and not request.dry_run
    seen = _Seen((run_id,), names, _window(request), changes=changes)
    return _conducted(seen, lambda who: _begun(request, who, as_flow=as_flow), as_flow=as_flow, records=records)


def conduct_again(
    run: RunInfo, names: Sequence[str], *, settle: str = "", as_flow: bool, records: str | None
) -> Conducted:
    """Take a run up that nobody carries out any more, in the same way.

    Args:
        run: the run.
        names: of its machines, for the display.
        settle: why nothing more is begun; "" when the run is resumed.
        as_flow: as a Prefect flow; otherwise without Prefect.
        records: URL of the records.

    Raises:
        FleetpatchError: it could not be taken up: somebody carries it, say.
    """
    seen = _Seen((run.id,), names, run.window, changes=True, settled=bool(settle))
    return _conducted(seen, lambda who: _again(run.id, settle, who, as_flow=as_flow), as_flow=as_flow, records=records)


def conduct_all(
    found: Sequence[LeftRun], names: Sequence[str], *, as_flow: bool, records: str | None
) -> Sequence[tuple[LeftRun, Conducted | FleetpatchError]]:
    """Take up runs that nobody carries out any more, all at once, in the same way.

    Args:
        found: the runs.
        names: of their machines, for the display.
        as_flow: each as a Prefect flow of its own; otherwise without Prefect.
        records: URL of the records.
    """

    def take(left: LeftRun, who: Caller) -> RunReport:
        try:
            with called_by(who):
                left.tell(who.control)
                return _again(left.run.id, left.settle, who, as_flow=as_flow)
        except FleetPatchFailed as failure:
            return failure.report

    seen = _Seen(tuple(left.run.id for left in found), names, None, changes=False)  # each run is noted on its own
    ending, asked, unwritten = _attended(seen, lambda who: take_all(found, who, take), as_flow=as_flow, records=records)
    done: Sequence[Reconciled] = ending.result or ()
    if ending.error is not None:
        raise ending.error
    return [(each.left, _conducted_one(each, asked, unwritten.get(each.left.run.id))) for each in done]


def _conducted_one(
    done: Reconciled, interrupted: bool, unwritten: FleetpatchError | None
) -> Conducted | FleetpatchError:
    if done.report is None:
        return done.error or RequestError("the run ended without a report")
    code = code_of(done.report, stopped=interrupted and not done.left.settle, unwritten=unwritten is not None)
    return Conducted(done.report, code, interrupted, unwritten)


def _again(run_id: str, settle: str, who: Caller, *, as_flow: bool) -> RunReport:
    if settle:
        who.control.stop(settle)
    if not as_flow:
        return take_up(run_id, who, reporting_runner)
    from flows.patch import resume_fleet

    return resume_fleet(run_id, settle=bool(settle))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the display shows of a run (or some), and whether a wish to stop it is noted for whoever comes after us."""

    run_ids: Sequence[str]
    names: Sequence[str]
    window: Window | None
    changes: bool
    settled: bool = False


def _conducted(seen: _Seen, body: Callable[[Caller], RunReport], *, as_flow: bool, records: str | None) -> Conducted:
    control = Control()
    ending, asked, failed = _attended(seen, body, as_flow=as_flow, records=records, control=control)
    report: RunReport | None = ending.result
    if report is None:
        raise ending.error or RequestError("the run ended without a report")
    unwritten = failed.get(report.run.id)
    code = code_of(report, stopped=control.stopping and not seen.settled, unwritten=unwritten is not None)
    return Conducted(report, code, asked, unwritten)


def _attended(
    seen: _Seen,
    body: Callable[[Caller], object],
    *,
    as_flow: bool,
    records: str | None,
    control: Control | None = None,
) -> tuple[_Ending, bool, Mapping[str, FleetpatchError]]:
    """Do it in a thread, and show how it goes.

    Returns:
        What it came to, whether a person here asked it to stop, and which runs' reports could not be written.
    """
    if as_flow:
        prefect_side.ready()
    control, ending = control or Control(), _Ending()
    unwritten: dict[str, FleetpatchError] = {}
    one = seen.run_ids[0] if len(seen.run_ids) == 1 else None
    try:
        with display(seen.names, seen.window, f"run {one}" if one else f"{len(seen.run_ids)} runs") as watch:
            who = Caller(watch=watch, control=control, records_url=records, run_id=one, unwritten=unwritten)
            with Interrupts(control) as interrupts, called_by(who):
                _watch(_begin(functools.partial(body, who), ending), interrupts, seen, who)
    except _Left:
        _leave(seen.run_ids, records)
    return ending, bool(interrupts.asked), unwritten


def _begun(request: Request, who: Caller, *, as_flow: bool) -> RunReport:
    if not as_flow:
        return carry_out_plainly(request, who)
    if isinstance(request, PatchRequest):
        from flows.patch import patch_fleet

        return patch_fleet(request)
    from flows.assess import assess_fleet

    return assess_fleet(request)


def _window(request: Request) -> Window | None:
    if isinstance(request, AssessRequest) or request.dry_run:
        return None
    asked = request.window
    return open_window(asked.start, asked.minutes, asked.zone, SystemClock().now())


def _begin(body: Callable[[], object], ending: _Ending) -> threading.Thread:
    def run() -> None:
        try:
            ending.result = body()
        except FleetPatchFailed as failure:
            ending.result = failure.report
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
            ending.error = error

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="run", daemon=True)
    thread.start()
    return thread


def _watch(thread: threading.Thread, interrupts: Interrupts, seen: _Seen, who: Caller) -> None:
    told = False
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if interrupts.asked and not told:
            told = True
            tell_stopping(interrupts.asked, seen.run_ids, _running(seen.run_ids, who.records_url))
            for run_id in seen.run_ids if seen.changes else ():  # it stands for whoever finishes what this one can't
                note = functools.partial(note_stop, run_id, who, interrupts.asked)
                threading.Thread(target=note, name="note", daemon=True).start()
        if interrupts.leave:
            raise _Left


def _running(run_ids: Sequence[str], records: str | None) -> list[JournalEntry] | None:
    try:
        with open_records(records) as kept:
            return [entry for run_id in run_ids for entry in still_open(kept.entries(run_id))]
    except RecordsError:
        return None


def _leave(run_ids: Sequence[str], records: str | None) -> NoReturn:
    """End this process now. Its threads are in the middle of things that only the machines know the end of."""
    tell_leaving(run_ids, _running(run_ids, records))
    note = threading.Thread(target=_note_leaving, args=(run_ids, records), daemon=True)
    note.start()
    note.join(_GOODBYE_SECONDS)
    prefect_side.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Code.INTERRUPTED)


def _note_leaving(run_ids: Sequence[str], records: str | None) -> None:
    """Keep in the records that nobody watches these runs any more. One that has ended meanwhile keeps its end."""
    from tasks.records.history import History

    try:
        with open_records(records) as kept:
            for run_id in run_ids:
                run = History(kept).run(run_id)
                message = "left by a second Ctrl-C; what ran on machines went on"
                left = replace(run, state=OperationState.UNKNOWN, message=message, ended_at=SystemClock().now())
                if run.state is OperationState.IN_PROGRESS:
                    kept.save(left)
    except RecordsError:
        return  # it was said on screen where to look
