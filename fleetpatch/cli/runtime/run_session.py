"""Executes runs in a thread, and handles signals and the display in the main thread."""

import contextvars
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn, TypeVar

from fleetpatch.cli.runtime import prefect_server
from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from fleetpatch.cli.runtime.interrupts import InterruptHandler, print_detached, print_stopping
from fleetpatch.cli.runtime.output import print_to_stderr
from fleetpatch.cli.runtime.progress import build_display
from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts, read_full_report
from flows.engine.run_info import build_run_id
from flows.execution import execute_run
from flows.local_run import build_reporting_runner, execute_locally
from flows.ports.caller import Caller, use_caller
from flows.prefect_api.connection import stop_ephemeral_servers
from flows.recovery.cancellation import CancelRequest, record_stop_request
from flows.recovery.reconciliation import recover_runs
from flows.recovery.unfinished_runs import AbandonedRun
from flows.request import PatchRequest, RunRequest
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from tasks.domain.errors import PatchError, RecordsError, RequestError
from tasks.domain.model import RunInfo, RunReport, Window
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.queries.run_summary import find_machines_without_outcome
from tasks.records.setup import open_records
from tasks.reports.formatting import format_count
from tasks.steps.context.run_control import StopToken

POLL_SECONDS = 0.25  # how soon the main thread reacts to a Ctrl-C
_RECORD_DETACH_SECONDS = 3.0
RUN_POLL_SECONDS = 1.0
WAIT_MESSAGE_SECONDS = 10.0

T = TypeVar("T")


class _DetachRequested(BaseException):
    """A second Ctrl-C: unwinds the display, and nothing else."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that is over."""

    report: RunReport
    exit_code: ExitCode  # the exit code of the command
    was_interrupted: bool = False  # whether a signal to this process stopped it
    # Why its report could not be written; None when it was, or when there is none.
    report_error: FleetpatchError | None = None


@dataclass(frozen=True, slots=True)
class _Session:
    """Runs in a thread of this process, while the main thread handles signals."""

    run_ids: Sequence[str]
    caller: Caller
    interrupts: InterruptHandler
    must_record_stop: bool  # whether a stop request is recorded, for the next attempt
    report_errors: Mapping[str, FleetpatchError]  # why reports could not be written, by run id
    pool: ThreadPoolExecutor  # has the one thread

    def wait_for(self, running: Future[T]) -> None:
        """Wait for the end of the runs. After a signal, print what still runs; after a second one, detach."""
        is_stop_printed, records = False, self.caller.records_url
        while not wait([running], timeout=POLL_SECONDS).done:
            reason = self.interrupts.stop_reason
            if reason and not is_stop_printed:
                is_stop_printed = True
                print_stopping(reason, self.run_ids, _read_running_acts(self.run_ids, records))
                for run_id in self.run_ids if self.must_record_stop else ():  # the next attempt reads it
                    record_stop = functools.partial(record_stop_request, run_id, self.caller, reason)
                    threading.Thread(target=record_stop, name="note", daemon=True).start()
            if self.interrupts.is_detach_requested:
                raise _DetachRequested

    def build_result(self, report: RunReport, *, was_stopped: bool) -> RunResult:
        """Return the result of one of the runs."""
        report_error = self.report_errors.get(report.run.id)
        code = to_run_exit_code(report, was_stopped=was_stopped, has_report_error=report_error is not None)
        return RunResult(report, code, bool(self.interrupts.stop_reason), report_error)


@contextmanager
def _open_session(
    run_ids: Sequence[str],
    machine_names: Sequence[str],
    window: Window | None,
    *,
    must_record_stop: bool,
    as_flow: bool,
    records: str | None,
) -> Iterator[_Session]:
    """Show the progress of runs on stderr, and handle Ctrl-C and SIGTERM, inside the block."""
    if as_flow:
        prefect_server.ensure_prefect_server()
    stop_token, report_errors = StopToken(), dict[str, FleetpatchError]()
    single_run_id = run_ids[0] if len(run_ids) == 1 else None
    title = f"run {single_run_id}" if single_run_id else f"{len(run_ids)} runs"
    pool = ThreadPoolExecutor(1, thread_name_prefix="run")
    try:
        with build_display(machine_names, window, title) as listener, InterruptHandler(stop_token) as interrupts:
            caller = Caller(
                listener=listener,
                stop_token=stop_token,
                records_url=records,
                run_id=single_run_id,
                report_errors=report_errors,
            )
            yield _Session(run_ids, caller, interrupts, must_record_stop, report_errors, pool)
    except _DetachRequested:
        _detach(run_ids, records)
    finally:
        pool.shutdown(wait=False)


