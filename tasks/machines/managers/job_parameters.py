"""The parameters of package jobs. Pure. scripts/posix/transactions.sh and the managers' job scripts read them."""

from collections.abc import Callable, Iterable, Sequence
from math import floor

from tasks.domain.errors import RequestError
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import REFRESH_TIMEOUT_SECONDS, JobKind, Transaction
from tasks.domain.protocols.transport import ScriptParameter


def build_job_parameters(kind: JobKind, transactions: Sequence[Transaction]) -> dict[str, ScriptParameter]:
    """Return the parameters that transactions.sh reads: the work, and the times of each transaction.

    A job waits for another process's lock until nothing may begin any more; a repair and a removal wait some minutes.

    Raises:
        RequestError: there is nothing to do.
    """
    may_be_empty = kind in {JobKind.REPAIR, JobKind.REMOVE}  # a removal that is done when its run is resumed
    if not transactions or not (may_be_empty or all(t.updates for t in transactions)):
        raise RequestError(f"a job of kind {kind} needs transactions, each with updates")
    params: dict[str, ScriptParameter] = {
        "work": kind.value,
        "numbers": tuple(str(transaction.number) for transaction in transactions),
    }
    for transaction in transactions:
        params[f"tx_{transaction.number}_latest_start"] = str(floor(transaction.latest_start))
        if transaction.stop_at is not None:
            params[f"tx_{transaction.number}_stop_at"] = str(floor(transaction.stop_at))
    return params


def build_refresh_parameters(lock_wait_seconds: str) -> dict[str, ScriptParameter]:
    """Return the parameters of an assessment that reads the repositories first."""
    return {
        "refresh": "yes",
        "lock_wait_seconds": lock_wait_seconds,
        "refresh_seconds": str(REFRESH_TIMEOUT_SECONDS),
    }


def accepts_licences(updates: Iterable[Update]) -> str:
    """Return "yes" when licence terms of these updates have to be accepted, else "".

    An update that needs it is among them only when the request allows it: the selection excludes it otherwise.
    """
    return "yes" if any(update.needs_licence for update in updates) else ""


def build_package_parameters(
    transactions: Sequence[Transaction],
    build_spec: Callable[[Update], str],
    *,
    allowed: Sequence[Update],
    allow_removals: bool,
    excluded: Sequence[str],
) -> dict[str, ScriptParameter]:
    """Return the parameters of a job that installs packages: which ones, and what may change beside them.

    Args:
        transactions: see build_job_parameters.
        build_spec: returns a package with its exact version, as an argument for the package manager.
        allowed: see PackageManager.build_job_script, as for the next two.
        allow_removals: whether packages may be removed.
        excluded: masks of packages that must not be installed or removed.
    """
    params: dict[str, ScriptParameter] = {
        "allowed": tuple(dict.fromkeys(update.id for update in allowed)),
        "allow_removals": "yes" if allow_removals else "",
        "excluded": tuple(excluded),
    }
    for transaction in transactions:
        params[f"tx_{transaction.number}_packages"] = tuple(build_spec(update) for update in transaction.updates)
        present = tuple(update.id for update in transaction.updates if update.installed is not None)
        params[f"tx_{transaction.number}_present"] = present
    return params
