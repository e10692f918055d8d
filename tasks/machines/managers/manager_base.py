"""What package managers share: reading again, the answer of a simulation, and the parameters of jobs.

scripts/posix/transactions.sh and the managers' job scripts read these parameters.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Final

from tasks.domain.errors import DeadlineExceeded, RequestError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.package_manager import REFRESH_TIMEOUT_SECONDS, JobKind, SimulationResult, Transaction
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

    ``build_spec`` returns a package with its exact version, as an argument. For the others see
    PackageManager.build_job_script.
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


_MAX_ERRORS: Final = 5


def build_simulation_result(
    wanted: Iterable[Update],
    *,
    changes: Mapping[str, str],
    removals: tuple[str, ...],
    unknown: Collection[str],
    errors: Sequence[str],
    named: Iterable[str],
    downloads: Mapping[str, int] | None,
) -> SimulationResult:
    """Return the answer for a set of updates.

    Args:
        wanted: the set.
        changes: update id -> version that would be installed.
        removals: names of packages that would be removed.
        unknown: ids of updates that the package manager does not know, in that version.
        errors: why it refuses the set, in its own words; empty when it accepts the set.
        named: packages that these words name.
        downloads: file -> bytes, for files that are not downloaded yet; None when unknown.
    """
    return SimulationResult(
        changes={} if errors else dict(changes),
        removals=() if errors else removals,
        refused={
            update.id: f"the repositories do not have {update.name} {update.available} (any more): "
            "they changed since the assessment"
            for update in wanted
            if update.id in unknown
        },
        refusal="; ".join(errors[:_MAX_ERRORS]),
        named=frozenset(named),
        download_bytes=None if downloads is None else sum(downloads.values()),
        download_count=None if downloads is None else len(downloads),
    )


JUST_ENDED_PROCESS: Final = "a process that has just ended"
"""Who changed packages during a read (``PackageState.at_work``), if that process was gone at its end."""

MAX_REREADS: Final = 2
"""The maximum number of repeated reads, if another process changed packages during an assessment."""


def read_stable_state(read: Callable[[], PackageState], read_again: Callable[[], PackageState]) -> PackageState:
    """Read the package state, and again if packages were changed meanwhile.

    Reading takes seconds. If a transaction ends in that time, only half of it is seen, and it looks broken. Only
    ``read`` may refresh before.
    """
    state = read()
    for _ in range(MAX_REREADS):
        if state.at_work != JUST_ENDED_PROCESS:
            break
        try:
            again = read_again()
        except DeadlineExceeded:  # the first read took most of the time; its answer is still valid
            break
        state = replace(
            again,
            warnings=tuple(dict.fromkeys((*state.warnings, *again.warnings))),
            repository_problems=tuple(dict.fromkeys((*state.repository_problems, *again.repository_problems))),
            remarks=state.remarks or again.remarks,
        )
    return state
