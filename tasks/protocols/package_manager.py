"""The PackageManager protocol: what an apt, dnf, zypper or Windows Update can be asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tasks.model import PackageState, Update
from tasks.protocols.clock import Deadline
from tasks.protocols.transport import Script, Transport


class JobKind(StrEnum):
    """What a job of the package manager does."""

    STAGE = "stage"  # download only; nothing on the machine changes
    INSTALL = "install"
    REPAIR = "repair"  # finish what was interrupted


class FailureCause(StrEnum):
    """Why a transaction ended badly, as far as its job can tell: the field "cause" of its record."""

    INTERRUPTED = "interrupted"  # dpkg was interrupted before
    LOCK = "lock"  # another process had the package manager's lock all the time: nothing was begun
    SPACE = "space"
    HELD = "held"
    CONFFILE = "conffile"
    SCRIPT = "maintainer-script"
    FETCH = "fetch"
    GONE = "gone"  # the repositories do not have that version any more
    REFUSED = "refused"
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class Transaction:
    """Updates that are installed together, and the last moment at which that may begin.

    What is missing is downloaded first. A download changes no package: it is ended at ``stop_at``, and an installation
    begins only when its download is over by ``latest_start``.

    Attributes:
        number: 0-based, in the order of the run.
        updates: what is asked for by name and exact version.
        latest_start: seconds since the epoch, by the machine's own clock.
        predicted_seconds: how long it is expected to take, without a download; for the arithmetic in reports.
        stop_at: when a download that is under way is ended, in the same clock; None: at the latest start.
    """

    number: int
    updates: tuple[Update, ...]
    latest_start: float
    predicted_seconds: float
    stop_at: float | None = None


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What the package manager would do, were it asked for a set of updates now.

    Attributes:
        changes: update id -> version that would be there afterwards; more than was asked for when
            dependencies come along.
        removals: names of packages that would be removed.
        refused: update id (or "" for the whole set) -> why the package manager would not do it.
        download_bytes: still to be fetched, or None when it can't tell.
        download_count: files still to be fetched, or None.
    """

    changes: Mapping[str, str]
    removals: tuple[str, ...] = ()
    refused: Mapping[str, str] | None = None
    download_bytes: int | None = None
    download_count: int | None = None


class PackageManager(Protocol):
    """What a package manager can be asked. Implementations hold no state and are given a transport.

    Job scripts made by ``build_job_script`` write these records, whatever the system:
    ``download_started`` {number, at} (of what an installation lacks), ``transaction_started`` {number, at} (packages
    change from then on, unless it only downloads), ``on_progress`` {number, percent, update, action},
    ``transaction_ended`` {number, at, exit_code, error} (without a ``transaction_started``: its download failed),
    ``not_attempted`` {number, at, latest_start, why: "window" | "download" | "stop" | "removals" | "anew" |
    "unexpected" | "excluded", detail} ("download": it was not over in time), ``conffile`` {path, kept_as},
    ``finished`` {at}.
    Numbers, times (seconds since the epoch) and exit codes are JSON numbers. An error's parts, with "; " between, name
    the packages that they are about; "NAME is not set up because OTHER failed": NAME only waits for another one.

    The script ``updaters_script`` pauses what updates the system by itself while a run works on it, or
    restores it (its parameter ``work``: "pause" or "restore"). It is safe to ask twice, refuses an attempt that does
    not have the machine lock, and writes: ``paused`` {unit}, ``back`` {unit, how}, ``failed`` {unit, why},
    ``left`` {unit, why}, ``running`` {unit}, ``untimed`` {why}, ``nothing`` {why}, ``refused`` {why}. What it pauses,
    the machine brings back by itself when its lock ends; ``untimed`` says that it can't.

    Attributes:
        name: of the package manager.
        updaters_script: that script, or None when there is none.
        lock_files: files that whoever changes packages locks (fcntl), in the order in which they are locked: a machine
            refuses to reboot while somebody has one, and keeps them itself from then on until it is down.
        change_lock_files: those of them that are locked only while packages change: no service is restarted meanwhile.
    """

    name: str
    updaters_script: Script | None
    lock_files: tuple[str, ...]
    change_lock_files: tuple[str, ...]

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Ask for everything that is pending. With ``refresh``, repositories are read anew first."""
        ...

    def simulate(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> SimulationResult:
        """Ask what installing exactly these would do. Changes nothing."""
        ...

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Ask the package database for what is there now: update id -> version, only whole and configured ones."""
        ...

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """Return the script of a detached job that does this work, one transaction after the other.

        A transaction that would change an installed package outside of ``allowed`` (and its own updates), remove one
        without ``allow_removals``, install anew one of its own that was removed after it was chosen, or install a new
        package (or remove one) whose name a mask of ``excluded`` matches, is not begun and says so.
        """
        ...
