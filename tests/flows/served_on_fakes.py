"""``patch-fleet`` and its kind on a Prefect server, with simulated machines, in processes of their own.

    python -m tests.flows.served_on_fakes             # offers, starts and ends processes, as a worker does

The machines live in the process of the test (``machines_at``), on a real clock; each process of a run reaches them from
there. So all is real but the machines: the server, its runner, signals, leases and records.
"""

import copyreg
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

import flows.assess
import flows.execution
import flows.patch
import flows.reconcile
from flows.engine.progress_recorder import ProgressRecorder
from flows.engine.shard_state import ShardGate
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.prefect_runtime.shard_runs import PrefectShardRuns
from flows.request.patch_request import PatchRequest
from inventory.machine import DEFAULT_SITE, Inventory, Machine
from tasks.domain.protocols.clock import SystemClock
from tasks.records.approvals import SqlApprovals
from tasks.records.queries.history import History
from tasks.records.run_progress import SqlRunProgress
from tasks.records.setup import open_records
from tests.flows.cli_on_fakes import WallClock
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.unused_ports import UNUSED_PORTS

NAMES = ("first", "second", "third")
PLACE = "FLEETPATCH_TEST_MACHINES"
SITES = "FLEETPATCH_TEST_SITES"
"""The sites of machines, as JSON; those that it does not name are of the default site."""
KEY = b"machines of a test"
HERE = "tests.flows.served_on_fakes"


class MachinesElsewhere(BaseManager):
    """Reaches them from another process."""


def fleet(seconds: float, second: int = 2) -> SimFleet:
    """Return machines on a real clock with two updates each, the second one with more. Each takes so many seconds."""
    made = SimFleet(clock=WallClock())
    for name in NAMES:
        updates = second if name == NAMES[1] else 2
        packages = [FakePackage(f"{name}-{n}", seconds=seconds, group=f"g{n}") for n in range(updates)]
        machine = made.add(name, packages)
        machine.boots.up_after = 2.0
    return made


@contextmanager
def machines_at(place: Path, made: SimFleet) -> Iterator[None]:
    """Let other processes reach a fleet's machines at a socket, for as long as the block lasts."""

    class Machines(BaseManager):  # of its own: what is registered is the class's
        """Has the machines, in the test's process."""

    Machines.register(
        "machine", callable=lambda name: made.machines[name], exposed=("run_script", "start_job", "poll_job", "close")
    )
    server = Machines(address=str(place), authkey=KEY).get_server()
    Thread(target=server.serve_forever, name="machines", daemon=True).start()
    yield  # it ends with the process


@contextmanager
def ports(request: Any, who: Caller) -> Iterator[Ports]:
    """Return the way to those machines, in place of an inventory's."""
    MachinesElsewhere.register("machine", exposed=("run_script", "start_job", "poll_job", "close"))
    there = MachinesElsewhere(address=os.environ[PLACE], authkey=KEY)
    there.connect()
    sites = dict.fromkeys(NAMES, DEFAULT_SITE) | json.loads(os.environ.get(SITES, "{}"))
    with open_records(who.records_url) as records:
        recorder = ProgressRecorder(who.listener, SqlRunProgress(records.database), SystemClock())
        made = Ports(
            inventory=Inventory(tuple(Machine(name, "192.0.2.1", site=site) for name, site in sites.items())),
            clock=SystemClock(),
            records=records,
            leases=records.leases,
            connect=lambda machine: there.machine(machine.name),  # type: ignore[attr-defined]
            find_manager=lambda _facts: FakeManager(),
            stop_token=who.stop_token,
            open_shard_runs=lambda: PrefectShardRuns(records, SystemClock(), request),
            **{**UNUSED_PORTS, "listener": recorder, "progress": recorder},
        )
        if isinstance(request, PatchRequest) and request.shard:
            yield replace(made, gate=ShardGate(History(records, require_seals=True), request))
        else:
            yield add_approval_gate(made, SqlApprovals(records.database))


def viewed(words: dict[str, Any]) -> MappingProxyType[str, Any]:
    """Return what a script is told as it was before it was sent."""
    return MappingProxyType(words)


copyreg.pickle(MappingProxyType, lambda view: (viewed, (dict(view),)))
if PLACE in os.environ:  # here is a process of a run, and not the test's
    setattr(flows.execution, "open_ports", ports)  # noqa: B010 - on purpose, and the type checker is right
patch_fleet, resume_fleet = flows.patch.patch_fleet, flows.patch.resume_fleet
reconcile_fleet = flows.reconcile.reconcile_fleet
assess_fleet = flows.assess.assess_fleet


def offered(request: dict[str, Any]) -> list[RunnerDeployment]:
    """Return what is offered; a Quick run of patch-fleet takes the request, the other one leaves out a machine."""
    made = []
    for flow, name, parameters in (
        (patch_fleet, "on-demand", {"request": request}),
        (patch_fleet, "other", {"request": {**request, "scope": "|".join(NAMES[:2])}}),
        (resume_fleet, "on-demand", {}),
        (assess_fleet, "on-demand", {}),
    ):
        deployment = flow.to_deployment(name=name, tags=["fleetpatch"], parameters=parameters)
        assert isinstance(deployment, RunnerDeployment)
        deployment.entrypoint = f"{HERE}.{flow.fn.__name__}"
        made.append(deployment)
    return made


if __name__ == "__main__":
    serve(*offered(json.loads(Path("request.json").read_text())))
