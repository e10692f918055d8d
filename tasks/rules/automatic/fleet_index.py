"""Answers what all decisions of automatic patching ask about the fleet: tries, pending updates, standings. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

from tasks.domain.assessment import strip_update_id
from tasks.domain.model import UpdateKey, Window
from tasks.domain.states import OperationState, include_esm
from tasks.rules.automatic.deadlines import compute_due
from tasks.rules.automatic.model import (
    ActiveRun,
    AutomaticPolicy,
    DueUpdate,
    FleetView,
    MachineStanding,
    MachineView,
    Phase,
    Rollout,
    RolloutState,
    Try,
)
from tasks.rules.calendar.local_time import get_time_zone, to_wall_time, wall_time_to_utc

_DAY = timedelta(days=1)
_DAYS_TO_SEARCH = 8  # a clock change takes the hours of one night at most; the others are looked at to be sure


def find_off_peak(now: datetime, zone: str, start: time, end: time) -> Window | None:
    """Return the off-peak hours that contain an instant, or None.

    The result is in UTC. Between its start and its end, the machine's clock always shows a time that is in the
    off-peak hours. So with a start or an end that occurs twice, because the clocks are put back, the result is the
    shorter one; and hours that the clocks skip are missing. Equal start and end: all day. ``now`` is aware, ``zone`` an
    IANA name. ``end`` is the first time of day that is no longer off-peak; not later than ``start``: on the next day.
    """
    today = to_wall_time(now, zone).date()
    nights = (_build_night(today + offset * _DAY, zone, start, end) for offset in (-1, 0))
    return next((night for night in nights if night is not None and night.start <= now < night.end), None)


def find_next_off_peak(now: datetime, zone: str, start: time, end: time) -> Window:
    """Return the first off-peak hours that begin after an instant. See ``find_off_peak``."""
    today = to_wall_time(now, zone).date()
    for offset in range(-1, _DAYS_TO_SEARCH):
        night = _build_night(today + offset * _DAY, zone, start, end)
        if night is not None and night.start > now:
            return night
    raise AssertionError("there are off-peak hours in every week")


@lru_cache(maxsize=4096)
def _build_night(day: date, zone: str, start: time, end: time) -> Window | None:
    """Return the off-peak hours that begin on a day, or None when the clocks skip all of them."""
    opens = datetime.combine(day, start)
    if start == end:
        return Window(wall_time_to_utc(opens, zone)[0], wall_time_to_utc(opens + _DAY, zone)[0], zone)
    begin = _list_instants(opens, zone)[-1]
    ends = _list_instants(datetime.combine(day if start < end else day + _DAY, end), zone)
    finish = next((instant for instant in ends if instant > begin), None)
    return None if finish is None else Window(begin, finish, zone)


def _list_instants(wall: datetime, zone: str) -> tuple[datetime, ...]:
    """Return the instants of a wall time, the first one first: two if it occurs twice; skipped: the first one after."""
    first, _ = wall_time_to_utc(wall, zone)
    second = wall.replace(tzinfo=get_time_zone(zone), fold=1).astimezone(UTC)
    return (first, second) if second > first else (first,)


CLOCK_TOLERANCE = timedelta(minutes=10)
"""What is dated so much later than now was made while the controller's clock was wrong, and is ignored."""

ANSWER_GRACE = timedelta(minutes=30)
"""A machine has answered an assessment if it was seen at most so long before it was asked."""

SEEN_GRACE = timedelta(hours=6)
"""A machine counts as seen for so long after its next assessment was due. Assessments may wait for each other."""

PATIENCE = timedelta(days=7)
"""So long a phase waits for machines that can't be patched: their set is unhealthy, or another run has them."""

MAX_TURNS_WITHOUT_BEGIN = 7
"""A phase no longer waits for a machine that had so many turns and never began."""

CANARY_PATIENCE = timedelta(days=3)
"""So long a phase in which nothing was installed waits for machines that were not seen."""

SUCCESSFUL_STATES = frozenset({OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS})


