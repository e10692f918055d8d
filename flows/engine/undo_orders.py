"""What an undo takes back: the changes of an earlier run, from the records."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tasks.domain.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.domain.undo import UndoOrder, UndoSnapshot
from tasks.records.queries.history import History
from tasks.rules.undo import collect_order


def find_undo_order(
    history: History,
    run_name: str,
    find_snapshots: Callable[[RunInfo], Mapping[str, UndoSnapshot]] = lambda _run: {},
) -> UndoOrder:
    """Return what a run has changed.

    Args:
        history: the records; with seals, if the order is carried out.
        run_name: the run's id, or a unique prefix of it.
        find_snapshots: returns the snapshots from before the run that may exist, by machine.

    Raises:
        RequestError: the run does not exist, is not over, or has changed nothing.
        SealBroken: its plans were changed in the database.
        SealKeyMissing: another controller has sealed them.
        RecordsError: the records can't be read.
    """
    try:
        run = history.find_run(run_name)
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        raise RequestError(f"undo_of: {error.message}", hint="`fleetpatch runs` lists the runs.") from error
    if run.state in UNFINISHED_RUN_STATES:
        raise RequestError(
            f"undo_of: run {run.id} has not come to its end ({run.state}): what it has installed is not known yet",
            hint=f"Wait for it, or finish it: fleetpatch resume {run.id}",
        )
    order = replace(collect_order(history.read_report(run.id)), snapshots=find_snapshots(run))
    if not order.changes and not order.unknown and not order.snapshots:
        raise RequestError(
            f"undo_of: run {run.id} ({run.kind}) has installed nothing",
            hint="Name a run that has patched machines: `fleetpatch runs` lists them.",
        )
    return order
