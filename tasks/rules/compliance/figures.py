"""Computes the compliance document: which fixes each machine lacked, from when until when, and its figures. Pure."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from tasks.domain.assessment import build_sight_key, strip_update_id
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
    follower = _Follower(ordered, installations, first_seen, baseline_until)
    by_machine = groupby(ordered, key=lambda sight: sight.machine)
    return tuple(fix for _, machine_sights in by_machine for fix in follower.follow(list(machine_sights)))


class _Follower:
    """Follows what machines lack from sight to sight."""

    def __init__(
        self,
        sights: Iterable[Sight],
        installations: Iterable[Installation],
        first_seen: Mapping[Version, datetime],
        baseline_until: datetime,
    ) -> None:
        self.first_seen, self.baseline_until = first_seen, baseline_until
        self.known: dict[Version, datetime] = {}  # when an update became known: as stored, or its first sight anywhere
        for sight in sights:
            for key in (build_sight_key((fix.name, fix.version)) for fix in sight.pending):
                self.known[key] = min(sight.at, self.known.get(key, sight.at), first_seen.get(key, sight.at))
        self.installations: dict[tuple[str, str], list[Installation]] = {}
        for installation in sorted(installations, key=lambda installation: installation.at):
            self.installations.setdefault((installation.machine, installation.name), []).append(installation)

    def follow(self, sights: Sequence[Sight]) -> Iterator[Fix]:
        """Yield the fixes of the machine of these sights."""
        machine, before = sights[0].machine, None
        missing: dict[str, tuple[PendingFix, PendingFix]] = {}  # as first and as last seen pending
        for sight in sights:
            pending = {fix.name: fix for fix in sight.pending}
            for name, (first, last) in list(missing.items()):
                installed = self._find_installation(machine, name, before, sight.at)
                still = pending.get(name)
                if still is not None and (installed is None or installed.version == still.version):
                    missing[name] = (first, still)
                    continue
                yield self._close(machine, first, last, installed, sight.at)
                del missing[name]
            for name, fix in pending.items():
                missing.setdefault(name, (fix, fix))
            before = sight.at
        for name, (first, last) in missing.items():
            yield self._close(machine, first, last, self._find_installation(machine, name, before, None), None)

    def _find_installation(
        self, machine: str, name: str, after: datetime | None, until: datetime | None
    ) -> Installation | None:
        """Return the last installation of an update of this name in a time; None as its end: up to now."""
        installations = self.installations.get((machine, name), ())
        count = len(installations)
        if until is not None:
            count = bisect_right(installations, until, key=lambda installation: installation.at)
        last = installations[count - 1] if count else None
        return last if last is not None and after is not None and last.at > after else None

    def _close(
        self,
        machine: str,
        first: PendingFix,
        last: PendingFix,
        installed: Installation | None,
        ended_at: datetime | None,
    ) -> Fix:
        key = build_sight_key((first.name, first.version))
        ended_at = installed.at if installed is not None else ended_at
        return Fix(
            machine=machine,
            name=first.name,
            version=strip_update_id(last.version),
            kind=first.kind,
            known_at=self.known[key],
            known_at_least=self.known[key] < self.baseline_until and key not in self.first_seen,
            ended_at=None if ended_at is None else max(ended_at, self.known[key]),
            installed_by_run=installed is not None,
            withheld=last.withheld,
        )


KINDS = ("critical", "security")


def find_evaluation_end(month: Month, sla: SlaDays, now: datetime) -> datetime:
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
    """Return the document of the machines. ``sla_source`` says where the days come from."""
    starts_at = month.start
    ends_at, until = min(month.end, max(now, starts_at)), find_evaluation_end(month, sla, now)
    fixes = find_fixes(data.sights, data.installations, data.first_seen, starts_at)
    in_month = [fix for fix in fixes if starts_at <= fix.known_at < ends_at]
    listed = [fix for fix in fixes if starts_at <= fix.known_at < ends_at or fix.is_missing_at(ends_at)]
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
        machines=compute_machines(data.days, machines, listed, ends_at),
        fixes=tuple(sorted(listed, key=lambda fix: (fix.known_at, fix.machine, fix.name))),
        runs=data.runs,
        exceptions=data.exceptions,
        gaps=tuple(find_gaps(month, data, machines, listed, ends_at)),
    )


def compute_sla(fixes: Iterable[Fix], kind: str, days: float, until: datetime) -> SlaFigure:
    """Return how fast the fixes of a kind were installed, of those that became known in the month.

    ``days`` is within how many days they must be installed; at ``until`` it is decided whether these are over.
    """
    fixes = [fix for fix in fixes if fix.kind == kind]
    counts: Counter[str] = Counter()
    needed: list[float] = []
    for fix in fixes:
        due = fix.known_at + timedelta(days=days)
        if fix.ended_at is not None and fix.ended_at <= until:
            counts["in_time" if fix.ended_at <= due else "late"] += 1
            needed.append(fix.count_days(until))
        else:
            counts["overdue" if until > due else "not_due"] += 1
    needed.sort()
    decided = counts["in_time"] + counts["late"] + counts["overdue"]
    return SlaFigure(
        kind=kind,
        days=days,
        fixes=len({(fix.name, fix.version) for fix in fixes}),
        machines=len({fix.machine for fix in fixes}),
        known=len(fixes),
        in_time=counts["in_time"],
        late=counts["late"],
        overdue=counts["overdue"],
        not_due=counts["not_due"],
        share=counts["in_time"] / decided if decided else None,
        median_days=compute_percentile(needed, 50),
        p95_days=compute_percentile(needed, 95),
    )


def compute_percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of the values, in ascending order, that at least so many of 100 do not exceed."""
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1] if ordered else None


