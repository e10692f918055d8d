"""Computes the compliance document: which fixes each machine lacked, from when until when, and its figures. Pure."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from tasks.domain.states import Compliance
from tasks.rules.compliance.model import (
    ComplianceData,
    ComplianceDocument,
    DayFigure,
    Fix,
    Installation,
    MachineDay,
    MachineFigure,
    Month,
    PendingFix,
    ScopeMachine,
    Sight,
    SlaDays,
    SlaFigure,
    WeekFigure,
)

Version = tuple[str, str]
"""Name and version of an update."""


@dataclass(slots=True)
class _OpenFix:
    """A fix that a machine lacks at its last sight."""

    first: PendingFix
    last: PendingFix


def find_fixes(
    sights: Iterable[Sight],
    installations: Iterable[Installation],
    first_seen: Mapping[Version, datetime],
    baseline_until: datetime,
) -> tuple[Fix, ...]:
    """Return each fix that a machine lacked.

    A newer version of an update that is pending already does not make a new fix: the machine lacks it since the first
    one. After an installation, what is still pending of the same name is a new fix.

    Args:
        sights: by machine, then by time.
        installations: of these machines.
        first_seen: when an update was first seen, as far as that is stored.
        baseline_until: sights before it only show what was known by then; when it became known is not known.
    """
    ordered = list(sights)
    times = _find_known_times(ordered, first_seen)
    by_key: dict[tuple[str, str], list[Installation]] = {}
    for installation in sorted(installations, key=lambda one: one.at):
        by_key.setdefault((installation.machine, installation.name), []).append(installation)
    fixes: list[Fix] = []
    for machine, own in groupby(ordered, key=lambda sight: sight.machine):
        fixes += _follow_machine(_Follower(machine, times, by_key, first_seen, baseline_until), list(own))
    return tuple(fixes)


def _find_known_times(sights: Sequence[Sight], first_seen: Mapping[Version, datetime]) -> dict[Version, datetime]:
    """Return when each update became known: its stored time, or its first sight on any machine."""
    published_by_version: dict[Version, datetime] = {}
    for sight in sights:
        for fix in sight.pending:
            key = (fix.name, fix.version)
            published_by_version[key] = min(
                sight.at, published_by_version.get(key, sight.at), first_seen.get(key, sight.at)
            )
    return published_by_version


@dataclass(slots=True)
class _Follower:
    """What is needed to close the fixes of one machine."""

    machine: str
    known: Mapping[Version, datetime]
    installations: Mapping[tuple[str, str], Sequence[Installation]]
    first_seen: Mapping[Version, datetime]
    baseline_until: datetime

    def find_installation(self, name: str, after: datetime, until: datetime) -> Installation | None:
        """Return the last installation of an update of this name in a time."""
        own = self.installations.get((self.machine, name), ())
        position = bisect_right(own, until, key=lambda each: each.at)
        return own[position - 1] if position and own[position - 1].at > after else None

    def close(self, fix: _OpenFix, ended_at: datetime | None, *, by_run: bool) -> Fix:
        """Return a fix."""
        key = (fix.first.name, fix.first.version)
        known_at = self.known[key]
        return Fix(
            machine=self.machine,
            name=fix.first.name,
            version=fix.last.version,
            kind=fix.first.kind,
            known_at=known_at,
            known_at_least=known_at < self.baseline_until and key not in self.first_seen,
            ended_at=None if ended_at is None else max(ended_at, known_at),
            installed_by_run=by_run,
            withheld=fix.last.withheld,
        )


def _follow_machine(follower: _Follower, sights: Sequence[Sight]) -> list[Fix]:
    fixes: list[Fix] = []
    missing: dict[str, _OpenFix] = {}
    before: datetime | None = None
    for sight in sights:
        pending = {fix.name: fix for fix in sight.pending}
        for name, fix in list(missing.items()):
            installed = follower.find_installation(name, before, sight.at) if before is not None else None
            still = pending.get(name)
            if still is not None and (installed is None or installed.version == still.version):
                fix.last = still
                continue
            fixes.append(follower.close(fix, installed.at if installed else sight.at, by_run=installed is not None))
            del missing[name]
        for name, pending_fix in pending.items():
            missing.setdefault(name, _OpenFix(pending_fix, pending_fix))
        before = sight.at
    for name, fix in missing.items():
        installed = follower.find_installation(name, sights[-1].at, datetime.max.replace(tzinfo=sights[-1].at.tzinfo))
        fixes.append(follower.close(fix, installed.at if installed else None, by_run=installed is not None))
    return fixes


KINDS = ("critical", "security")


def find_until(month: Month, sla: SlaDays, now: datetime) -> datetime:
    """Return until when installations are considered: fixes of the month's last day have all their days."""
    return min(now, month.end + timedelta(days=max(sla.values())))