def run_request_in_session(
    request: RunRequest, machine_names: Sequence[str], *, as_flow: bool, records: str | None
) -> RunResult:
    """Execute a request, show its progress on stderr, and handle Ctrl-C and SIGTERM.

    Args:
        request: the request.
        machine_names: of the machines in its scope, for the display.
        as_flow: as a Prefect flow; otherwise without Prefect.
        records: URL of the records.

    Raises:
        FleetpatchError: the run could not be executed. Failed machines are no error: the report shows them.
    """
    now = SystemClock().now()
    window = request.window.to_window(now) if isinstance(request, PatchRequest) and not request.dry_run else None
    run_ids, must_record_stop = (build_run_id(now),), window is not None
    with _open_session(
        run_ids, machine_names, window, must_record_stop=must_record_stop, as_flow=as_flow, records=records
    ) as session:
        execute = functools.partial(execute_locally, request, session.caller)
        if as_flow and isinstance(request, PatchRequest):
            from flows.patch import patch_fleet

            execute = functools.partial(_call_flow, functools.partial(patch_fleet, request), session.caller)
        elif as_flow:
            from flows.assess import assess_fleet

            execute = functools.partial(_call_flow, functools.partial(assess_fleet, request), session.caller)
        running = session.pool.submit(contextvars.copy_context().run, execute)
        session.wait_for(running)
    return session.build_result(running.result(), was_stopped=session.caller.stop_token.is_stopping)


def resume_run_in_session(
    run: RunInfo,
    machine_names: Sequence[str],
    *,
    finalize_reason: str = "",
    ends_without_key: bool = False,
    as_flow: bool,
    records: str | None,
) -> RunResult:
    """Resume or finalize a run without a live process, in the same way.

    Args:
        run: the run.
        machine_names: of its machines, for the display.
        finalize_reason: why nothing more is begun; "" when the run is resumed.
        ends_without_key: whether the run ends without a look at any machine if the key of its seal is missing.
        as_flow: as a Prefect flow; otherwise without Prefect.
        records: URL of the records.

    Raises:
        FleetpatchError: it could not be resumed: another process executes it, for example.
    """
    with _open_session(
        (run.id,), machine_names, run.window, must_record_stop=True, as_flow=as_flow, records=records
    ) as session:
        caller = replace(session.caller, ends_without_key=ends_without_key)
        if finalize_reason:  # also for the process that goes on if this one is killed
            record_stop_request(run.id, caller, finalize_reason)
        resume = functools.partial(_resume_or_finalize, run.id, finalize_reason, caller, as_flow=as_flow)
        running = session.pool.submit(contextvars.copy_context().run, resume)
        session.wait_for(running)
    was_stopped = session.caller.stop_token.is_stopping and not finalize_reason
    return session.build_result(running.result(), was_stopped=was_stopped)


def resume_or_finalize_runs_in_session(
    abandoned_runs: Sequence[AbandonedRun], machine_names: Sequence[str], *, as_flow: bool, records: str | None
) -> Sequence[tuple[AbandonedRun, RunResult | FleetpatchError]]:
    """Resume or finalize runs without a live process, all at the same time, in the same way.

    Args:
        abandoned_runs: the runs.
        machine_names: of their machines, for the display.
        as_flow: each as a Prefect flow of its own; otherwise without Prefect.
        records: URL of the records.
    """

    def recover_one(abandoned_run: AbandonedRun, caller: Caller) -> RunReport:
        abandoned_run.signal_stop(caller.stop_token)
        return _resume_or_finalize(abandoned_run.run.id, abandoned_run.finalize_reason, caller, as_flow=as_flow)

    run_ids = tuple(abandoned_run.run.id for abandoned_run in abandoned_runs)
    with _open_session(
        run_ids, machine_names, None, must_record_stop=False, as_flow=as_flow, records=records
    ) as session:  # each run records its own stop request
        recover = functools.partial(recover_runs, abandoned_runs, session.caller, recover_one)
        running = session.pool.submit(contextvars.copy_context().run, recover)
        session.wait_for(running)
    recovered: list[tuple[AbandonedRun, RunResult | FleetpatchError]] = []
    for result in running.result():
        run = result.abandoned_run
        if result.report is None:
            recovered.append((run, result.error or RequestError("the run ended without a report")))
        else:
            was_stopped = bool(session.interrupts.stop_reason) and not run.finalize_reason
            recovered.append((run, session.build_result(result.report, was_stopped=was_stopped)))
    return recovered


