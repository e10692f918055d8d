"""The simulated year: carries out decisions, lets machines fail, and shows decide what would be known."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from tasks.domain.model import UpdateKey
from tasks.domain.states import Classification, OperationState
from tasks.rules.automatic.deadlines import find_missing_since
from tasks.rules.automatic.model import (
    ActiveRun,
    AssessMachines,
    AutomaticDecision,
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    DueUpdate,
    FleetView,
    HeldUpdate,
    HoldUpdate,
    MachineView,
    Rollout,
    RolloutState,
    RunPlan,
    StartRun,
    Tell,
    Try,
)
from tests.support.automatic_year.fleet import (
    DAY,
    HOUR,
    Host,
    Setting,
    build_fleet,
    build_freezes,
    build_policy,
    build_risks,
)
from tests.support.automatic_year.releases import Release, read_releases

Decide = Callable[[AutomaticPolicy, FleetView, datetime], AutomaticDecision]


@dataclass
class Run:
    """A run that goes on, with the time at which each machine has its turn."""

    id: str
    machines: tuple[str, ...]
    ends_at: datetime
    plan: RunPlan | None
    started_at: datetime
    turns: dict[str, datetime] = field(default_factory=dict)


class World:
    """Everything that is true, and everything that is recorded.

    Args:
        setting: what is simulated.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.dice = Random(setting.seed)
        self.policy = build_policy(setting)
        self.hosts = {host.name: host for host in build_fleet(setting, self.dice)}
        self.set_sizes: dict[str, int] = {}
        for host in self.hosts.values():
            for name in host.sets:
                self.set_sizes[name] = self.set_sizes.get(name, 0) + 1
        self.freezes = build_freezes(setting)
        end = setting.start + setting.days * DAY
        self.releases = [each for each in read_releases() if setting.start <= each.at < end]
        self.risks = build_risks({each.cve: each.at + 5 * DAY for each in self.releases if each.cve})
        self.cves = {(each.package, each.version): each.cve for each in self.releases}
        self.failing_updates, self.harmful_updates = self._choose_bad_updates()
        self.rollouts: list[Rollout] = []
        self.tries: dict[str, list[Try]] = {}
        self.tries_of: dict[str, list[Try]] = {}
        self.runs: list[Run] = []
        self.started: dict[str, RunPlan] = {}
        self.asked: set[str] = set()
        self.held: dict[UpdateKey, HeldUpdate] = {}
        self.told: dict[str, datetime] = {}
        self.sightings: dict[UpdateKey, datetime] = {}
        self._views: dict[str, MachineView] = {}
        self._shared: dict[tuple[DueUpdate, ...], tuple[DueUpdate, ...]] = {}
        self._manual = 0

    def _choose_bad_updates(self) -> tuple[set[UpdateKey], set[UpdateKey]]:
        keys = [(each.package, each.version) for each in self.releases]
        count = round(len(keys) * self.setting.bad_updates)
        bad = self.dice.sample(keys, min(len(keys), max(2, count)))
        return set(bad[: len(bad) * 2 // 3]), set(bad[len(bad) * 2 // 3 :])

    def pass_time(self, before: datetime, now: datetime) -> None:
        """Let happen what happens between two ticks."""
        while self.releases and self.releases[0].at <= now:
            self._release(self.releases.pop(0))
        for run in [each for each in self.runs if each.ends_at <= now]:
            self._end_run(run)
        for host in self.hosts.values():
            if host.opted_out and any(before < each <= now for pair in host.opted_out for each in pair):
                host.changed = True
            if host.sick_until is not None and host.sick_until <= now:
                host.sick_until = None
        self.held = {key: each for key, each in self.held.items() if now - each.at < 12 * DAY}  # people release it
        if self.dice.random() < 0.002 * (now - before) / HOUR:
            self._start_manual_run(now)

    def _release(self, release: Release) -> None:
        key = (release.package, release.version)
        self.sightings.setdefault(key, release.at)
        for host in self.hosts.values():
            if release.kind in host.kinds:
                _, since = host.lacks.get(release.package, ("", release.at))
                host.lacks[release.package] = (release.version, since)
                host.offered_at[release.package] = release.at

    def _start_manual_run(self, now: datetime) -> None:
        """People start a run of their own, without the updates of a rollout."""
        busy = {name for run in self.runs for name in run.machines}
        free = [host.name for host in self.hosts.values() if host.name not in busy]
        self._manual += 1
        chosen = tuple(self.dice.sample(free, min(len(free), max(1, len(self.hosts) // 50))))
        length = self.dice.choice((1, 3, 6)) * HOUR
        self.runs.append(Run(f"manual-{self._manual}", chosen, now + length, None, now))

    def build_view(self, now: datetime) -> FleetView:
        """Return what is known."""
        machines = []
        for host in self.hosts.values():
            if host.changed:
                self._views[host.name] = self._build_machine(host, now)
                host.changed = False
            machines.append(self._views[host.name])
        rolling = [each for each in self.rollouts if each.state is RolloutState.ROLLING_FORWARD]
        done = [each for each in self.rollouts if each.state is RolloutState.COMPLETED][-1:]
        fresh = [each for each in self.rollouts if each.ended_at is not None and now - each.ended_at < 2 * DAY]
        shown = {each.id for each in (*rolling, *done, *fresh)}
        return FleetView(
            machines=tuple(machines),
            rollouts=tuple(self.rollouts[-12:]),
            tries=tuple(each for rollout_id in sorted(shown) for each in self.tries.get(rollout_id, ())),
            active_runs=tuple(ActiveRun(run.id, run.machines, run.plan) for run in self.runs),
            held_updates=tuple(self.held.values()),
            freezes=self.freezes,
            announced=frozenset(self.told),
            set_sizes=self.set_sizes,
            risks=self.risks,
        )

    def _build_machine(self, host: Host, now: datetime) -> MachineView:
        return MachineView(
            name=host.name,
            location=host.location,
            availability_zone=host.availability_zone,
            zone=host.zone,
            sets=host.sets,
            opted_out="people said so" if host.is_out(now) else "",
            last_seen=host.last_seen,
            assessed_at=host.assessed_at,
            asked_at=host.asked_at,
            is_healthy=host.is_healthy,
            pending=host.pending,
        )

    def carry_out(self, decision: AutomaticDecision, now: datetime) -> None:
        """Carry out a decision. What was carried out already changes nothing."""
        for action in decision.actions:
            match action:
                case CreateRollout(rollout):
                    if all(each.id != rollout.id for each in self.rollouts):
                        self.rollouts.append(rollout)
                case ChangeRollout(rollout):
                    self.rollouts = [rollout if _is_earlier(each, rollout) else each for each in self.rollouts]
                case StartRun(plan):
                    self._start(plan, now)
                case AssessMachines(key, machines):
                    self._assess(key, machines, now)
                case HoldUpdate(update):
                    self.held.setdefault((update.name, update.version), update)
                case Tell(key, _):
                    self.told.setdefault(key, now)

    def take_snapshot(self) -> tuple[object, ...]:
        """Return what a tick may change. Assessments only read, so they may be repeated."""
        shown = tuple((each.id, each.updates, each.state) for each in self.rollouts)
        return len(self.runs), frozenset(self.started), frozenset(self.held), frozenset(self.told), shown

    def _start(self, plan: RunPlan, now: datetime) -> None:
        if plan.key in self.started:
            return
        self.started[plan.key] = plan
        minutes = self.dice.uniform(0.2, 0.9) * plan.window_minutes
        turns = {name: now + timedelta(minutes=self.dice.uniform(1, minutes)) for name in plan.machines}
        run = Run(f"run-{len(self.started)}", plan.machines, now + timedelta(minutes=minutes + 1), plan, now, turns)
        self.runs.append(run)

    def _end_run(self, run: Run) -> None:
        self.runs.remove(run)
        if run.plan is None:
            return
        rollout = next(each for each in self.rollouts if each.id == run.plan.rollout_id)
        for name in run.machines:
            result = self._patch(run, rollout, self.hosts[name])
            self.tries.setdefault(rollout.id, []).append(result)
            self.tries_of.setdefault(name, []).append(result)

    def _patch(self, run: Run, rollout: Rollout, host: Host) -> Try:
        """Return what became of a machine in a run."""
        at = run.turns[host.name]
        place = run.plan.location if run.plan is not None else None
        missed = Try(
            rollout.id,
            run.id,
            host.name,
            OperationState.NOT_STARTED,
            at,
            began=False,
            reason="no answer",
            location=place,
        )
        if not host.is_on(at):
            return missed
        if self.dice.random() < 0.01:
            self._see(host, at)
            return replace(missed, reason="no time was left")
        offered = {(name, version) for name, (version, _) in host.lacks.items()} & rollout.updates
        failed = offered & self.failing_updates if self.dice.random() >= self.setting.failing else offered
        for name, _ in offered - failed:
            del host.lacks[name]
            host.fixed.add(name)
        if (offered - failed) & self.harmful_updates and self.dice.random() < 0.7:
            host.sick_until = at + 4 * DAY
        self._see(host, at)
        return Try(
            rollout.id,
            run.id,
            host.name,
            OperationState.FAILED if failed else OperationState.SUCCEEDED,
            at,
            installed=tuple(sorted(offered - failed)),
            failed_updates=tuple((name, version, "it failed") for name, version in sorted(failed)),
            reason="updates failed" if failed else "",
            location=place,
        )

    def _assess(self, key: str, machines: tuple[str, ...], now: datetime) -> None:
        if key in self.asked:
            return
        self.asked.add(key)
        for name in machines:
            host = self.hosts[name]
            host.asked_at, host.changed = now, True
            if host.is_on(now):
                self._see(host, now)

    def _see(self, host: Host, at: datetime) -> None:
        """Record what an assessment of a machine finds, and a health probe."""
        pending = {(name, version) for name, (version, _) in host.lacks.items()}
        host.missing = find_missing_since(host.missing, sorted(pending), self.sightings, at, host.fixed)
        host.fixed = set()
        found = tuple(
            DueUpdate(
                name,
                version,
                Classification.SECURITY,
                host.missing[name],
                cves=(cve,) if (cve := self.cves[name, version]) else (),
            )
            for name, version in sorted(pending)
        )
        found += (
            DueUpdate("excluded-tool", "1", Classification.SECURITY, self.setting.start),
            DueUpdate("feature", "1", Classification.OTHER, self.setting.start),
        )
        host.pending = self._shared.setdefault(found, found)
        host.assessed_at = host.last_seen = max(at, host.last_seen or at)
        host.is_healthy = host.sick_until is None or host.sick_until <= at
        host.changed = True


def _is_earlier(stored: Rollout, changed: Rollout) -> bool:
    return stored.id == changed.id and stored.state is RolloutState.ROLLING_FORWARD