def build_document(
    month: Month,
    scope: str,
    machines: Sequence[ScopeMachine],
    data: ComplianceData,
    sla: SlaDays,
    sla_source: str,
    now: datetime,
) -> ComplianceDocument:
    """Return the document.

    Args:
        month: the month.
        scope: the scope as text.
        machines: the machines of the scope.
        data: what the records know of these machines.
        sla: days until a fix must be installed.
        sla_source: where the days come from.
        now: the present time.
    """
    ends_at, until = min(month.end, max(now, month.start)), find_until(month, sla, now)
    fixes = find_fixes(data.sights, data.installations, data.first_seen, month.start)
    in_month = [fix for fix in fixes if month.start <= fix.known_at < ends_at]
    shown = [fix for fix in fixes if month.start <= fix.known_at < ends_at or fix.is_missing_at(ends_at)]
    return ComplianceDocument(
        month=month,
        scope=scope,
        made_at=now,
        ends_at=ends_at,
        until=until,
        sla_source=sla_source,
        sla=tuple(compute_sla(in_month, kind, sla[kind], until) for kind in KINDS),
        weeks=compute_weeks(data.days, machines, month.start, ends_at),
        days=compute_days(data.days, month.start, ends_at),
        machines=compute_machines(data.days, machines, shown, ends_at),
        fixes=tuple(sorted(shown, key=lambda fix: (fix.known_at, fix.machine, fix.name))),
        runs=data.runs,
        exceptions=data.exceptions,
        gaps=tuple(find_gaps(month, data, machines, shown, ends_at)),
    )


def compute_sla(fixes: Iterable[Fix], kind: str, days: float, until: datetime) -> SlaFigure:
    """Return how fast the fixes of a kind were installed.

    Args:
        fixes: fixes that became known in the month.
        kind: "critical" or "security".
        days: within how many days they must be installed.
        until: the time at which it is decided whether the days are over.
    """
    own = [fix for fix in fixes if fix.kind == kind]
    counts = Counter(_judge(fix, days, until) for fix in own)
    decided = counts["in_time"] + counts["late"] + counts["overdue"]
    needed = sorted(fix.count_days(until) for fix in own if fix.ended_at is not None and fix.ended_at <= until)
    return SlaFigure(
        kind=kind,
        days=days,
        fixes=len({(fix.name, fix.version) for fix in own}),
        machines=len({fix.machine for fix in own}),
        known=len(own),
        in_time=counts["in_time"],
        late=counts["late"],
        overdue=counts["overdue"],
        not_due=counts["not_due"],
        share=counts["in_time"] / decided if decided else None,
        median_days=compute_percentile(needed, 50),
        p95_days=compute_percentile(needed, 95),
    )


def _judge(fix: Fix, days: float, until: datetime) -> str:
    due = fix.known_at + timedelta(days=days)
    if fix.ended_at is not None and fix.ended_at <= until:
        return "in_time" if fix.ended_at <= due else "late"
    return "overdue" if until > due else "not_due"


