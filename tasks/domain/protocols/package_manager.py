"""The PackageManager protocol: one interface for all package managers, and what each of them says about itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Final, Protocol

from inventory.data_class import dataclass
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, Transport

MAX_TRANSACTION_UPDATES: Final = 300
"""Maximum updates in one transaction, as in Azure's Linux agent."""
REFRESH_TIMEOUT_SECONDS: Final = 300
"""How long a package manager may read its repositories. Then the machine ends that, and uses what it has."""
LONGEST_POLL_SECONDS: Final = 10.0
"""The longest pause between two looks at a job, where nothing is against that many."""


class JobKind(StrEnum):
    """The kinds of package job."""

    STAGE = "stage"  # download only; no package changes
    INSTALL = "install"
    REPAIR = "repair"  # finish an interrupted transaction
    REMOVE = "remove"  # remove exactly these packages, or nothing
    ROLL_BACK = "roll-back"  # put the version before of a component back


class FailureCause(StrEnum):
    """Why a transaction failed, as far as its job can tell: the field "cause" of its record."""

    INTERRUPTED = "interrupted"  # an earlier transaction was interrupted
    LOCK = "lock"  # another process kept the package manager's lock: nothing began
    SPACE = "space"
    HELD = "held"
    CONFIGURATION_FILE = "configuration-file"  # it waits for an answer about a file that was edited
    SCRIPT = "maintainer-script"
    FETCH = "fetch"
    GONE = "gone"  # the repositories no longer have that version
    REFUSED = "refused"
    FAILED = "failed"  # any other cause


GOING_DOWN_SECONDS = 600.0
"""How long a system may usually take to go down for a reboot."""
COMING_UP_SECONDS = 1800.0
"""How long it may then usually take until a login works."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The speed of a machine, in seconds and in bytes per second, and the size of its transactions."""

    transaction_seconds: float  # fixed duration of a transaction, without its updates
    install_seconds_per_update: float
    download_bytes_per_second: float
    reboot_seconds: float
    validate_seconds: float
    basis: str = "defaults"  # source of the figures, in words
    # How many updates a transaction may have. A larger group is still one transaction.
    max_transaction_updates: int = MAX_TRANSACTION_UPDATES
    read_timeout_seconds: float = 300.0  # how long a question about packages may take, without a refresh
    # How long its system may take to go down for a reboot, if nobody says otherwise.
    going_down_seconds: float = GOING_DOWN_SECONDS
    coming_up_seconds: float = COMING_UP_SECONDS  # how long it may then take until a login works

    @property
    def overhead_updates(self) -> float:
        """The fixed duration of a transaction, as a number of updates that take as long."""
        return self.transaction_seconds / self.install_seconds_per_update

    def predict_install_seconds(self, count: int) -> float:
        """Return the predicted seconds of one transaction with ``count`` updates."""
        return self.transaction_seconds + count * self.install_seconds_per_update if count else 0.0


