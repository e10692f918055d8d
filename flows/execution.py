"""Execute a run, or resume one: under a lease, with records that it can rely on."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
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

RunnerFactory = Callable[[PatchRequest | AssessRequest, Ports], Runner]


def execute_request(
    request: PatchRequest | AssessRequest,
    caller: Caller,
    build_runner: RunnerFactory,
    *,
    ports: Ports | None = None,
    flow_run_id: str = "",
) -> RunReport:
    """Do what was asked, from its beginning.

    Args:
        request: what is to be done.
        caller: on whose behalf.
        build_runner: says how the work is spread.
        ports: the way out; the real one by default.
        flow_run_id: Prefect's id of the run.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        RecordsError: history can't be kept.
        ReportError: reports can't be written where the request wants them. Nothing was begun.
    """
    if request.report_directory is not None:
        require_writable_directory(request.report_directory)
    with open_ports(request, caller) if ports is None else nullcontext(ports) as run_ports:
        request = _with_inventory_path(request, run_ports.inventory)
        run_id = caller.run_id or build_run_id(run_ports.clock.now())
        return _execute_with_lease(
            request, caller, build_runner, run_ports, run_id, flow_run_id, read_resume_state=None
        )


def resume_execution(
    run_id: str, caller: Caller, build_runner: RunnerFactory, *, ports: Ports | None = None, flow_run_id: str = ""
) -> RunReport:
    """Go on with a run that nobody carries any more, from where it was left, within its own window.

    Machines are asked first: jobs that still run are attached to, finished ones are read, boot ids are compared; only
    then is anything begun.

    Args:
        run_id: its id, or a beginning of it that no other run has.
        caller: on whose behalf. With a ``stop_token`` that was stopped before, nothing new is begun: what runs is seen
            to its end, and each machine's true state is recorded.
        build_runner: says how the work is spread.
        ports: the way out; the real one by default.
        flow_run_id: Prefect's id of this attempt.

    Raises:
        LeaseHeld: somebody carries it.
        RequestError: it is over, or only looked at machines.
        RecordsError: there is no such run, or history can't be kept.
    """
    with open_records(caller.records_url) as records:
        history = History(records)
        run = history.find_run(run_id)
        request = parse_recorded_request(run)
        with open_ports(request, caller) if ports is None else nullcontext(ports) as run_ports:
            return _execute_with_lease(
                request,
                caller,
                build_runner,
                run_ports,
                run.id,
                flow_run_id,
                read_resume_state=lambda: read_resume_state(history, run.id),
            )


def _with_inventory_path(request: PatchRequest | AssessRequest, inventory: Inventory) -> PatchRequest | AssessRequest:
    """Return a request that names its inventory, so that whoever resumes it elsewhere doesn't find another one."""
    if inventory.source is None:
        return request
    return request.model_copy(update={"inventory": inventory.source.absolute()})


def _execute_with_lease(
    request: PatchRequest | AssessRequest,
    caller: Caller,
    build_runner: RunnerFactory,
    ports: Ports,
    run_id: str,
    flow_run_id: str,
    read_resume_state: Callable[[], ResumeState] | None,
) -> RunReport:
    with ExitStack() as stack:
        still_holds_lease: Callable[[], bool] = lambda: True  # noqa: E731 - a run that only looks needs no lease
        if isinstance(request, PatchRequest) and not request.dry_run:
            holder = build_holder(find_starter_name(caller))
            lease_renewer = LeaseRenewer(ports.leases, run_id, ports.stop_token, holder)
            still_holds_lease = stack.enter_context(lease_renewer).still_holds_lease
            ports = replace(ports, records=ports.records.with_lease(run_id, holder))
        resume_state = (
            read_resume_state() if read_resume_state is not None else None
        )  # read only now that the run is ours: nobody adds to it
        window = resume_state.run.window if resume_state is not None else build_window(request, ports.clock.now())
        until = window.end if window is not None else None
        if caller.report_errors is not None:
            ports = replace(ports, handle_report_error=caller.report_errors.__setitem__)
        ports = replace(
            ports, records=RetryingRecords(ports.records, ports.clock, until, ports.listener, still_holds_lease)
        )
        runner, starter = build_runner(request, ports), find_starter_name(caller)
        fleet_run = FleetRun(
            request,
            ports,
            runner,
            run_id=run_id,
            flow_run_id=flow_run_id,
            started_by=starter,
            resume_state=resume_state,
        )
        return fleet_run.execute()
