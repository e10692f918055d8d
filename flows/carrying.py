"""Carry a run out, or take one up again: under a lease, with records that it can rely on."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace

from flows.campaign import Campaign, new_run_id, window_of
from flows.context import Caller
from flows.keeper import LeaseKeeper, this_process
from flows.past import Past, past_of, request_of
from flows.ports import Ports, Runner
from flows.request import AssessRequest, PatchRequest
from flows.steady import SteadyRecords
from flows.wiring import real_ports, whoami
from inventory.machine import Inventory
from tasks.model import RunReport
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.reporting.place import check_place

MakeRunner = Callable[[PatchRequest | AssessRequest, Ports], Runner]


def carry_out(
    request: PatchRequest | AssessRequest,
    who: Caller,
    make_runner: MakeRunner,
    *,
    ports: Ports | None = None,
    flow_run_id: str = "",
) -> RunReport:
    """Do what was asked, from its beginning.

    Args:
        request: what is to be done.
        who: on whose behalf.
        make_runner: says how the work is spread.
        ports: the way out; the real one by default.
        flow_run_id: Prefect's id of the run.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        RecordsError: history can't be kept.
        ReportError: reports can't be written where the request wants them. Nothing was begun.
    """
    if request.report_directory is not None:
        check_place(request.report_directory)
    with real_ports(request, who) if ports is None else nullcontext(ports) as way:
        request = _located(request, way.inventory)
        run_id = who.run_id or new_run_id(way.clock.now())
        return _carry(request, who, make_runner, way, run_id, flow_run_id, past=None)


def take_up(
    run_id: str, who: Caller, make_runner: MakeRunner, *, ports: Ports | None = None, flow_run_id: str = ""
) -> RunReport:
    """Go on with a run that nobody carries any more, from where it was left, within its own window.

    Machines are asked first: jobs that still run are attached to, finished ones are read, boot ids are compared; only
    then is anything begun.

    Args:
        run_id: its id, or a beginning of it that no other run has.
        who: on whose behalf. With a ``control`` that was stopped before, nothing new is begun: what runs is seen to
            its end, and each machine's true state is recorded.
        make_runner: says how the work is spread.
        ports: the way out; the real one by default.
        flow_run_id: Prefect's id of this attempt.

    Raises:
        LeaseHeld: somebody carries it.
        RequestError: it is over, or only looked at machines.
        RecordsError: there is no such run, or history can't be kept.
    """
    with open_records(who.records_url) as records:
        history = History(records)
        run = history.run(run_id)
        request = request_of(run)
        with real_ports(request, who) if ports is None else nullcontext(ports) as way:
            return _carry(request, who, make_runner, way, run.id, flow_run_id, past=lambda: past_of(history, run.id))


def _located(request: PatchRequest | AssessRequest, inventory: Inventory) -> PatchRequest | AssessRequest:
    """Return a request that names its inventory, so that whoever resumes it elsewhere doesn't find another one."""
    if inventory.source is None:
        return request
    return request.model_copy(update={"inventory": inventory.source.absolute()})


def _carry(
    request: PatchRequest | AssessRequest,
    who: Caller,
    make_runner: MakeRunner,
    ports: Ports,
    run_id: str,
    flow_run_id: str,
    past: Callable[[], Past] | None,
) -> RunReport:
    with ExitStack() as stack:
        ours: Callable[[], bool] = lambda: True  # noqa: E731 - a run that only looks needs no lease
        if isinstance(request, PatchRequest) and not request.dry_run:
            holder = this_process(whoami(who))
            keeper = LeaseKeeper(ports.leases, run_id, ports.control, holder)
            ours = stack.enter_context(keeper).ours
            ports = replace(ports, records=ports.records.held(run_id, holder))
        left = past() if past is not None else None  # read only now that the run is ours: nobody adds to it
        window = left.run.window if left is not None else window_of(request, ports.clock.now())
        until = window.end if window is not None else None
        if who.unwritten is not None:
            ports = replace(ports, unwritten=who.unwritten.__setitem__)
        ports = replace(ports, records=SteadyRecords(ports.records, ports.clock, until, ports.watch, ours))
        runner, by = make_runner(request, ports), whoami(who)
        campaign = Campaign(request, ports, runner, run_id=run_id, flow_run_id=flow_run_id, started_by=by, past=left)
        return campaign.carry_out()
