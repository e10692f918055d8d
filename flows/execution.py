"""Execute a run, or resume one: under a lease, with records that it can rely on."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from flows.composition import open_ports
from flows.engine.fleet_run import FleetRun
from flows.engine.lease_renewer import LeaseRenewer, build_holder
from flows.engine.resume_state import ResumeState, parse_recorded_request, read_resume_state
from flows.engine.retrying_records import RetryingRecords
from flows.engine.run_info import build_run_id, build_window
from flows.ports.caller import Caller, find_starter_name
from flows.ports.ports import Ports
from flows.ports.runner import Runner
from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from inventory.machine import Inventory
from tasks.model import RunReport
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.reporting.report_directory import require_writable_directory

RunRequest = PatchRequest | AssessRequest
RunnerFactory = Callable[[RunRequest, Ports], Runner]


def execute(
    run: RunRequest | str,
    caller: Caller,
    build_runner: RunnerFactory,
    *,
    ports: Ports | None = None,
    flow_run_id: str = "",
) -> RunReport:
    """Begin the run that a request asks for, or resume a run by its id. It returns at the end of the run.

    A resumed run keeps its window. Machines are asked first: jobs that still run are attached to, finished ones are
    read, boot ids are compared. Only then anything is begun. When the caller's ``stop_token`` is stopped before, the
    run is finalized: nothing new is begun, jobs that run are watched to their end, each machine's state is recorded.

    Args:
        run: a request, or the id of a run, or a beginning of it that no other run has.
        caller: on whose behalf.
        build_runner: returns the runner: Prefect's or the local one.
        ports: the way out; the real one by default.
        flow_run_id: Prefect's id of this attempt.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        LeaseHeld: another process has the run to resume.
        RecordsError: there is no such run, or history can't be kept.
        ReportError: reports can't be written where the request wants them. Nothing was begun.
        RequestError: the run to resume is over, or only looked at machines.
    """
    with ExitStack() as stack:
        request: RunRequest
        read_state: Callable[[], ResumeState] | None = None
        if isinstance(run, str):
            history = History(stack.enter_context(open_records(caller.records_url)))
            recorded_run = history.find_run(run)
            request, run_id = parse_recorded_request(recorded_run), recorded_run.id
            read_state = functools.partial(read_resume_state, history, run_id)
            ports = ports or stack.enter_context(open_ports(request, caller))
        else:
            if run.report_directory is not None:
                require_writable_directory(run.report_directory)
            ports = ports or stack.enter_context(open_ports(run, caller))
            request = _with_inventory_path(run, ports.inventory)
            run_id = caller.run_id or build_run_id(ports.clock.now())
        return _execute_with_lease(request, caller, build_runner, ports, run_id, flow_run_id, read_state)


def _with_inventory_path(request: RunRequest, inventory: Inventory) -> RunRequest:
    """Return a request that names its inventory, so that a process that resumes it elsewhere finds the same one."""
    if inventory.source is None:
        return request
    return request.model_copy(update={"inventory": inventory.source.absolute()})


def _execute_with_lease(
    request: RunRequest,
    caller: Caller,
    build_runner: RunnerFactory,
    ports: Ports,
    run_id: str,
    flow_run_id: str,
    read_resume_state: Callable[[], ResumeState] | None,
) -> RunReport:
    starter = find_starter_name(caller)
    with ExitStack() as stack:
        still_holds_lease: Callable[[], bool] = lambda: True  # noqa: E731 - a run that only looks needs no lease
        if isinstance(request, PatchRequest) and not request.dry_run:
            holder = build_holder(starter)
            lease_renewer = LeaseRenewer(ports.leases, run_id, ports.stop_token, holder)
            still_holds_lease = stack.enter_context(lease_renewer).still_holds_lease
            ports = replace(ports, records=ports.records.with_lease(run_id, holder))
        # Read only now: with the lease nobody else adds to the run.
        resume_state = read_resume_state() if read_resume_state is not None else None
        window = resume_state.run.window if resume_state is not None else build_window(request, ports.clock.now())
        until = window.end if window is not None else None
        ports = replace(
            ports,
            records=RetryingRecords(ports.records, ports.clock, until, ports.listener, still_holds_lease),
            handle_report_error=ports.handle_report_error
            if caller.report_errors is None
            else caller.report_errors.__setitem__,
        )
        fleet_run = FleetRun(
            request,
            ports,
            build_runner(request, ports),
            run_id=run_id,
            flow_run_id=flow_run_id,
            started_by=starter,
            resume_state=resume_state,
        )
        return fleet_run.execute()
