"""What the compliance document of a month is computed from, and its figures. Pure.

Times are in UTC, months and days too. The classes of figures are the rows of its tables in every format.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError

_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")

SlaDays = Mapping[str, float]
"""Days until a fix must be installed, by "critical" and "security"."""

DEFAULT_SLA_DAYS: SlaDays = {"critical": 7.0, "security": 30.0}

UNSCHEDULED: Final = "unscheduled"
"""Stands for the window of a run that a person or automatic patching started: it is none of a schedule."""


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Return the month of "2026-11". Raise RequestError if it is no month."""
        match = _MONTH.fullmatch(text)
        if not match or not 1 <= int(match[2]) <= 12 or not 2000 <= int(match[1]) <= 9998:
            raise RequestError(f"{text[:40]!r} is no month", hint="Write year and month, as in 2026-11.")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, at: datetime) -> "Month":
        """Return the month of a time."""
        day = at.astimezone(UTC)
        return cls(day.year, day.month)

    @property
    def start(self) -> datetime:
        """The first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.following.start

    @property
    def following(self) -> "Month":
        """The month after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def previous(self) -> "Month":
        """The month before it."""
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"


@dataclass(frozen=True, slots=True)
class PendingFix:
    """A critical or security update that an assessment shows as pending."""

    name: str
    version: str
    kind: str  # "critical" or "security"
    withheld: str = ""  # why it can't be installed (held, blocked), or ""


@dataclass(frozen=True, slots=True)
class Sight:
    """The critical and security updates that were pending on a machine at one moment."""

    machine: str
    at: datetime
    pending: tuple[PendingFix, ...]


