"""A simulated fleet under maintenance control: updates appear, machines are off, windows open, people act."""

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from tasks.domain.model import NotHeld
from tasks.domain.states import Classification, OperationState
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Occurrence, Schedule, iterate_occurrences
from tasks.rules.maintenance import windows as window_rules
from tasks.rules.maintenance.model import (
    Application,
    ApplyCause,
    ApplyMode,
    GroupMachine,
    GroupState,
    GroupView,
    HeldPackage,
    HoldPolicy,
    Look,
    WaitingUpdate,
)
from tasks.rules.recurrence.parser import parse_recurrence

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = HOUR
_KINDS = (Classification.CRITICAL, Classification.SECURITY, Classification.OTHER, Classification.OTHER)


@dataclass(frozen=True)
class Setting:
    """How large and how unkind the world is.

    Attributes:
        trouble: 1: as it comes; 0: nothing goes wrong.
    """

    days: int = 60
    groups: int = 12
    machines: int = 4
    seed: int = 40
    trouble: float = 1.0


@dataclass
class Host:
    """A machine as it is, and what the records know of it."""

    name: str
    lacks: dict[str, Classification] = field(default_factory=dict)
    off_until: datetime = START
    answered_at: datetime | None = None
    known: dict[str, WaitingUpdate] = field(default_factory=dict)


@dataclass
class Group:
    """A group as it is, and what maintenance control remembers of it."""

    name: str
    policy: HoldPolicy
    schedule: Schedule
    freezes: list[Freeze]
    hosts: list[Host]
    state: GroupState
    windows: list[Occurrence] = field(default_factory=list)
    inherited: datetime | None = None
    watched_from: datetime = START
    unreadable_until: datetime = START
    no_worker_until: datetime = START
    forbidden_until: datetime = START
    run_ends: datetime | None = None
    failing: bool = False
    ended: list[HeldPackage] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    asked: list[Application] = field(default_factory=list)  # every application that was ever recorded


@dataclass(frozen=True)
class Run:
    """A run that began, as the checker sees it."""

    group: str
    start: datetime
    end: datetime
    cause: ApplyCause | None
    window: Occurrence | None
    only_exceptions: bool
    installed: tuple[tuple[str, str], ...]
    skipped_hosts: frozenset[str]


