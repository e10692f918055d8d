"""What people and programs do to take a run back. The form and the API call the same function."""

from collections.abc import Mapping, Sequence
from functools import partial

from fastapi import Request

from fleetpatch.acts.run_acts import start_patch
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.context import get_context
from flows.request.patch_request import WindowRequest
from flows.undo import build_undo_request
from tasks.domain.model import RunInfo
from tasks.domain.provided_machines import SnapshotState
from tasks.domain.states import RebootPolicy, UndoWay
from tasks.domain.undo import UndoSnapshot
from tasks.records.snapshots import SqlSnapshots

DEFAULT_MINUTES = WindowRequest().minutes


def start_undo(
    request: Request,
    run: RunInfo,
    machines: Sequence[str],
    key: str,
    *,
    exclude: Sequence[str] = (),
    minutes: float = DEFAULT_MINUTES,
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED,
    allow_removals: bool = False,
    by: UndoWay = UndoWay.PACKAGES,
    dry_run: bool = False,
) -> str:
    """Start the run that takes a run back, or its plan, and return the id of its flow run.

    The policy, the role and the audit log are those of a patch run. See ``build_undo_request`` for the arguments.

    Raises:
        RequestError: the run is not over, or has changed nothing on these machines.
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    context = get_context(request)
    inventory = context.fleet.read(ACT_WAIT_SECONDS).inventory
    undo = build_undo_request(
        context.history,
        run.id,
        machines,
        known=None if inventory is None else {machine.name for machine in inventory.machines},
        minutes=minutes,
        reboot=reboot,
        exclude=exclude,
        allow_removals=allow_removals,
        dry_run=dry_run,
        by=by,
        find_snapshots=partial(find_shown_snapshots, request),
    )
    return start_patch(request, undo, key)


def find_shown_snapshots(request: Request, run: RunInfo) -> Mapping[str, UndoSnapshot]:
    """Return the snapshots from before a run, by machine, to be shown. The run that uses one checks its seal."""
    records = get_context(request).records
    rows = SqlSnapshots(records.database, records.seals).read_open()
    of_run = (row for row in rows if row.run_id == run.id and row.state is not SnapshotState.UNKNOWN)
    return {row.machine: UndoSnapshot(row) for row in of_run}
