"""Builds the run that takes an earlier run back. ``execute_locally`` or ``patch_fleet`` executes it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from flows.engine.undo_orders import find_undo_order
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.domain.states import RebootPolicy, UndoWay
from tasks.domain.undo import UndoSnapshot
from tasks.records.queries.history import History


def build_undo_request(
    history: History,
    run: str,
    machines: Sequence[str] = (),
    *,
    known: Collection[str] | None = None,
    inventory: Path | None = None,
    minutes: float = WindowRequest().minutes,
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED,
    exclude: Sequence[str] = (),
    allow_removals: bool = False,
    dry_run: bool = False,
    by: UndoWay = UndoWay.PACKAGES,
    find_snapshots: Callable[[RunInfo], Mapping[str, UndoSnapshot]] = lambda _run: {},
) -> PatchRequest:
    """Return the request for a run that takes back what an earlier run has installed. It reads only the records.

    Args:
        history: the records.
        run: the id of the run that is taken back, or a unique prefix of it.
        machines: those of its machines that go back. Empty: all on which it has changed something.
        known: the machines of the inventory: others are left out, unless they are named. None: all are known.
        inventory: of the fleet.
        minutes: of the window, which opens now.
        reboot: whether machines are rebooted.
        exclude: masks of updates that stay.
        allow_removals: whether other packages may be removed for it.
        dry_run: plan only.
        by: by which means. SNAPSHOT: what was written to the OS disks since the run is lost.
        find_snapshots: returns the snapshots from before the run, by machine.

    Raises:
        RequestError: the run does not exist, is not over, or has changed nothing on a named machine, or on any.
        RecordsError: the records can't be read.
    """
    order = find_undo_order(history, run, find_snapshots)
    # a machine that does not answer has no result, and its snapshot is all that is known of it
    unanswered = order.snapshots if by is UndoWay.SNAPSHOT and machines else ()
    changed = sorted({*order.changes, *order.unknown, *unanswered})
    for name in machines:
        if name not in changed and name in order.snapshots:
            raise RequestError(
                f"no package is known that run {order.run_id} has changed on {name!r}, but it has a snapshot of it",
                hint=f"To put its OS disks back to it: fleetpatch undo {order.run_id} {name} --by snapshot",
            )
        if name not in changed:
            raise RequestError(
                f"run {order.run_id} has installed nothing on {name!r}",
                hint=f"{did_you_mean(name, changed)}To see its machines: fleetpatch show {order.run_id}",
            )
    chosen = list(dict.fromkeys(machines)) or [name for name in changed if known is None or name in known]
    if not chosen:
        raise RequestError(
            f"no machine that run {order.run_id} has changed is in the inventory: {', '.join(changed[:5])}",
            hint="Give the inventory that the run had.",
        )
    try:
        updates = UpdatesRequest(exclude=list(exclude))
        window = WindowRequest(minutes=minutes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RequestError(f"{name}: {first['msg']}", hint="Correct it, and ask again.") from error
    return PatchRequest(
        scope="*",
        inventory=inventory,
        only_machines=chosen,
        undo_of=order.run_id,
        undo_by=by,
        updates=updates,
        window=window,
        undo_unreachable=bool(machines),
        waves=WavesRequest(unreachable_percent=100) if by is UndoWay.SNAPSHOT and machines else WavesRequest(),
        reboot=reboot,
        allow_removals=allow_removals,
        dry_run=dry_run,
    )