@dataclass(frozen=True, slots=True)
class Installation:
    """An update that a run installed."""

    machine: str
    name: str
    version: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MachineDay:
    """The state of a machine at its last assessment with an answer of a day."""

    day: date
    machine: str
    compliance: str
    critical: int
    security: int
    reboot: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A fix that a machine lacked: from when it became known until the machine had it."""

    machine: str
    name: str
    version: str
    kind: str  # "critical" or "security"
    known_at: datetime  # its publication, or else its first sight on any machine
    known_at_least: bool  # whether it may have become known before ``known_at``: the records don't go back further
    ended_at: datetime | None  # when the machine had it; None: it lacked it at the last assessment
    # Whether a run of fleetpatch installed it. If not, ``ended_at`` is the first assessment without it.
    installed_by_run: bool
    withheld: str  # why it can't be installed, by the last assessment that shows it; or ""

    def is_missing_at(self, at: datetime) -> bool:
        """Return whether the machine lacked it at that time."""
        return self.known_at < at and (self.ended_at is None or self.ended_at >= at)

    def count_days(self, until: datetime) -> float:
        """Return the days from when it became known until the machine had it, or until that time."""
        return max(timedelta(0), (self.ended_at or until) - self.known_at) / timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SlaFigure:
    """How fast the fixes that became known in the month were installed. Each machine that lacked a fix counts."""

    kind: str  # "critical" or "security"
    days: float  # within how many days they must be installed
    fixes: int  # different updates
    machines: int  # machines that lacked at least one
    known: int  # pairs of machine and fix: the sum of the next four
    in_time: int  # installed within the days
    late: int  # installed later
    overdue: int  # not installed, and the days are over
    not_due: int  # not installed, and the days are not over
    share: float | None  # ``in_time`` of those that are decided; None if none is
    median_days: float | None  # until half of the installed ones were installed; None if none was
    p95_days: float | None  # the same for 95 of 100


@dataclass(frozen=True, slots=True)
class DayFigure:
    """The machines that were assessed on a day. ``day`` is its beginning. Without an assessment, figures are None."""

    day: datetime
    assessed: int
    compliant: int | None
    non_compliant: int | None
    unclear: int | None
    critical: int | None
    security: int | None
    reboot_required: int | None


@dataclass(frozen=True, slots=True)
class WeekFigure:
    """The state of the machines at the end of a week: each by its last assessment of the month until then."""

    ends_at: datetime  # the first moment after it, or the end of the month
    machines: int
    compliant: int
    non_compliant: int
    not_assessed: int
    share: float | None  # the compliant ones of all machines; None without machines, or if none was assessed


@dataclass(frozen=True, slots=True)
class MachineFigure:
    """A machine at the end of the month."""

    machine: str
    in_inventory: bool  # whether the present inventory has it
    environment: str
    compliance: str  # by its last assessment of the month; NotAssessed without one
    last_assessed: datetime | None
    assessed_days: int  # days of the month with an assessment
    missing: int | None  # critical and security fixes that it lacked at the end; None if that is not known
    oldest_days: float | None  # days since the oldest of them became known; None without one
    reboot: str


@dataclass(frozen=True, slots=True)
class RunFigure:
    """A run of the month that could change machines of the scope, or a window without a run."""

    run: str  # its id; "" for none
    configuration: str
    starts_at: datetime
    ended_at: datetime | None
    # Of a schedule: "kept", "exceeded", "missed", "frozen" or "cancelled"; "unfinished" while its run has not ended.
    # UNSCHEDULED for a window of a run that no schedule made; "" for a run without a window.
    window: str
    state: str
    exceeded_seconds: float  # the most that any of its machines exceeded the window
    machines: int  # its machines in the scope
    succeeded: int
    failed: int
    installed: int
    reboots: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExceptionFigure:
    """Why fixes are not installed, although they are pending."""

    # "held", "blocked", "rollout" (held by automatic patching), "paused" (taken out of it), or "maintenance" (held by
    # maintenance control).
    what: str
    subject: str  # the update, or the scope
    machines: int
    reason: str
    who: str
    since: datetime | None  # since when; None if that is not known
    until: datetime | None  # when it ends by itself; None: it does not, or that is not known


@dataclass(frozen=True, slots=True)
class ComplianceData:
    """What the records know of a month, limited to the machines of the scope."""

    sights: tuple[Sight, ...]  # by machine, then by time: from the last before the month on
    installations: tuple[Installation, ...]
    # When an update (name, version) was first seen, where automatic patching has stored it.
    first_seen: Mapping[tuple[str, str], datetime]
    days: tuple[MachineDay, ...]  # of the month, in order
    runs: tuple[RunFigure, ...]
    exceptions: tuple[ExceptionFigure, ...]
    recorded_since: datetime | None  # the oldest assessment in the records; None if there is none
    assessments_kept_days: int | None  # how long assessments are kept; None: forever


@dataclass(frozen=True, slots=True)
class ScopeMachine:
    """A machine of the scope."""

    name: str
    environment: str = ""
    in_inventory: bool = True


@dataclass(frozen=True, slots=True)
class ComplianceDocument:
    """The compliance of a scope in a month. All formats show these figures."""

    month: Month
    scope: str
    made_at: datetime  # when it was computed
    ends_at: datetime  # the end of the month, or the present time if it is not over
    until: datetime  # installations until then are considered: fixes of the last days have their full time
    sla_source: str  # where the days come from
    sla: tuple[SlaFigure, ...]
    weeks: tuple[WeekFigure, ...]  # the last one is the end of the month
    days: tuple[DayFigure, ...]
    machines: tuple[MachineFigure, ...]
    fixes: tuple[Fix, ...]  # fixes that became known in the month, and those that were missing at its end
    runs: tuple[RunFigure, ...]
    exceptions: tuple[ExceptionFigure, ...]
    gaps: tuple[str, ...] = field(default=())  # what is not known, as sentences

    @property
    def open_fixes(self) -> tuple[Fix, ...]:
        """The fixes that were missing at the end, the oldest first."""
        missing_fixes = [fix for fix in self.fixes if fix.is_missing_at(self.ends_at)]
        return tuple(sorted(missing_fixes, key=lambda each: (each.known_at, each.machine, each.name)))
