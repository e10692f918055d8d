"""Runs without Prefect: the same engine, in this process, from the same requests."""

from flows.campaign import Campaign
from flows.context import Caller
from flows.ports import PlainRunner
from flows.request import AssessRequest, PatchRequest
from flows.wiring import real_ports, whoami
from tasks.model import RunReport


def carry_out_plainly(request: PatchRequest | AssessRequest, who: Caller) -> RunReport:
    """Do what was asked, without Prefect. Report files are written where the request names a directory.

    Unlike the flows, it does not raise when a machine failed: the report says so.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        RecordsError: history can't be kept.
    """
    ports = real_ports(request, who)
    runner = PlainRunner(request.report_directory, request.report_formats, ports.logs)
    return Campaign(request, ports, runner, run_id=who.run_id, started_by=whoami(who)).carry_out()