class World:
    """The fleet. Everything in it comes from the dice of its setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.dice = Random(setting.seed)
        self.now = START
        self.groups = [self._make_group(number) for number in range(setting.groups)]
        self.removed: list[tuple[Group, datetime | None]] = []
        self.closed: list[tuple[Group, Occurrence]] = []
        self._hosts = self._updates = 0
        self._claimed: set[tuple[str, datetime]] = set()

    def happens(self, times_a_day: float) -> bool:
        """Roll whether something unkind happens in this step."""
        return self.dice.random() < times_a_day * self.setting.trouble * STEP / DAY

    def _make_group(self, number: int) -> Group:
        recurrences = (
            "Week Saturday",
            "Month Second Tuesday",
            "3Weeks Sunday",
            "Day",
            "2Weeks Wednesday",
            "Once",
            "6Weeks Monday",
        )
        modes = (ApplyMode.LAST_WINDOW, ApplyMode.LAST_WINDOW, ApplyMode.LAST_WINDOW, ApplyMode.EACH_WINDOW)
        exceptions = NotHeld(frozenset({Classification.CRITICAL}) if number % 3 == 1 else frozenset())
        policy = HoldPolicy((35 * DAY, 10 * DAY, 35 * DAY, 20 * DAY)[number % 4], modes[number % 4], exceptions)
        if number == 5:  # its updates don't wait for long, and it has no window at all
            policy = replace(policy, hold=12 * DAY)
        schedule = Schedule(
            parse_recurrence(recurrences[number % len(recurrences)]), START.replace(hour=22, tzinfo=None), 120, "UTC"
        )
        freezes = [Freeze(START + 20 * DAY, START + 24 * DAY, "closing")] if number % 2 else []
        if number % 5 == 4:
            freezes.append(Freeze(START + 30 * DAY, START + 52 * DAY, "a long one"))
        name = f"group-{number}"
        hosts = [Host(f"{name}-m{m}") for m in range(self.setting.machines)]
        windows = list(iterate_occurrences(schedule, START, until=START + self.setting.days * DAY + 100 * DAY))
        watched_from = START + 3 * DAY if number % 6 == 3 else START  # deployed, and not looked at yet
        return Group(name, policy, schedule, freezes, hosts, GroupState(name), windows, watched_from=watched_from)

    def pass_time(self, now: datetime) -> None:
        """Let updates appear, machines answer, people act and runs end."""
        self.now = now
        for group in self.groups:
            self._disturb(group)
            for host in group.hosts:
                self._live(group, host)
            if group.run_ends is not None and now >= group.run_ends:
                self._end_run(group)

    def _disturb(self, group: Group) -> None:
        dice, now = self.dice, self.now
        if self.happens(0.02):
            group.unreadable_until = now + dice.choice((2, 30)) * HOUR
        if self.happens(0.03):
            group.no_worker_until = now + dice.choice((5, 30, 100)) * HOUR
        if self.happens(0.06):
            group.forbidden_until = now + dice.choice((10, 80, 200)) * HOUR
        if self.happens(0.01):
            group.freezes.append(Freeze(now, now + dice.choice((1, 4)) * DAY, "declared at once"))
        if self.happens(0.02):  # a machine leaves, and a new one comes that was never asked
            group.hosts.pop(dice.randrange(len(group.hosts)))
            self._hosts += 1
            group.hosts.append(Host(f"{group.name}-new{self._hosts}"))
        if self.happens(0.02):  # all get other names: they lack the same, and nobody has asked them yet
            self._hosts += 1
            group.hosts = [Host(f"{host.name}-{self._hosts}", dict(host.lacks)) for host in group.hosts]
        if self.happens(0.02):  # one comes from another group, with what was seen there
            other = dice.choice(self.groups)
            if other is not group and len(other.hosts) > 1:
                group.hosts.append(other.hosts.pop())
        if self.happens(0.004):  # the configuration gets another name
            package = group.state.package
            first = package.first_seen if package is not None else None
            self.removed.append((replace_group(group), first))
            group.inherited, group.name = first, f"{group.name}x"
            group.state, group.run_ends, group.asked = GroupState(group.name), None, []
            group.watched_from = now + dice.choice((0, 30)) * HOUR

    def _live(self, group: Group, host: Host) -> None:
        dice, now = self.dice, self.now
        pace = 0.1 if group.name.startswith(("group-3", "group-7")) else 0.5
        if dice.random() < pace * STEP / DAY:
            self._updates += 1
            host.lacks[f"update-{self._updates % 40}"] = dice.choice(_KINDS)
        if self.happens(0.05):
            host.off_until = now + dice.choice((3, 20, 90)) * HOUR
        if host.lacks and dice.random() < 0.005:
            host.lacks.clear()  # somebody has patched it by hand
        if now.hour % 3 == 0 and now >= host.off_until:
            host.answered_at = now
            seen = {
                name: host.known.get(name) or WaitingUpdate(name, "1", kind, now) for name, kind in host.lacks.items()
            }
            host.known = seen

    def build_view(self, group: Group) -> GroupView:
        """Return what is known of a group."""
        if self.now < group.unreadable_until:
            return GroupView(problem="the inventory can't be read")
        machines = tuple(
            GroupMachine(host.name, host.answered_at, tuple(self._list_held(group, host))) for host in group.hosts
        )
        return GroupView(machines, self.list_windows(group, self.now - 3 * HOUR), tuple(group.freezes), group.inherited)

    @staticmethod
    def list_windows(group: Group, since: datetime) -> tuple[Occurrence, ...]:
        """Return the windows of a group that open from a time on, as far as anybody looks ahead."""
        first = bisect_left(group.windows, since, key=lambda window: window.start)
        last = bisect_left(group.windows, since + group.policy.hold + 50 * DAY, key=lambda window: window.start)
        return tuple(group.windows[first:last])

    def _list_held(self, group: Group, host: Host) -> list[WaitingUpdate]:
        exceptions = group.policy.not_held.classifications
        return [update for update in host.known.values() if update.classification not in exceptions]

    def carry_out(self, group: Group, look: Look) -> Run | None:
        """Remember a look, and begin what it begins."""
        group.state = look.state
        if look.ended is not None:
            group.ended.append(look.ended)
        group.told |= {news.key for news in look.news}
        if look.start is None or any(each.key == look.start.key for each in group.asked):
            return None
        return self.apply(group, look.start.cause, look.start.key, None)

    def apply(self, group: Group, cause: ApplyCause, key: str, window: Occurrence | None) -> Run | None:
        """Begin a run that installs everything, unless the policy refuses it."""
        state, now = group.state, self.now
        application = Application(key, state.number, cause, "somebody", now)
        if cause is ApplyCause.OVERDUE and window is None and now < group.forbidden_until:
            application = replace(application, refusal="the policy forbids it", ended_at=now)
            group.asked.append(application)
            group.state = replace(state, applications=(*state.applications, application))
            return None
        group.asked.append(application)
        group.state = replace(state, applications=(*state.applications, replace(application, run_id=key)))
        group.run_ends = now + self.dice.choice((1, 2, 30)) * HOUR
        group.failing = self.happens(0.3 * DAY / STEP)
        return self._install(group, cause, window, only_exceptions=False)

    def _install(
        self, group: Group, cause: ApplyCause | None, window: Occurrence | None, *, only_exceptions: bool
    ) -> Run:
        installed: list[tuple[str, str]] = []
        skipped: set[str] = set()
        for host in group.hosts:
            if self.now < host.off_until or (group.failing and not only_exceptions and self.dice.random() < 0.5):
                skipped.add(host.name)
                continue
            for name, kind in list(host.lacks.items()):
                if not only_exceptions or kind in group.policy.not_held.classifications:
                    del host.lacks[name]
                    installed.append((host.name, name))
        end = self.now + group.policy.window
        return Run(group.name, self.now, end, cause, window, only_exceptions, tuple(installed), frozenset(skipped))

    def _end_run(self, group: Group) -> None:
        last = group.state.applications[-1] if group.state.applications else None
        group.run_ends = None
        if last is None or not last.is_active:
            return
        is_cancelled = self.happens(0.05 * DAY / STEP)
        done = frozenset(host.name for host in group.hosts if not host.lacks)
        state = OperationState.CANCELLED if is_cancelled else OperationState.SUCCEEDED
        ended = replace(last, ended_at=self.now, state=state, done=done)
        group.state = replace(group.state, applications=(*group.state.applications[:-1], ended))

    def open_windows(self, group: Group) -> Run | None:
        """Let the schedule start the run of a window that opens in this step."""
        for window in self.list_windows(group, self.now - STEP + timedelta(seconds=1)):
            if window.start > self.now:
                break
            if (group.name, window.start) in self._claimed or self.now < group.no_worker_until:
                continue
            if any(freeze.start < window.end and window.start < freeze.end for freeze in group.freezes):
                continue
            self._claimed.add((group.name, window.start))
            verdict = window_rules.judge_window(group.policy, group.state, window.start, self.now)
            if verdict.permission is window_rules.Permission.ALL and verdict.cause is not None:
                return self.apply(group, verdict.cause, f"{group.name}/{window.start:%Y%m%d%H}", window)
            if verdict.permission is window_rules.Permission.EXCEPTIONS:
                return self._install(group, None, window, only_exceptions=True)
            self.closed.append((group, window))
        return None

    def let_people_act(self, group: Group) -> Run | None:
        """Let a person apply a package now and then."""
        state = group.state
        if state.package is None or any(each.is_active for each in state.applications) or not self.happens(0.05):
            return None
        if any(freeze.start < self.now + group.policy.window and self.now < freeze.end for freeze in group.freezes):
            return None
        return self.apply(group, ApplyCause.PERSON, f"{group.name}/person/{self.now:%Y%m%d%H}", None)


def replace_group(group: Group) -> Group:
    """Return a copy of a group as it was."""
    return Group(**{name: getattr(group, name) for name in Group.__dataclass_fields__})