class FleetIndex:
    """A fleet view with answers that are computed once. ``now`` is aware."""

    def __init__(self, policy: AutomaticPolicy, view: FleetView, now: datetime) -> None:
        self.policy, self.view, self.now = policy, view, now
        self.machines = {machine.name: machine for machine in view.machines}
        self.held = self._find_held()
        self._selected: dict[int, tuple[DueUpdate, ...]] = {}
        self._keys: dict[int, frozenset[UpdateKey]] = {}
        self._excluded: dict[str, bool] = {}
        self._seen: dict[str, bool] = {}
        self._shown_at: dict[frozenset[UpdateKey], datetime | None] = {}
        self._worst: dict[int, tuple[DueUpdate, datetime] | None] = {}

    def _find_held(self) -> set[UpdateKey]:
        """Return the keys of held updates. Without an id of Windows (release 0.1.0), each update of that version is."""
        held = {(update.name, update.version) for update in self.view.held_updates}
        names = {name for name, _ in held}
        pending = (update.key for machine in self.view.machines for update in machine.pending if update.name in names)
        return held | {key for key in pending if (key[0], strip_update_id(key[1])) in held}

    @cached_property
    def by_location(self) -> dict[str, list[MachineView]]:
        """The machines of each location."""
        machines_by_location: dict[str, list[MachineView]] = defaultdict(list)
        for machine in self.view.machines:
            machines_by_location[machine.location].append(machine)
        return machines_by_location

    @cached_property
    def run_of(self) -> dict[str, ActiveRun]:
        """The unfinished run of each machine that is in one."""
        return {name: run for run in self.view.active_runs for name in run.machines}

    @cached_property
    def _tries(self) -> dict[tuple[str, str], list[Try]]:
        tries_by_machine: dict[tuple[str, str], list[Try]] = defaultdict(list)
        for phase_try in sorted(self.view.tries, key=lambda phase_try: phase_try.ended_at):
            tries_by_machine[phase_try.rollout_id, phase_try.machine].append(phase_try)
        return tries_by_machine

    @cached_property
    def tries_of(self) -> dict[str, list[Try]]:
        """The tries of each machine in all rollouts."""
        tries_by_machine: dict[str, list[Try]] = defaultdict(list)
        for phase_try in self.view.tries:
            tries_by_machine[phase_try.machine].append(phase_try)
        return tries_by_machine

    def list_tries(self, rollout: Rollout, machine: str) -> Sequence[Try]:
        """Return the tries of a machine in a rollout, the oldest first."""
        return self._tries.get((rollout.id, machine), ())

    def count_used_tries(self, rollout: Rollout, machine: str) -> int:
        """Return how many tries of a rollout a machine has used."""
        return sum(phase_try.began for phase_try in self.list_tries(rollout, machine))

    def list_phase_tries(self, rollout: Rollout, phase: Phase, name: str) -> Sequence[Try]:
        """Return the tries of a machine that count for a phase of a rollout, the oldest first."""
        machine = self.machines.get(name)
        present = machine.location if machine is not None else None
        tries = self.list_tries(rollout, name)
        return [
            phase_try
            for phase_try in tries
            if (present if phase_try.location is None else phase_try.location) in phase.locations
        ]

    def list_begun_tries(self, rollout: Rollout, phase: Phase, name: str) -> list[Try]:
        """Return those of ``list_phase_tries`` in which anything was begun on the machine."""
        return [phase_try for phase_try in self.list_phase_tries(rollout, phase, name) if phase_try.began]

    @cached_property
    def _leavers(self) -> dict[tuple[str, str], dict[str, None]]:
        """The machines that were tried, or have a run, in a location where they are no more: by rollout and location.

        Some have left the inventory as well.
        """
        visits = [
            (phase_try.rollout_id, phase_try.location, phase_try.machine)
            for phase_try in self.view.tries
            if phase_try.began
        ]
        plans = ((run.plan, run.machines) for run in self.view.active_runs if run.plan is not None)
        visits += [(plan.rollout_id, plan.location, name) for plan, names in plans for name in names]
        leavers: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for rollout_id, location, name in visits:
            machine = self.machines.get(name)
            if location is not None and (machine is None or machine.location != location):
                leavers[rollout_id, location][name] = None
        return leavers

    def list_leavers(self, rollout: Rollout, phase: Phase) -> list[MachineView]:
        """Return the machines that were tried in a phase, or have a run there, and are in none of its locations now."""
        names = {name: None for location in phase.locations for name in self._leavers.get((rollout.id, location), ())}
        machines = (self.machines.get(name, MachineView(name)) for name in names)
        return [
            machine
            for machine in machines
            if machine.name not in self.machines or machine.location not in phase.locations
        ]

    def is_out_of_tries(self, rollout: Rollout, machine: str) -> bool:
        """Return whether a machine has used all its tries of a rollout."""
        return self.count_used_tries(rollout, machine) >= self.policy.max_tries

    @cached_property
    def rolling(self) -> Rollout | None:
        """The rollout that is under way, or None."""
        return next((rollout for rollout in self.view.rollouts if rollout.state is RolloutState.ROLLING_FORWARD), None)

    def is_later(self, moment: datetime | None) -> bool:
        """Return whether a time is later than now, more than clocks may differ."""
        return moment is not None and moment > self.now + CLOCK_TOLERANCE

    @cached_property
    def completed(self) -> Rollout | None:
        """The newest completed rollout in which anything ran, or None. Machines that were off catch up with it."""
        rollouts = (rollout for rollout in reversed(self.view.rollouts) if not self.is_later(rollout.created_at))
        completed_rollouts = (rollout for rollout in rollouts if rollout.state is RolloutState.COMPLETED)
        return next((rollout for rollout in completed_rollouts if any(phase.has_run for phase in rollout.phases)), None)

    def list_selected(self, machine: MachineView) -> tuple[DueUpdate, ...]:
        """Return the pending updates that the policy selects, those included that can't be installed now."""
        pending_id = id(machine.pending)  # many machines share one tuple in forecasts and simulations
        if pending_id not in self._selected:
            self._selected[pending_id] = tuple(update for update in machine.pending if self._is_selected(update))
        return self._selected[pending_id]

    def get_keys(self, machine: MachineView) -> frozenset[UpdateKey]:
        """Return the selected updates that the machine itself would install, those included that are held for all."""
        pending_id = id(machine.pending)
        if pending_id not in self._keys:
            self._keys[pending_id] = frozenset(update.key for update in self.list_selected(machine) if not update.held)
        return self._keys[pending_id]

    def find_remaining(self, rollout: Rollout, machine: MachineView) -> frozenset[UpdateKey]:
        """Return the updates of a rollout that a machine still lacks. What its last runs installed is left out."""
        lacking = self.get_keys(machine) & rollout.updates
        if not lacking:
            return lacking
        assessed = machine.assessed_at
        tries = self.tries_of.get(machine.name, ())
        fresh = (phase_try for phase_try in tries if assessed is None or phase_try.ended_at >= assessed)
        # of several versions, one was installed
        installed_names = {name for phase_try in fresh for name, _ in phase_try.installed}
        return frozenset(key for key in lacking if key[0] not in installed_names) if installed_names else lacking

    def find_worst(self, machine: MachineView) -> tuple[DueUpdate, datetime] | None:
        """Return the selected update of a machine with the earliest deadline, and the deadline, or None."""
        pending_id = id(machine.pending)
        if pending_id not in self._worst:
            updates = self.list_selected(machine)
            dues = ((compute_due(self.policy, update, self.view.risks), update.key, update) for update in updates)
            earliest = min(dues, key=lambda due: due[:2], default=None)
            self._worst[pending_id] = None if earliest is None else (earliest[2], earliest[0])
        return self._worst[pending_id]

    def find_due(self, machine: MachineView, among: Iterable[UpdateKey] | None = None) -> datetime | None:
        """Return the earliest deadline of the selected updates of a machine, or of some of them, or None."""
        wanted_keys = None if among is None else frozenset(among)
        dues = (
            compute_due(self.policy, update, self.view.risks)
            for update in self.list_selected(machine)
            if wanted_keys is None or update.key in wanted_keys
        )
        return min(dues, default=None)

    def _is_selected(self, update: DueUpdate) -> bool:
        if update.classification not in include_esm(self.policy.classifications):
            return False
        if update.name not in self._excluded:
            masks = (mask.partition("=")[0].strip().lower() for mask in self.policy.exclude)
            self._excluded[update.name] = any(mask and fnmatchcase(update.name.lower(), mask) for mask in masks)
        return not self._excluded[update.name]

    def is_outdated(self, machine: MachineView, updates: frozenset[UpdateKey]) -> bool:
        """Return whether a machine may lack some of these updates without anybody knowing.

        It was assessed before other machines showed one of them.
        """
        if updates not in self._shown_at:
            self._shown_at[updates] = self._find_shown_at(updates)
        shown_at = self._shown_at[updates]
        return shown_at is not None and (machine.assessed_at is None or machine.assessed_at < shown_at)

    def _find_shown_at(self, updates: frozenset[UpdateKey]) -> datetime | None:
        first: dict[UpdateKey, datetime] = {}
        for machine in self.view.machines:
            if machine.assessed_at is not None:
                for key in self.get_keys(machine) & updates:
                    first[key] = min(machine.assessed_at, first.get(key, machine.assessed_at))
        return max(first.values(), default=None)

    def is_seen(self, machine: MachineView) -> bool:
        """Return whether a machine was seen lately: it answered when it was asked last, and that is not long ago."""
        if machine.name not in self._seen:
            answer = machine.last_answer
            has_answered = answer is not None and (
                machine.asked_at is None or machine.asked_at <= answer + ANSWER_GRACE
            )
            longest = timedelta(hours=self.policy.max_assessment_age_hours) + SEEN_GRACE
            self._seen[machine.name] = has_answered and not self.is_unseen_for(machine, longest)
        return self._seen[machine.name]

    def is_unseen_for(self, machine: MachineView, time: timedelta) -> bool:
        """Return whether a machine has not answered for longer than that."""
        answer = machine.last_answer
        return answer is None or self.now - answer > time

    def is_unhealthy(self, machine: MachineView) -> bool:
        """Return whether a machine is unhealthy or was not seen lately."""
        return machine.is_healthy is False or not self.is_seen(machine)

    @cached_property
    def unhealthy_sets(self) -> dict[str, str]:
        """The sets that are left alone, with the reason."""
        total: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        for machine in self.view.machines:
            if machine.sets:
                total.update(machine.sets)
                if self.is_unhealthy(machine):
                    bad.update(machine.sets)
        return {
            name: f"{count} of {size} members of the set {name} {'is' if count == 1 else 'are'} unhealthy or not seen"
            for name, count in bad.items()
            if (size := self.view.set_sizes.get(name, total[name])) * self.policy.max_unhealthy_percent < count * 100
        }

    def find_unhealthy_set(self, machine: MachineView) -> str:
        """Return why a machine is left alone because of one of its sets, or ""."""
        return next((self.unhealthy_sets[name] for name in machine.sets if name in self.unhealthy_sets), "")

    def find_off_peak(self, zone: str) -> Window | None:
        """Return the off-peak hours of a zone that it has now, or None."""
        return find_off_peak(self.now, zone, self.policy.off_peak_start, self.policy.off_peak_end)

    def find_next_off_peak(self, zone: str) -> Window:
        """Return the next off-peak hours of a zone."""
        return find_next_off_peak(self.now, zone, self.policy.off_peak_start, self.policy.off_peak_end)

    def find_standing(self, rollout: Rollout, machine: MachineView) -> MachineStanding:
        """Return how far a machine is in a rollout."""
        run = self.run_of.get(machine.name)
        tries = self.list_tries(rollout, machine.name)
        remaining = self.find_remaining(rollout, machine)
        if run is not None and run.plan is not None and run.plan.rollout_id == rollout.id:
            return MachineStanding.RUNNING
        if not remaining and not any(phase_try.began for phase_try in tries):
            return MachineStanding.NOT_CONCERNED
        if not remaining or self.is_out_of_tries(rollout, machine.name):
            last = next(phase_try for phase_try in reversed(tries) if phase_try.began)
            return MachineStanding.DONE if not remaining and last.state in SUCCESSFUL_STATES else MachineStanding.FAILED
        if machine.opted_out:
            return MachineStanding.OPTED_OUT
        if not self.is_seen(machine) and not machine.can_wake:
            return MachineStanding.AWAY
        never_began = len(tries) - self.count_used_tries(rollout, machine.name) >= MAX_TURNS_WITHOUT_BEGIN
        is_blocked = never_began or run is not None or self.find_unhealthy_set(machine)
        return MachineStanding.BLOCKED if is_blocked else MachineStanding.READY

    def list_standings(self, rollout: Rollout, phase: Phase) -> list[tuple[MachineView, MachineStanding]]:
        """Return how far the machines of a phase are, those that have no update of the rollout left out.

        A machine that was moved, or has left the inventory, belongs to each phase in which it was tried. What became of
        it there still counts: otherwise a canary location that is renamed would take its failures with it.
        """
        machines = (machine for location in phase.locations for machine in self.by_location.get(location, ()))
        standings = [(machine, self._find_standing_here(rollout, phase, machine)) for machine in machines]
        leavers = self.list_leavers(rollout, phase)
        standings += [(machine, self._judge_tries(rollout, phase, machine)) for machine in leavers]
        return [(machine, standing) for machine, standing in standings if standing is not MachineStanding.NOT_CONCERNED]

    def _find_standing_here(self, rollout: Rollout, phase: Phase, machine: MachineView) -> MachineStanding:
        """Return how far a machine is in the phase of its location. It may have been tried in another one before."""
        standing = self.find_standing(rollout, machine)
        if standing not in {MachineStanding.RUNNING, MachineStanding.DONE, MachineStanding.FAILED}:
            return standing
        locations = {phase_try.location for phase_try in self.list_tries(rollout, machine.name) if phase_try.began}
        run = self.run_of.get(machine.name)
        if standing is MachineStanding.RUNNING and run is not None and run.plan is not None:
            locations.add(run.plan.location)
        is_moved = any(location is not None and location not in phase.locations for location in locations)
        return self._judge_tries(rollout, phase, machine) if is_moved else standing

    def _judge_tries(self, rollout: Rollout, phase: Phase, machine: MachineView) -> MachineStanding:
        """Return how far a machine came in a phase, by its runs in that phase alone."""
        run = self.run_of.get(machine.name)
        plan = run.plan if run is not None else None
        if plan is not None and plan.rollout_id == rollout.id and plan.location in phase.locations:
            return MachineStanding.RUNNING
        began = self.list_begun_tries(rollout, phase, machine.name)
        if not began:
            return MachineStanding.NOT_CONCERNED
        return MachineStanding.DONE if began[-1].state in SUCCESSFUL_STATES else MachineStanding.FAILED
