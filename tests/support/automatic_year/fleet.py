"""The simulated fleet: machines, what is out of order and when, and what people do meanwhile."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from tasks.domain.states import Classification
from tasks.rules.automatic.model import AutomaticPolicy, CveRisk, DueUpdate, RiskRule
from tasks.rules.calendar.freezes import Freeze
from tests.support.automatic_year.releases import YEAR_START

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "UTC", "America/Sao_Paulo",
    "Europe/London", "America/Los_Angeles", "Asia/Tokyo", "Europe/Helsinki", "Pacific/Auckland", "Asia/Tehran",
)  # fmt: skip
PLACES = ("berlin", "boston", "chennai", "sydney", "iceland", "santos", "leeds", "seattle", "osaka", "turku", "nelson",
          "tabriz")  # fmt: skip
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    machines: int = 2000
    locations: int = 12
    days: int = 365
    tick: timedelta = timedelta(minutes=60)
    seed: int = 2022
    failing: float = 0.02  # share of the machines of a run on which everything fails
    bad_updates: float = 0.06  # share of releases that fail everywhere; half as many make machines unhealthy
    missed_ticks: float = 0.03
    doubled_ticks: float = 0.03
    set_size: int = 12
    start: datetime = YEAR_START


@dataclass
class Host:
    """One simulated machine: what is true of it, and what is known."""

    name: str
    location: str
    availability_zone: str
    zone: str
    kinds: frozenset[str]
    sets: tuple[str, ...]
    off: list[tuple[datetime, datetime]] = field(default_factory=list)
    opted_out: list[tuple[datetime, datetime]] = field(default_factory=list)
    lacks: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # package: offered version, lacking since
    offered_at: dict[str, datetime] = field(default_factory=dict)  # package: release of the offered version
    sick_until: datetime | None = None
    last_seen: datetime | None = None
    assessed_at: datetime | None = None
    asked_at: datetime | None = None
    is_healthy: bool | None = None
    pending: tuple[DueUpdate, ...] = ()
    missing: dict[str, datetime] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)
    changed: bool = True

    def is_on(self, now: datetime) -> bool:
        return not any(start <= now < end for start, end in self.off)

    def is_out(self, now: datetime) -> bool:
        return any(start <= now < end for start, end in self.opted_out)


def build_policy(setting: Setting) -> AutomaticPolicy:
    """Return the policy: canaries, pairs, and earlier deadlines for exploited vulnerabilities."""
    places = PLACES[: setting.locations]
    pairs = tuple((places[place], places[place + 1]) for place in range(0, len(places) - 1, 2))
    return AutomaticPolicy(
        canary_locations=(places[0],),
        paired_locations=pairs,
        exclude=("excluded-*",),
        risk_rules=(RiskRule(due_days=14, known_exploited=True), RiskRule(due_days=21, cvss=9)),
    )


def build_fleet(setting: Setting, dice: Random) -> list[Host]:
    """Return the machines, with the times at which they are off or opted out."""
    hosts = []
    for number in range(setting.machines):
        place = number % setting.locations
        kinds = _choose_kinds(dice)
        zone = ZONES[place] if dice.random() < 0.97 else "UTC"
        row = number // setting.locations
        sets = (f"{PLACES[place]}-set-{row // setting.set_size}",) if row % 3 != 2 else ()
        name = f"{PLACES[place]}-{row:04}"
        hosts.append(Host(name, PLACES[place], f"zone-{row % 3 + 1}", zone, kinds, sets))
    for host in hosts:
        host.off = _list_absences(setting, dice)
        if dice.random() < 0.05:
            start = _pick(setting, dice)
            host.opted_out.append((start, start + dice.uniform(1, 60) * DAY))
    for place in range(setting.locations):  # outages of whole locations
        for _ in range(max(1, setting.days // 120)):
            start = _pick(setting, dice)
            outage = (start, start + dice.choice((2, 8, 30, 72)) * HOUR)
            for host in hosts:
                if host.location == PLACES[place]:
                    host.off.append(outage)
    return hosts


def _choose_kinds(dice: Random) -> frozenset[str]:
    if dice.random() < 0.3:
        return frozenset({"windows"})
    return frozenset({"base", *dice.sample(("web", "services", "desktop"), dice.choice((0, 1, 1, 2)))})


def _list_absences(setting: Setting, dice: Random) -> list[tuple[datetime, datetime]]:
    times = dice.choice((0, 0, 0, 1, 2)) * setting.days / 365
    count = int(times) + (dice.random() < times % 1)
    starts = (_pick(setting, dice) for _ in range(count))
    absences = [(start, start + dice.choice((0.1, 0.5, 2, 5, 12, 45)) * DAY) for start in starts]
    if dice.random() < 0.004:  # a machine that never comes back
        start = _pick(setting, dice)
        absences.append((start, start + 10_000 * DAY))
    if dice.random() < 0.02:  # one that is off every weekend
        first = setting.start + DAY * ((5 - setting.start.weekday()) % 7)
        absences += [(first + week * 7 * DAY, first + (week * 7 + 2) * DAY) for week in range(setting.days // 7 + 1)]
    return absences


def _pick(setting: Setting, dice: Random) -> datetime:
    return setting.start + dice.uniform(0, setting.days) * DAY


def build_freezes(setting: Setting) -> tuple[Freeze, ...]:
    """Return freezes: some single nights, a week in spring, and the end of the year."""
    start = setting.start
    found = [
        Freeze(start + 80 * DAY, start + 87 * DAY, "quarter-end closing"),
        Freeze(datetime(2022, 12, 17, tzinfo=UTC), datetime(2023, 1, 2, tzinfo=UTC), "year-end closing"),
    ]
    found += [
        Freeze(start + day * DAY + 20 * HOUR, start + day * DAY + 26 * HOUR, "inventory") for day in range(20, 365, 45)
    ]
    return tuple(found)


def build_risks(exploited: dict[str, datetime]) -> dict[str, CveRisk]:
    """Return what the simulated feeds say of vulnerabilities: made up, but for the names."""
    return {cve: CveRisk(exploited_since=at.date(), epss=0.9, cvss=7.8) for cve, at in exploited.items()}


CLASSES = {"security": Classification.SECURITY, "other": Classification.OTHER}
