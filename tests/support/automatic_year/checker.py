"""Checks each rule of automatic patching against what was done. It shares no code with what decides."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tasks.rules.automatic.model import (
    AutomaticDecision,
    ChangeRollout,
    CreateRollout,
    FleetView,
    HoldUpdate,
    MachineView,
    Rollout,
    RunPlan,
    StartRun,
    Try,
)
from tests.support.automatic_year.fleet import DAY, HOUR, Host
from tests.support.automatic_year.world import World

RULES = (
    "canary locations first",
    "no other location before a canary succeeded",
    "paired locations never together",
    "next phase only after success",
    "next phase only after the soak time",
    "the same frozen set in all phases",
    "never two availability zones of a location",
    "only in off-peak hours",
    "length of the window",
    "no run in a freeze",
    "opted-out machines left alone",
    "at most max_tries tries",
    "one turn in a night",
    "sets with unhealthy members left alone",
    "two runs never on one machine",
    "held updates in no new rollout",
    "only selected updates",
    "deadline met, or foretold",
    "assessed at least daily",
    "assessed soon when back",
    "a tick twice changes nothing",
    "no rollout without an end",
    "at most one rollout under way",
)
LONGEST_ROLLOUT = 35 * DAY
"""Time in freezes and outages of the controller does not count."""


class Checker:
    """Counts how often each rule was at stake, and how often it was broken.

    Args:
        world: the simulated world. Only what is true there counts, and what was decided.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.policy = world.policy
        self.at_stake: Counter[str] = Counter()
        self.violations: dict[str, list[str]] = defaultdict(list)
        self.frozen: dict[str, frozenset[tuple[str, str]]] = {}
        self.breached: set[tuple[str, str, datetime]] = set()
        self.causes: Counter[str] = Counter()
        self._looked_at: set[tuple[str, int, datetime]] = set()
        self._members_of: FleetView | None = None
        self._members: dict[str, list[MachineView]] = {}
        self.back_since: dict[str, datetime] = {}
        self.ticks: list[datetime] = []
        self.held_at: dict[tuple[str, str], datetime] = {}

    def _check(self, rule: str, is_kept: bool, what: str) -> None:
        self.at_stake[rule] += 1
        if not is_kept:
            self.violations[rule].append(what)

    def see(self, view: FleetView, decision: AutomaticDecision, now: datetime) -> None:
        """Check a decision that is about to be carried out."""
        self.ticks.append(now)
        changed = {each.id: each for each in view.rollouts}
        for action in decision.actions:
            if isinstance(action, CreateRollout | ChangeRollout):
                changed[action.rollout.id] = action.rollout
                self._see_rollout(action.rollout, now, is_new=isinstance(action, CreateRollout))
            elif isinstance(action, HoldUpdate):
                self.held_at.setdefault((action.update.name, action.update.version), now)
        rolling = [each for each in changed.values() if each.state.value == "RollingForward"]
        self._check("at most one rollout under way", len(rolling) <= 1, f"{now}: {[each.id for each in rolling]}")
        machines = {each.name: each for each in view.machines}
        busy = {name: run.run_id for run in view.active_runs for name in run.machines}
        going = [run.plan for run in view.active_runs if run.plan is not None]
        for action in decision.actions:
            if isinstance(action, StartRun) and action.plan.key not in self.world.started:
                self._see_start(action.plan, changed[action.plan.rollout_id], view, machines, busy, going, now)
                going.append(action.plan)
                busy |= dict.fromkeys(action.plan.machines, action.plan.key)
        for rollout in rolling:
            self._check_age(rollout, now)

    def _see_rollout(self, rollout: Rollout, now: datetime, *, is_new: bool) -> None:
        for phase in rollout.phases:
            for group in self.policy.paired_locations:
                together = set(group) & set(phase.locations)
                self._check("paired locations never together", len(together) <= 1, f"{rollout.id}: {together}")
        if is_new:
            held = {key for key, each in self.world.held.items() if each.at < now}
            self._check("held updates in no new rollout", not held & rollout.updates, f"{rollout.id}: {held}")
        wrong = [name for name, _ in rollout.updates if name == "feature" or name.startswith("excluded-")]
        self._check("only selected updates", not wrong, f"{rollout.id}: {wrong}")
        frozen = self.frozen.get(rollout.id)
        if frozen is not None:
            self._check("the same frozen set in all phases", frozen == rollout.updates, rollout.id)

    def _see_start(
        self,
        plan: RunPlan,
        rollout: Rollout,
        view: FleetView,
        machines: dict[str, MachineView],
        busy: dict[str, str],
        going: list[RunPlan],
        now: datetime,
    ) -> None:
        self.frozen.setdefault(rollout.id, rollout.updates)
        self._check_phase(plan, rollout, view, now)
        others = [each for each in going if each.location == plan.location]
        zones = {each.availability_zone for each in others} | {plan.availability_zone}
        self._check("never two availability zones of a location", len(zones) == 1, f"{plan.key}: {zones}")
        pairs = [set(group) for group in self.policy.paired_locations if plan.location in group]
        near = {each.location for each in going if any(each.location in group for group in pairs)} - {plan.location}
        self._check("paired locations never together", not near, f"{plan.key}: {near}")
        self._check_window(plan, now)
        for name in plan.machines:
            self._check("two runs never on one machine", name not in busy, f"{plan.key}: {name} in {busy.get(name)}")
            self._check_machine(plan, rollout, machines[name], view, now)

    def _check_phase(self, plan: RunPlan, rollout: Rollout, view: FleetView, now: datetime) -> None:
        number = next(each.number for each in rollout.phases if plan.location in each.locations)
        canaries = set(self.policy.canary_locations)
        if plan.location not in canaries and rollout.state.value == "RollingForward":
            tries = self.world.tries.get(rollout.id, ())
            places = set(rollout.phases[0].locations)
            first = any(each.began and self.world.hosts[each.machine].location in places for each in tries)
            idle = [] if first else self._list_idle(rollout, canaries if plan.location in places else places, now)
            self._check("canary locations first", not idle, f"{plan.key}: {idle[:5]}")
        if plan.location not in rollout.phases[0].locations and rollout.state.value == "RollingForward":
            good = any(
                each.state.value in ("Succeeded", "CompletedWithWarnings")
                and self.world.hosts[each.machine].location in rollout.phases[0].locations
                for each in self.world.tries.get(rollout.id, ())
            )
            self._check("no other location before a canary succeeded", good, plan.key)
        for phase in rollout.phases[: number - 1]:
            if (rollout.id, phase.number, now) in self._looked_at:
                continue
            self._looked_at.add((rollout.id, phase.number, now))
            self._check_earlier_phase(plan, rollout, phase.locations, view, now)

    def _list_idle(self, rollout: Rollout, places: set[str], now: datetime) -> list[str]:
        """Return machines of these places that lack an update of the rollout, whether or not anybody knows that."""
        return [
            host.name
            for host in self.world.hosts.values()
            if host.location in places
            and not host.is_out(now)
            and now - self.back_since.get(host.name, now) > 26 * HOUR
            and any((name, version) in rollout.updates for name, (version, _) in host.lacks.items())
        ]

    def _wants(self, machine: MachineView, rollout: Rollout, now: datetime) -> bool:
        seen = machine.last_seen is not None and now - machine.last_seen < 3 * DAY
        return seen and any((each.name, each.version) in rollout.updates for each in machine.pending)

    def _check_earlier_phase(
        self, plan: RunPlan, rollout: Rollout, places: tuple[str, ...], view: FleetView, now: datetime
    ) -> None:
        last: dict[str, Try] = {}
        for each in self.world.tries.get(rollout.id, ()):
            if self.world.hosts[each.machine].location in places and each.began:
                last[each.machine] = each
        if rollout.state.value == "RollingForward":
            good = sum(each.state.value in ("Succeeded", "CompletedWithWarnings") for each in last.values())
            unfinished = sum(
                machine.location in places
                and not machine.opted_out
                and machine.is_healthy is not False
                and self._answers(machine, now)
                and machine.name not in last
                and self._wants(machine, rollout, now)
                for machine in view.machines
            )
            enough = good * 100 >= self.policy.success_percent * len(last)
            self._check("next phase only after success", enough, f"{plan.key}: {good} of {len(last)}, {unfinished}")
        first_end = min((each.ended_at for each in last.values()), default=None)
        later = [
            each.ended_at
            for each in self.world.tries.get(rollout.id, ())
            if each.began and _find_number(rollout, self.world.hosts[each.machine]) > _find_place(rollout, places)
        ]
        if first_end is not None and min(later, default=now) < first_end:
            first_end = None  # its machines were all off, and catch up after a later phase
        soaked = first_end is None or now - first_end >= timedelta(hours=self.policy.soak_hours)
        phase = next(each for each in rollout.phases if each.locations == places)
        is_over = phase.ended_at is not None and now - phase.ended_at >= (
            timedelta(hours=self.policy.soak_hours)
            if self._ended_with_runs(rollout, places, phase.ended_at)
            else 0 * DAY
        )
        self._check("next phase only after the soak time", soaked and is_over, f"{plan.key}: {first_end}")

    def _ended_with_runs(self, rollout: Rollout, places: tuple[str, ...], ended_at: datetime) -> bool:
        return any(
            self.world.hosts[each.machine].location in places and each.ended_at <= ended_at
            for each in self.world.tries.get(rollout.id, ())
        )

    def _check_window(self, plan: RunPlan, now: datetime) -> None:
        zone, end = ZoneInfo(plan.zone), plan.window_start + timedelta(minutes=plan.window_minutes)
        self._check("length of the window", 60 <= plan.window_minutes <= 235, f"{plan.key}: {plan.window_minutes}")
        moments = [plan.window_start, end - timedelta(seconds=1)]
        step = plan.window_start + timedelta(minutes=10)
        while step < end:
            moments.append(step)
            step += timedelta(minutes=10)
        hours = [moment.astimezone(zone).hour for moment in moments]
        inside = all(hour >= 22 or hour < 6 for hour in hours) and plan.window_start == now
        self._check("only in off-peak hours", inside, f"{plan.key}: {hours}")
        touched = [
            freeze.reason for freeze in self.world.freezes if freeze.start < end and plan.window_start < freeze.end
        ]
        self._check("no run in a freeze", not touched, f"{plan.key}: {touched}")

    def _check_machine(
        self, plan: RunPlan, rollout: Rollout, machine: MachineView, view: FleetView, now: datetime
    ) -> None:
        host = self.world.hosts[machine.name]
        what = f"{plan.key}: {machine.name}"
        self._check("opted-out machines left alone", not host.is_out(now), what)
        tries = self.world.tries_of.get(machine.name, [])
        mine = [each for each in tries if each.rollout_id == rollout.id]
        used = sum(each.began for each in mine)
        self._check("at most max_tries tries", used < self.policy.max_tries, f"{what}: {used}")
        tonight = _find_night_start(now, machine.zone)
        again = [each for each in tries if each.ended_at >= tonight]
        self._check("one turn in a night", not again, what)
        for name in machine.sets:
            members = self._list_members(view, name)
            bad = sum(each.is_healthy is False or not self._answers(each, now) for each in members)
            size = self.world.set_sizes[name]
            self._check("sets with unhealthy members left alone", bad * 5 <= size, f"{what}: {bad} of {size} in {name}")

    def _list_members(self, view: FleetView, name: str) -> list[MachineView]:
        if self._members_of is not view:
            self._members_of, self._members = view, defaultdict(list)
            for machine in view.machines:
                for each in machine.sets:
                    self._members[each].append(machine)
        return self._members[name]

    def _answers(self, machine: MachineView, now: datetime) -> bool:
        if machine.last_seen is None:
            return False
        asked_later = machine.asked_at is not None and machine.asked_at - machine.last_seen > HOUR
        return not asked_later and now - machine.last_seen <= 2 * DAY

    def _check_age(self, rollout: Rollout, now: datetime) -> None:
        frozen = sum((_overlap(each.start, each.end, rollout.created_at, now) for each in self.world.freezes), 0 * DAY)
        age = now - rollout.created_at - frozen - 2 * DAY * bool(frozen)
        self._check("no rollout without an end", age <= LONGEST_ROLLOUT, f"{rollout.id}: {age}")

    def see_repetition(self, before: tuple[object, ...], after: tuple[object, ...], now: datetime) -> None:
        """Check that a decision that was carried out twice changed nothing."""
        self._check("a tick twice changes nothing", before == after, f"{now}")

    def look_around(self, now: datetime) -> None:
        """Check what is true at a tick: deadlines and assessments."""
        quiet = not self.ticks or now - self.ticks[-1] > 2 * HOUR  # the controller was off
        busy = {name for run in self.world.runs for name in run.machines}
        for host in self.world.hosts.values():
            is_on = host.is_on(now)
            if not is_on or quiet or host.name in busy:
                self.back_since[host.name] = now
            else:
                self._check_assessed(host, self.back_since.setdefault(host.name, now), now)
            for package, (version, since) in self._list_overdue(host, now):
                if (host.name, package, since) not in self.breached:
                    self.breached.add((host.name, package, since))
                    self.causes[self._find_cause(host, package, version, since, now)] += 1
                    told = self._was_foretold(host, now)
                    self._check("deadline met, or foretold", told, f"{now}: {host.name} lacks {package} {version}")

    def _check_assessed(self, host: Host, since: datetime, now: datetime) -> None:
        assessed = host.assessed_at
        if now - since > 26 * HOUR:
            fresh = assessed is not None and now - assessed <= 25 * HOUR
            self._check("assessed at least daily", fresh, f"{now}: {host.name}: {assessed}")
        elif now - since > 3 * HOUR and assessed is not None and since - assessed > DAY:
            self._check("assessed soon when back", False, f"{now}: {host.name}: {assessed}")  # noqa: FBT003
        elif now - since > 3 * HOUR:
            self.at_stake["assessed soon when back"] += 1

    def _list_overdue(self, host: Host, now: datetime) -> Iterator[tuple[str, tuple[str, datetime]]]:
        for package, (version, since) in host.lacks.items():
            self.at_stake["deadline met, or foretold"] += 1
            risk = self.world.risks.get(self.world.cves[package, version])
            due = since + timedelta(days=self.policy.due_days)
            if risk is not None and risk.exploited_since is not None:
                listed = datetime.combine(risk.exploited_since, datetime.min.time(), since.tzinfo)
                due = min(due, max(since, listed) + 14 * DAY)
            if now > due + HOUR:
                yield package, (version, since)

    def _was_foretold(self, host: Host, now: datetime) -> bool:
        """Return whether people were told before of the machine: of a deadline, or that it is off or fails."""
        words = (f"/{host.name}/", f"unseen/{host.name}")
        told = [key for key, at in self.world.told.items() if at < now and any(word in key for word in words)]
        return any(key.startswith(("breach-soon/", "breached/", "unseen/", "out-of-tries/")) for key in told)

    def _find_cause(self, host: Host, package: str, version: str, since: datetime, now: datetime) -> str:
        """Return what kept an update from its machine, for the table."""
        away = sum((_overlap(start, end, since, now) for start, end in host.off), 0 * DAY)
        out = sum((_overlap(start, end, since, now) for start, end in host.opted_out), 0 * DAY)
        if out > 10 * DAY:
            return "opted out for more than 10 days"
        if away > 7 * DAY:
            return "off for more than 7 days"
        key = (package, version)
        if key in self.world.failing_updates or key in self.world.harmful_updates or key in self.held_at:
            return "the update fails or does harm, or is held"
        if any(each.start < now and since < each.end for each in self.world.freezes if each.end - each.start > 3 * DAY):
            return "a freeze of more than 3 days"
        if any(each.reason and each.ended_at > since for each in self.world.tries_of.get(host.name, [])):
            return "runs on the machine failed"
        return "none of these: too slow"


def _find_number(rollout: Rollout, host: Host) -> int:
    return next(each.number for each in rollout.phases if host.location in each.locations)


def _find_place(rollout: Rollout, places: tuple[str, ...]) -> int:
    return next(each.number for each in rollout.phases if each.locations == places)


def _find_night_start(now: datetime, zone: str) -> datetime:
    """Return an instant after the end of the last night and before this one: 10 hours ago, at most."""
    local = now.astimezone(ZoneInfo(zone))
    hours = local.hour - 22 if local.hour >= 22 else local.hour + 2
    return now - timedelta(hours=hours + 2)


def _overlap(start: datetime, end: datetime, since: datetime, until: datetime) -> timedelta:
    return max(min(end, until) - max(start, since), 0 * DAY)