@dataclass(frozen=True, slots=True)
class Transaction:
    """Updates that are installed together, and the latest time at which the installation may begin.

    Missing files are downloaded first. A download changes no package: it is stopped at ``stop_at``. The installation
    begins only when the download ends by ``latest_start``.
    """

    number: int  # 0-based, in the order of the run
    updates: tuple[Update, ...]  # the updates to install, by name and exact version
    latest_start: float  # seconds since the epoch, by the machine's own clock
    predicted_seconds: float  # predicted duration without the download; reports show it in the calculation
    stop_at: float | None = None  # when a running download is stopped, by the same clock; None: at ``latest_start``


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What the package manager would do if it installed a set of updates now.

    Attributes:
        changes: update id -> version after the installation; dependencies are included. Empty after a refusal.
        removals: names of packages that it would remove.
        refused: update id -> why it can't be installed in any set: it is no longer offered, for example.
        refusal: why the package manager refuses the set, in its own words, shortened; "" when it does not.
        named: packages that the refusal names: updates of the set, and packages that they need or that are in the way.
        download_bytes: bytes that are not downloaded yet; None when unknown.
    """

    changes: Mapping[str, str]
    removals: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    named: frozenset[str] = frozenset()
    download_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class UpdaterMeans:
    """How a system's own updater is switched on or off for good, by the means that its vendor documents.

    Attributes:
        units: units of systemd, the best first: the first that a machine has is switched on.
        needs_all_units: whether all of them are switched on.
        with_settings: those of them that do what a file of the machine says, which is not read.
        stoppable: services that change no package themselves, so that they may be switched off while they run.
        program: a command without which nothing would be installed; "": none.
        missing: the remedy where the machine has no such updater.
        file: a configuration file of fleetpatch's own, read after all others; "": none. Its text decides then, and
            units stay as they are when the updater is switched off.
        policy_on: NAME=NUMBER of a policy, in the place of units.
        policy_names: what assessments call the updater that the policy switches.
    """

    units: tuple[str, ...] = ()
    needs_all_units: bool = False
    with_settings: frozenset[str] = frozenset()
    stoppable: frozenset[str] = frozenset()
    program: str = ""
    missing: str = "Install one, or let fleetpatch patch the machine."
    file: str = ""
    text_on: str = ""
    text_off: str = ""
    policy_on: tuple[str, ...] = ()
    policy_off: tuple[str, ...] = ()
    policy_names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WayBack:
    """Whether a package manager takes updates back."""

    obstacle: str = ""  # why it does not, and what helps; "": it does
    caution: str = ""  # what its distribution says of older versions over newer ones
    removes: bool = False  # the way back from an update is its removal: there is no version before
    keeps: bool = False  # a download can keep the packages that its installation will replace


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """An installed package that belongs to one kernel."""

    package: Update  # as a job of kind REMOVE takes it; its id names package and version
    kernel: str  # the release of the kernel it belongs to. All packages of a kernel have the same.
    flavour: str  # of the kernel: "amd64", "generic", "default", ""
    rank: int  # the place of the kernel among all installed ones by version; the oldest is the lowest
    is_image: bool  # whether it contains the kernel that a machine boots
    is_running: bool  # whether its kernel is the running one
    is_removable: bool  # whether the package manager itself would remove it as unused, where it can be asked that


@dataclass(frozen=True, slots=True)
class InstalledKernels:
    """The kernels of a machine: all their packages that are completely installed."""

    running: str = ""  # the release of the running kernel
    packages: tuple[KernelPackage, ...] = ()
    unfinished: tuple[str, ...] = ()  # ids of packages of kernels that are neither completely installed nor gone
    obstacle: str = ""  # why the package manager can't tell which ones are unused, or ""


@dataclass(frozen=True, slots=True)
class PackageNeeds:
    """What a package manager knows of the need for packages, by the ids of updates."""

    # Packages that somebody has chosen: they did not come as a dependency, or have become theirs since.
    chosen: frozenset[str] = frozenset()
    needless: frozenset[str] = frozenset()  # packages that came as a dependency, and that nothing needs now
    obstacle: str = ""  # why the package manager can't tell, or ""


class PackageManager(Protocol):
    """The interface of a package manager. Implementations hold no state and receive a transport.

    Job scripts from ``build_job_script`` write these records on every system:
    ``download_started`` {number, at} (the download of an installation), ``transaction_started`` {number, at} (packages
    change from then on, except when the job only downloads), ``progress`` {number, percent, update, action},
    ``waiting`` {number, at, who} (for a lock that another process has),
    ``transaction_ended`` {number, at, exit_code, cause, error} (``cause``: see FailureCause, or ""; without a
    ``transaction_started``: the download failed; with ``undo`` where the package manager can say how to undo the
    transaction, or why that is not possible),
    ``kept`` {number, kept, total, lost, full, late} (of the packages that are replaced; and words NAME=VERSION that are
    not kept: without a file, without room, without time),
    ``not_attempted`` {number, at, latest_start, why: "window" | "download" | "stop" | "preempted" | "needed" |
    "removals" | "anew" | "unexpected" | "excluded" | "broken" or words, detail} ("download": it did not end in time;
    "preempted": it was to stop for the run that ``detail`` names), ``configuration_kept`` {path, kept_as},
    ``finished`` {at}.
    Numbers, times (seconds since the epoch) and exit codes are JSON numbers. The parts of an error are separated by
    "; ". Each part names its packages. "NAME is not set up because OTHER failed" means: NAME only waits for OTHER.

    The script ``updaters_script`` pauses the system's own updaters during a run, or restores them (its parameter
    ``work``: "pause" or "restore"). It is safe to repeat. It refuses an attempt that does not have the machine lock.
    It writes: ``paused`` {unit}, ``back`` {unit, how}, ``failed`` {unit, why}, ``left`` {unit, why},
    ``running`` {unit}, ``untimed`` {why}, ``nothing`` {why}, ``refused`` {why}. The machine itself restores paused
    updaters when its machine lock ends; ``untimed`` says that only the run's end or a reboot does.

    The script "switch_updaters" of its package switches these updaters for good, as ``updater_means`` says. Its
    parameter ``work`` is "look" (not where a policy switches them) or "switch", which needs the machine lock. It
    writes: ``unit`` {name, load, enabled, active}, ``program`` {name, present}, ``switched`` {step}, ``failed`` {step,
    why}, ``nothing`` {why}, ``refused`` {why}.

    The script ``health_script`` reports what endangers an installation, or went wrong since: records ``finding``
    {check, level ("good", "warn" or "block"), message, remedy}. It changes nothing. Its parameter ``since`` (seconds
    since the epoch, by the machine's clock; "" before an installation) asks also for what the machine's log has since.

    Attributes:
        default_rates: how fast a machine is, before anything was measured on it.
        script_package: the Python package with its scripts. A script of that package replaces a shared script of the
            same name: ``manager_environment`` (environment variables for commands that may call the package manager)
            and ``unfinished_packages`` (the function that finds half changed packages).
        updaters_script: the script described above, or None when there is none.
        updater_means: how these updaters are switched for good; None: that is not known.
        health_script: the script described above, or None when there is none.
        lock_files: files that a process locks (fcntl) before it changes packages, in the order of locking. A machine
            refuses to reboot while a process holds one of them. Then it holds them itself until it is down.
        change_lock_files: those of ``lock_files`` that are locked only while packages change. No service is restarted
            while a process holds one of them.
        offers_more_later: whether what it offers depends on what is installed: some updates are offered only when
            others are there. It is then asked again, with a refresh, after an installation and after a reboot.
        longest_poll_seconds: the longest pause between two looks at its jobs.
        way_back: whether it installs an update that ``goes_back``: in a simulation, and in a job of kind INSTALL.
    """

    name: str
    default_rates: Rates
    script_package: str
    updaters_script: Script | None
    updater_means: UpdaterMeans | None
    health_script: Script | None
    lock_files: tuple[str, ...]
    change_lock_files: tuple[str, ...]
    offers_more_later: bool
    longest_poll_seconds: float
    way_back: WayBack

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Return all pending updates. With ``refresh``, read the repositories again first."""

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """Return what the installation of exactly these updates would do. Change nothing.

        With ``keep``, these packages would have to stay as they are, installed or not. A refusal then names the updates
        that prevent it. A package manager that can't be asked so ignores it.
        """

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Return the installed versions from the package database: update id -> version.

        Only packages that are completely installed and configured are included.
        """

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:
        """Return the installed kernels, and which of their packages may be removed. Change nothing."""

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:
        """Return which of these packages somebody has chosen, and which nothing needs now. Change nothing."""

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """Return the script of a detached job that executes the transactions, one after the other.

        The job does not begin a transaction, and reports it as ``not_attempted``, in these cases:

        - It would change an installed package that is neither in ``allowed`` nor in its own updates.
        - It would remove a package, and ``allow_removals`` is False.
        - One of its own packages was removed after the selection, and it would install that package again.
        - It would install a new package, or remove one, and a mask of ``excluded`` matches the name.

        A job of kind REMOVE removes its packages, which are installed, and nothing if that would change others.
        """
