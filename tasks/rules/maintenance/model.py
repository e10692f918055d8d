"""What maintenance control knows, decides and remembers of a group of machines.

A group is one configuration, or the part of it in one time zone. What becomes pending on its machines is held, and
shown as one package. Its time counts from the first moment at which it was seen.
"""

from collections.abc import Iterator
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from inventory.data_class import dataclass
from tasks.domain.model import NotHeld
from tasks.domain.states import Classification, OperationState
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Occurrence

CLOCK_TOLERANCE = timedelta(minutes=10)
"""What is dated so much later than now was made while a clock was wrong."""
REFUSAL_PAUSE = timedelta(days=1)
"""So long after a refused run of an overdue package the next one is tried."""
LOOK_LIMIT = timedelta(hours=2)
"""Looks come every 15 minutes. If there was none for so long, something is wrong."""
SOON = timedelta(days=7)
"""So long before the last day people are told, if the hold is longer than twice that."""


class ApplyMode(StrEnum):
    """In which windows a held package is applied by itself."""

    LAST_WINDOW = "last_window"  # the last one that ends before the last day. Earlier ones stay closed
    EACH_WINDOW = "each_window"  # the next one


class ApplyCause(StrEnum):
    """Why a package is applied."""

    PERSON = "person"
    SCHEDULE = "schedule"  # the mode is EACH_WINDOW
    LAST_WINDOW = "last window"
    OVERDUE = "overdue"  # its last day is over


class PackageEnd(StrEnum):
    """How a package ended."""

    APPLIED = "applied"
    EMPTIED = "emptied"  # nothing of it is pending any more, and nobody has applied it here
    REMOVED = "removed"  # its group exists no more


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """How a group's updates are held."""

    hold: timedelta  # from the first moment that a package was seen to the end of its last day
    apply: ApplyMode = ApplyMode.LAST_WINDOW
    not_held: NotHeld = NotHeld()  # what is installed in each window
    window: timedelta = timedelta(hours=2)  # the length of a window, of which a run outside the schedule gets one, too

    @property
    def has_exceptions(self) -> bool:
        """Whether some updates do not wait."""
        return self.not_held != NotHeld()


@dataclass(frozen=True, slots=True)
class WaitingUpdate:
    """An update that a machine's run would install, if it were not held."""

    name: str
    version: str
    classification: Classification
    since: datetime  # when an assessment first saw an update of this name pending on the machine
    requires_reboot: bool | None = None  # None: not known before the installation


@dataclass(frozen=True, slots=True)
class GroupMachine:
    """A machine of a group, which fleetpatch may patch."""

    name: str
    answered_at: datetime | None  # when it was last assessed with an answer; None: never, so what it lacks is not known
    updates: tuple[WaitingUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class Application:
    """A run that applies a package, or that should have."""

    key: str  # unique
    number: int
    cause: ApplyCause
    who: str
    began_at: datetime  # when it was asked for
    run_id: str = ""  # "": its run has not begun
    refusal: str = ""  # why its run has not begun and never will; "" otherwise
    ended_at: datetime | None = None  # when its run ended, or was refused; None: it is under way, or may still begin
    state: OperationState | None = None  # the state of the run that has ended
    is_stopping: bool = False  # whether its run was asked to stop
    done: frozenset[str] = frozenset()  # the machines on which its run has installed everything that it selected

    @property
    def is_active(self) -> bool:
        """Whether it is under way, or may still begin."""
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class HeldPackage:
    """What is held for a group, as one."""

    number: int  # counts the packages of its group, from 1
    first_seen: datetime  # the first moment at which anything of it was seen. Its time counts from here.
    # When the window opens in which it is applied by itself; None: no window of its schedule is left.
    applies_at: datetime | None = None
    ended_at: datetime | None = None  # None: it is held, or being applied
    end: PackageEnd | None = None

    def compute_last_moment(self, hold: timedelta) -> datetime:
        """Return the end of its last day."""
        return self.first_seen + hold


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is remembered of a group."""

    group: str
    number: int = 0  # of its newest package; 0: it never had one
    package: HeldPackage | None = None  # the package that is held; None: nothing is
    looked_at: datetime | None = None  # when its machines were last looked at; None: never, so its windows stay closed
    applications: tuple[Application, ...] = ()  # those of the package that is held, oldest first
    is_removed: bool = False  # whether its configuration held nothing meanwhile

    @property
    def last_application(self) -> Application | None:
        """The newest application of the package that is held."""
        return self.applications[-1] if self.applications else None


@dataclass(frozen=True, slots=True)
class GroupView:
    """Everything that a look at a group depends on, besides its policy, its state and the clock.

    Attributes:
        machines: those of its scope that fleetpatch may patch in its windows.
        windows: those of its schedule that are open or coming, in their order. They reach beyond the last day.
        inherited: the first moment of a package of a removed group with machines of this one: renaming a configuration
            postpones nothing.
        problem: why its machines can't be read now; "": they can.
    """

    machines: tuple[GroupMachine, ...] = ()
    windows: tuple[Occurrence, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    inherited: datetime | None = None
    problem: str = ""

    def iterate_updates(self) -> Iterator[tuple[GroupMachine, WaitingUpdate]]:
        """Yield each update that waits, with its machine."""
        for machine in self.machines:
            for update in machine.updates:
                yield machine, update

    @property
    def unread(self) -> tuple[str, ...]:
        """Machines that never gave an answer."""
        return tuple(machine.name for machine in self.machines if machine.answered_at is None)


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a run that applies the package now, outside of its schedule."""

    key: str
    cause: ApplyCause


@dataclass(frozen=True, slots=True)
class News:
    """Something that people are told once. ``key`` makes it once. ``is_bad``: somebody has to look at it."""

    key: str
    message: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at a group: what is remembered now, what begins, and what people are told."""

    state: GroupState
    start: Start | None = None
    news: tuple[News, ...] = ()
    ended: HeldPackage | None = field(default=None)  # the package that ended at this look, if one did
