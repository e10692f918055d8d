"""Formats durations, counts and times, and describes figures in words: the same words in all reports and commands."""

import json
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from inventory import name_lists
from tasks.domain.model import MachinePlan
from tasks.rules.runs.figures import PlanFigures, compute_min_seconds

NO_FIGURE: Final = "\N{EN DASH}"
"""The text for a missing figure."""

NOT_KNOWN: Final = "not known"
"""The text for a figure that no machine reports. It is not the same as zero."""


_BYTE_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def format_known_duration(seconds: float | None) -> str:
    """Return seconds as "42 s", "3 min 05 s" or "2 h 07 min"; a dash for None."""
    if seconds is None:
        return NO_FIGURE
    sign, whole = ("-" if seconds <= -0.5 else ""), round(abs(seconds))
    if whole < 60:
        return f"{sign}{whole} s"
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_age(at: datetime, now: datetime) -> str:
    """Return how long ago a time was: "just now" (under 2 minutes), "5 min ago", "3 h ago", "2 days ago"."""
    seconds = max(0.0, (now - at).total_seconds())
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def format_minutes(seconds: float) -> str:
    """Return seconds as minutes, rounded up: "under 1 min", "12 min", "2 h 07 min"."""
    if seconds < 60:
        return "under 1 min"
    whole = -int(-seconds // 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"


def format_scope(scope: str) -> str:
    """Return a scope as people read it: "all machines" instead of "*"."""
    return "all machines" if scope.strip() == "*" else scope


format_count: Final = name_lists.format_count
"""Return a number with its noun: see there."""


def format_share(share: float | None) -> str:
    """Return a share as "93.4 %"; a dash for None. Only all is shown as 100.0 %, and only none as 0.0 %."""
    if share is None:
        return NO_FIGURE
    percent = share * 100
    return f"{min(max(percent, 0.1), 99.9) if 0 < share < 1 else percent:.1f} %"


def format_size(count: int | None) -> str:
    """Return a size in bytes as "999 B", "20 kB" or "2.5 GB"; a dash for None."""
    if count is None:
        return NO_FIGURE
    if count < 1000:
        return f"{count} B"
    unit, value = next(
        (name, count / scale) for name, scale in _BYTE_UNITS if count >= scale * 0.9995 or scale == _BYTE_UNITS[-1][1]
    )
    return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"


def load_zone_or_utc(name: str) -> ZoneInfo:
    """Return the time zone, or UTC if this system does not know it. An unknown zone must not prevent a report."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def format_iso_utc(at: datetime | None) -> str | None:
    """Return a datetime as ISO 8601 in UTC ("…Z"), for programs; None for None."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def format_second_utc(at: datetime | None) -> str:
    """Return a datetime as "2026-11-20 02:00:05Z", for tables: to the second, in UTC; a dash for None."""
    return NO_FIGURE if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def format_moment(at: datetime | None, zone: ZoneInfo) -> str:
    """Return a datetime as "Fri 20 Nov 2026 02:00:05" in the zone; a dash for None."""
    return NO_FIGURE if at is None else f"{at.astimezone(zone):%a %d %b %Y %H:%M:%S}"


def format_time_of_day(at: datetime | None, zone: ZoneInfo, *, seconds: bool = True) -> str:
    """Return the time of day in the zone as "02:00:05", or "02:00" without seconds; a dash for None."""
    return NO_FIGURE if at is None else at.astimezone(zone).strftime("%H:%M:%S" if seconds else "%H:%M")


def format_details(text: str) -> str:
    """Return a JSON object as ``name: value, name: value``, for people; any other text as it is."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(values, dict):
        return text
    shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return ", ".join(f"{key}: {value}" for key, value in shown.items())


_FROM_EARLIER_RUNS = "from earlier runs"


def describe_cves(count: int | None) -> str:
    """Return the number of fixed CVEs: "3 CVEs", or "CVEs not known" for None."""
    return f"CVEs {NOT_KNOWN}" if count is None else format_count(count, "CVE")


def describe_reboots(figures: PlanFigures) -> str:
    """Return the expected number of reboots: "2 reboots and 3 more possible", "1 reboot possible", "0 reboots"."""
    if not figures.possible_reboots:
        return format_count(figures.reboots, "reboot")
    if not figures.reboots:
        return f"{format_count(figures.possible_reboots, 'reboot')} possible"
    return f"{format_count(figures.reboots, 'reboot')} and {figures.possible_reboots} more possible"


def describe_minutes_range(least: float | None, most: float) -> str:
    """Return predicted seconds as minutes; as a range if a reboot may be necessary: "under 1 min to 7 min"."""
    first, last = format_minutes(most if least is None else least), format_minutes(most)
    return last if first == last else f"{first} to {last}"


def describe_prediction(plan: MachinePlan) -> str:
    """Return the predicted duration of a machine."""
    return describe_minutes_range(compute_min_seconds(plan), plan.prediction.total_seconds)


def describe_prediction_basis(basis: str) -> str:
    """Return how reliable a prediction is."""
    if basis == "defaults":
        return "a cautious guess: no earlier run of it is known"
    if basis.startswith("defaults; learned"):
        return "partly from earlier runs, partly a cautious guess"
    if basis.startswith("rehearsed"):
        return (
            "from a rehearsal"
            if basis == "rehearsed"
            else "from a rehearsal, and longer where it is known to be slower"
        )
    return _FROM_EARLIER_RUNS if basis == "learned" else f"from {basis}"


def describe_slowest_machine(figures: PlanFigures) -> str:
    """Return the predicted duration of the slowest machine and how reliable it is; "" if there is no such machine."""
    plan = figures.slowest_plan
    if plan is None:
        return ""
    basis = describe_prediction_basis(plan.prediction.basis)
    return f"the slowest machine takes about {describe_prediction(plan)} ({basis})"


RUN_KIND_TITLES: Final = {
    "patch": "Patch run",
    "stage": "Download",
    "plan": "Plan",
    "assess": "Assessment",
    "shard": "Part of a run",
}