def _resume_or_finalize(run_id: str, finalize_reason: str, caller: Caller, *, as_flow: bool) -> RunReport:
    if finalize_reason:
        caller.stop_token.request_stop(finalize_reason)
    if not as_flow:
        return execute_run(run_id, caller, build_reporting_runner)
    from flows.patch import resume_fleet

    return _call_flow(functools.partial(resume_fleet, run_id, finalize=bool(finalize_reason)), caller)


def _call_flow(flow: Callable[[], RunReport | None], caller: Caller) -> RunReport:
    """Return the report of a flow, also if a machine failed, and whether or not Prefect receives it.

    A flow takes only what a form can give. So it finds its caller in the context. Its thread is left behind if the
    server of Prefect does not answer any more.

    Raises:
        PatchError: the run was refused, for example because another run upgrades the same component.
        RequestError: the flow ended in a state without a report.
    """
    from prefect.exceptions import Abort, CancelledRun, FailedRun

    from flows.prefect_api.flow_end import FlowResultPlace, use_flow_result_place, wait_while_server_answers

    result_place, calling = FlowResultPlace(), Future[RunReport | None]()

    def call_flow() -> None:
        try:
            calling.set_result(flow())
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it again
            calling.set_exception(error)

    with use_flow_result_place(result_place), use_caller(caller):
        context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(call_flow,), name="flow", daemon=True).start()
    while not calling.done() and not result_place.ended.wait(POLL_SECONDS):
        pass
    try:
        report = calling.result() if wait_while_server_answers(calling.done) else result_place.get_result()
    except FleetPatchFailed as failure:
        return failure.report
    except (CancelledRun, FailedRun) as refusal:
        hint = "Nothing was begun. `fleetpatch history` shows other runs."
        raise PatchError(str(refusal), hint=hint) from refusal
    except Abort as taken:
        raise PatchError(str(taken), hint="Look at the run: the other process continues it.") from taken
    if report is None:
        raise RequestError("the run ended without a report")
    return report


def _read_running_acts(run_ids: Sequence[str], records: str | None) -> list[JournalEntry] | None:
    try:
        with open_records(records) as records_database:
            return [
                entry
                for run_id in run_ids
                for entry in find_unfinished_acts(records_database.read_entries(run_id, require_seals=False))
            ]
    except RecordsError:
        return None


def _detach(run_ids: Sequence[str], records: str | None) -> NoReturn:
    """End this process now, without waiting for its threads. Jobs on machines keep running."""
    print_detached(run_ids, _read_running_acts(run_ids, records))
    recording = threading.Thread(target=_record_detach, args=(run_ids, records), daemon=True)
    recording.start()
    recording.join(_RECORD_DETACH_SECONDS)
    stop_ephemeral_servers()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.INTERRUPTED)


def _record_detach(run_ids: Sequence[str], records: str | None) -> None:
    """Record that no process executes these runs any more. A run that is over meanwhile keeps its state."""
    try:
        with open_records(records) as records_database:
            for run_id in run_ids:
                run = History(records_database, require_seals=True).find_run(run_id)  # it is sealed again
                if run.state is OperationState.IN_PROGRESS:
                    message = "detached by a second Ctrl-C; jobs on machines kept running"
                    ended_at = SystemClock().now()
                    records_database.save(
                        replace(run, state=OperationState.UNKNOWN, message=message, ended_at=ended_at)
                    )
    except RecordsError:
        return  # the command printed how to see the run


def wait_for_run_end(history: History, cancel_request: CancelRequest, records: str | None) -> RunResult | None:
    """Wait until a run of another process is over; None when no process executes it."""
    run_id, printed_at = cancel_request.run.id, 0.0
    with open_records(records) as records_database:
        while True:
            lease = records_database.leases.find_lease(run_id)
            if (
                history.find_run(run_id).state is not OperationState.IN_PROGRESS
            ):  # read after the lease, which is released last
                report = read_full_report(history, run_id)
                return RunResult(report, to_run_exit_code(report))
            if lease is None or not lease.is_held:
                return None
            if time.monotonic() - printed_at >= WAIT_MESSAGE_SECONDS:
                printed_at = time.monotonic()
                unfinished_machines = find_machines_without_outcome(history.read_report(run_id))
                print_to_stderr(f"waiting for {format_count(len(unfinished_machines), 'machine')}")
            time.sleep(RUN_POLL_SECONDS)
