"""Which run is meant: by its id, by a beginning of it, or the last one."""

from tasks.errors import RecordsError
from tasks.model import RunInfo
from tasks.records.history import History
from tasks.records.opening import open_records

LAST = "last"


def history(records: str | None) -> History:
    """Open the records for reading.

    Raises:
        RecordsError: they can't be reached.
    """
    return History(open_records(records))


def picked(of: History, run: str) -> RunInfo:
    """Return the run that is meant.

    Raises:
        RecordsError: there is none, or it may be several.
    """
    if run != LAST:
        return of.run(run)
    newest = of.runs(1)
    if not newest:
        raise RecordsError("there is no run yet", hint="Begin with: fleetpatch assess")
    return newest[0]
