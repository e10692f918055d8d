"""Runs without Prefect: the same engine, in this process, from the same requests."""

from flows.carrying import carry_out, take_up
from flows.context import Caller
from flows.ports import PlainRunner, Ports
from flows.request import AssessRequest, PatchRequest
from tasks.model import RunReport


def carry_out_plainly(request: PatchRequest | AssessRequest, who: Caller) -> RunReport:
    """Do what was asked, without Prefect. Report files are written where the request names a directory.

    Unlike the flows, it does not raise when a machine failed: the report says so.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        RequestError: it is a run of a configuration without a window.
        RecordsError: history can't be kept.
    """
    if isinstance(request, PatchRequest):
        request.require_window()
    return carry_out(request, who, _runner)


def take_up_plainly(run_id: str, who: Caller) -> RunReport:
    """Go on with a run that nobody carries any more, without Prefect (see flows/carrying.py).

    Raises:
        LeaseHeld: somebody carries it.
        RequestError: it is over, or only looked at machines.
        RecordsError: there is no such run, or history can't be kept.
    """
    return take_up(run_id, who, _runner)


def _runner(request: PatchRequest | AssessRequest, ports: Ports) -> PlainRunner:
    return PlainRunner(request.report_directory, request.report_formats, ports.logs, ports.unwritten)