def compute_percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of the values, in ascending order, that at least so many of 100 do not exceed."""
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1] if ordered else None


def compute_days(days: Iterable[MachineDay], start: datetime, end: datetime) -> tuple[DayFigure, ...]:
    """Return a figure for each day of a time, also for days without an assessment."""
    by_day: dict[date, list[MachineDay]] = {}
    for day in days:
        by_day.setdefault(day.day, []).append(day)
    count = math.ceil((end - start) / timedelta(days=1))
    return tuple(_count_day(start + timedelta(days=n), by_day) for n in range(count))


def _count_day(begin: datetime, by_day: dict[date, list[MachineDay]]) -> DayFigure:
    own = by_day.get(begin.date(), [])
    if not own:
        return DayFigure(begin, 0, None, None, None, None, None, None)
    states = Counter(day.compliance for day in own)
    return DayFigure(
        day=begin,
        assessed=len(own),
        compliant=states[Compliance.COMPLIANT],
        non_compliant=states[Compliance.NON_COMPLIANT],
        unclear=states[Compliance.NOT_ASSESSED],
        critical=sum(day.critical for day in own),
        security=sum(day.security for day in own),
        reboot_required=sum(day.reboot == "yes" for day in own),
    )


def compute_weeks(
    days: Iterable[MachineDay], machines: Sequence[ScopeMachine], start: datetime, end: datetime
) -> tuple[WeekFigure, ...]:
    """Return the state at the end of each week (Sunday), and at the end of the time."""
    ordered, names = sorted(days, key=lambda each: each.day), {each.name for each in machines}
    ends = [start + timedelta(days=n) for n in range(1, 32)]
    stops = [each for each in ends if each < end and each.weekday() == 0]
    last: dict[str, str] = {}
    weeks: list[WeekFigure] = []
    position = 0
    for stop in (*stops, end):
        while position < len(ordered) and _begin(ordered[position].day) < stop:
            last[ordered[position].machine] = ordered[position].compliance
            position += 1
        states = Counter(last.get(name, Compliance.NOT_ASSESSED) for name in names)
        compliant = states[Compliance.COMPLIANT]
        non_compliant, unknown = states[Compliance.NON_COMPLIANT], states[Compliance.NOT_ASSESSED]
        share = compliant / len(names) if compliant or non_compliant else None
        weeks.append(WeekFigure(stop, len(names), compliant, non_compliant, unknown, share))
    return tuple(weeks)


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def compute_machines(
    days: Iterable[MachineDay], machines: Sequence[ScopeMachine], fixes: Iterable[Fix], end: datetime
) -> tuple[MachineFigure, ...]:
    """Return the state of each machine at the end."""
    last: dict[str, MachineDay] = {}
    counts: Counter[str] = Counter()
    for each in sorted((each for each in days if _begin(each.day) < end), key=lambda each: each.day):
        last[each.machine] = each
        counts[each.machine] += 1
    missing: dict[str, list[Fix]] = {}
    for fix in fixes:
        if fix.is_missing_at(end):
            missing.setdefault(fix.machine, []).append(fix)
    return tuple(
        _build_machine(machine, last.get(machine.name), counts[machine.name], missing.get(machine.name, []), end)
        for machine in sorted(machines, key=lambda each: each.name)
    )


def _build_machine(
    machine: ScopeMachine, last: MachineDay | None, assessed: int, missing: Sequence[Fix], end: datetime
) -> MachineFigure:
    return MachineFigure(
        machine=machine.name,
        in_inventory=machine.in_inventory,
        environment=machine.environment,
        compliance=last.compliance if last is not None else Compliance.NOT_ASSESSED.value,
        last_assessed=_begin(last.day) if last is not None else None,
        assessed_days=assessed,
        missing=len(missing) if missing or last is not None else None,
        oldest_days=max(((end - fix.known_at) / timedelta(days=1) for fix in missing), default=None),
        reboot=last.reboot if last is not None else "unknown",
    )


def find_gaps(
    month: Month, data: ComplianceData, machines: Sequence[ScopeMachine], fixes: Sequence[Fix], end: datetime
) -> Iterable[str]:
    """Return what is not known, as sentences."""
    if end < month.end:
        yield f"The month is not over: the figures are those until {end:%Y-%m-%d %H:%M} UTC."
    since = data.recorded_since
    if since is None:
        yield "The records have no assessment of these machines: nothing is known about their fixes."
    elif since > month.start:
        retention = f" They are kept for {data.assessments_kept_days} days." if data.assessments_kept_days else ""
        yield (
            f"The records of these machines begin on {since:%Y-%m-%d}: nothing is known of the time before.{retention}"
        )
    empty = [each.day for each in compute_days(data.days, month.start, end) if not each.assessed]
    if empty:
        first = ", ".join(f"{day:%d}" for day in empty[:10]) + (" …" if len(empty) > 10 else "")
        yield f"Days without an assessment: {len(empty)} (day {first}). Their figures are empty, not zero."
    gone = sum(not each.in_inventory for each in machines)
    if gone:
        yield f"Machines that have records, but are not in the present inventory: {gone}."
    unclear = sum(fix.known_at_least for fix in fixes)
    if unclear:
        yield f"Missing fixes that became known before the month, it is not known when: {unclear}. Ages are minimums."
