"""What an undo takes back: the changes of an earlier run, from the records."""

from tasks.domain.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.domain.undo import UndoOrder
from tasks.records.queries.history import History
from tasks.rules.undo import collect_order


def find_undo_order(history: History, run_name: str) -> UndoOrder:
    """Return what a run has changed.

    Args:
        history: the records; with seals, if the order is carried out.
        run_name: the run's id, or a unique prefix of it.

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
    order = collect_order(history.read_report(run.id))
    if not order.changes and not order.unknown:
        raise RequestError(
            f"undo_of: run {run.id} ({run.kind}) has installed nothing",
            hint="Name a run that has patched machines: `fleetpatch runs` lists them.",
        )
    return order