def compute_days(days: Iterable[MachineDay], start: datetime, end: datetime) -> tuple[DayFigure, ...]:
    """Return a figure for each day of a time, also for days without an assessment."""
    by_day: dict[date, list[MachineDay]] = {}
    for machine_day in days:
        by_day.setdefault(machine_day.day, []).append(machine_day)
    figures: list[DayFigure] = []
    for number in range(math.ceil((end - start) / timedelta(days=1))):
        begin = start + timedelta(days=number)
        assessed = by_day.get(begin.date(), [])
        if not assessed:
            figures.append(DayFigure(begin, 0, None, None, None, None, None, None))
            continue
        states = Counter(machine_day.compliance for machine_day in assessed)
        figures.append(
            DayFigure(
                day=begin,
                assessed=len(assessed),
                compliant=states[Compliance.COMPLIANT],
                non_compliant=states[Compliance.NON_COMPLIANT],
                unclear=states[Compliance.NOT_ASSESSED],
                critical=sum(machine_day.critical for machine_day in assessed),
                security=sum(machine_day.security for machine_day in assessed),
                reboot_required=sum(machine_day.reboot == "yes" for machine_day in assessed),
            )
        )
    return tuple(figures)


def compute_weeks(
    days: Iterable[MachineDay], machines: Sequence[ScopeMachine], start: datetime, end: datetime
) -> tuple[WeekFigure, ...]:
    """Return the state at the end of each week (Sunday), and at the end of the time."""
    ordered, names = sorted(days, key=lambda day: day.day), {machine.name for machine in machines}
    midnights = [start + timedelta(days=n) for n in range(1, 32)]
    stops = [midnight for midnight in midnights if midnight < end and midnight.weekday() == 0]
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
    for day in sorted((day for day in days if _begin(day.day) < end), key=lambda day: day.day):
        last[day.machine] = day
        counts[day.machine] += 1
    missing: dict[str, list[Fix]] = {}
    for fix in fixes:
        if fix.is_missing_at(end):
            missing.setdefault(fix.machine, []).append(fix)
    return tuple(
        _build_machine(machine, last.get(machine.name), counts[machine.name], missing.get(machine.name, []), end)
        for machine in sorted(machines, key=lambda machine: machine.name)
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
    empty = [figure.day for figure in compute_days(data.days, month.start, end) if not figure.assessed]
    if empty:
        first = ", ".join(f"{day:%d}" for day in empty[:10]) + (" …" if len(empty) > 10 else "")
        yield f"Days without an assessment: {len(empty)} (day {first}). Their figures are empty, not zero."
    removed = sum(not machine.in_inventory for machine in machines)
    if removed:
        yield f"Machines that have records, but are not in the present inventory: {removed}."
    unclear = sum(fix.known_at_least for fix in fixes)
    if unclear:
        yield f"Missing fixes that became known before the month, it is not known when: {unclear}. Ages are minimums."
