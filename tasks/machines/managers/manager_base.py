"""What package managers share: their defaults, reading again, the answer of a simulation, the parameters of jobs.

scripts/posix/transactions.sh and the managers' job scripts read these parameters.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Final

from tasks.domain.errors import DeadlineExceeded, RequestError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import (
    LONGEST_POLL_SECONDS,
    REFRESH_TIMEOUT_SECONDS,
    InstalledKernels,
    JobKind,
    PackageNeeds,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult, Transport
from tasks.machines.managers.script_output import describe_unread, parse_sections

LISTS_LOCK_TIMEOUT_SECONDS: Final = "60"
"""How long a query waits for another process that uses the tool: apt locks its lists, dnf and zypper lock even for
reading."""
_MAX_ERRORS: Final = 5


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


def accepts_licences(updates: Iterable[Update]) -> str:
    """Return "yes" when licence terms of these updates have to be accepted, else "".

    An update that needs it is among them only when the request allows it: the selection excludes it otherwise.
    """
    return "yes" if any(update.needs_licence for update in updates) else ""


def may_downgrade(updates: Iterable[Update]) -> str:
    """Return "yes" when one of these updates takes an earlier one back, so that older versions may come, else ""."""
    return "yes" if any(update.goes_back for update in updates) else ""


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
            update.id: f"the repositories do not have {update.name} {update.available} (any more)"
            + ("" if update.goes_back else ": they changed since the assessment")
            for update in wanted
            if update.id in unknown
        },
        refusal="; ".join(errors[:_MAX_ERRORS]),
        named=frozenset(named),
        download_bytes=None if downloads is None else sum(downloads.values()),
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


class ManagerDefaults:
    """What most package managers say of themselves."""

    updater_means: UpdaterMeans | None = None
    health_script: Script | None = None
    lock_files: tuple[str, ...] = ()
    change_lock_files: tuple[str, ...] = ()
    offers_more_later = False
    longest_poll_seconds: float = LONGEST_POLL_SECONDS
    way_back = WayBack("this package manager takes no update back")
    no_kernels = "not supported on this machine"  # why no kernel package can be removed alone

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:  # noqa: ARG002
        """See PackageManager."""
        return InstalledKernels(obstacle=self.no_kernels)

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:  # noqa: ARG002
        """See PackageManager."""
        return PackageNeeds(obstacle="this package manager does not say which packages nothing needs")


class PackageTool(ManagerDefaults, ABC):
    """The parts of a PackageManager that apt and the RPM families share: their jobs install packages by name."""

    @abstractmethod
    def _read_state(self, transport: Transport, params: dict[str, ScriptParameter], deadline: Deadline) -> PackageState:
        """Read the package state in one call."""

    @abstractmethod
    def _build_spec(self, update: Update) -> str:
        """Return a package with its exact version, as an argument for the tool."""

    @abstractmethod
    def _build_job(self, params: dict[str, ScriptParameter], transactions: Sequence[Transaction]) -> Script:
        """Return the script of a job with these parameters."""

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Read the package state in one call, and again if packages were changed meanwhile.

        Raises:
            ManagerBusy: another process used the package manager, or read its lists, all the time.
            RepositoryError: no repository answers, or none is configured.
            ManagerError: the package manager can't work at all.
        """
        params: dict[str, ScriptParameter] = {
            "refresh": "yes",
            "lock_wait_seconds": LISTS_LOCK_TIMEOUT_SECONDS,
            "refresh_seconds": str(REFRESH_TIMEOUT_SECONDS),
        }
        return read_stable_state(
            lambda: self._read_state(transport, params if refresh else {}, deadline),
            lambda: self._read_state(transport, {}, deadline),
        )

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """Return the script of a job that executes the transactions one after the other.

        Raises:
            RequestError: there is nothing to do, or a package's name or version is not valid.
        """
        params = build_job_parameters(kind, transactions)
        params["allowed"] = tuple(dict.fromkeys(update.id for update in allowed))
        params["allow_removals"] = "yes" if allow_removals else ""
        params["excluded"] = tuple(excluded)
        params["downgrades"] = may_downgrade(update for transaction in transactions for update in transaction.updates)
        for transaction in transactions:
            updates, number = transaction.updates, transaction.number
            params[f"tx_{number}_packages"] = tuple(self._build_spec(update) for update in updates)
            params[f"tx_{number}_present"] = tuple(update.id for update in updates if update.installed is not None)
        return self._build_job(params, transactions)


def parse_needs(result: ScriptResult, script: str, updates: Iterable[Update], pattern: str = r"(\S+)") -> PackageNeeds:
    """Read the sections "chosen" and "needless" of a script. ``pattern`` finds a package in a line of the second.

    Raises:
        ScriptFailed: the script did not end with 0.
        ProtocolViolation: the answer is malformed.
    """
    sections = parse_sections(result, script, "chosen", "needless")
    if unread := describe_unread(sections, dict.fromkeys(sections, "what nothing needs")):
        return PackageNeeds(obstacle=unread[0])
    chosen = set(sections["chosen"].text.split())
    needless = set(re.findall(f"^{pattern}", sections["needless"].text, re.MULTILINE))
    names = {update.id: {update.id, f"{update.name}.{update.arch}"} for update in updates}
    return PackageNeeds(
        frozenset(update_id for update_id, mine in names.items() if mine & chosen),
        frozenset(update_id for update_id, mine in names.items() if mine & needless),
    )
