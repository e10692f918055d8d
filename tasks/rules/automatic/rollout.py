"""Decides when a new rollout is created, which updates it has, and how locations are divided into phases. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.model import UpdateKey
from tasks.rules.automatic.deadlines import compute_due
from tasks.rules.automatic.fleet_index import CANARY_PATIENCE, FleetIndex
from tasks.rules.automatic.model import AutomaticPolicy, MachineView, Phase, Rollout


def build_phases(
    policy: AutomaticPolicy, locations: Iterable[str], locations_with_updates: Collection[str] | None = None
) -> tuple[Phase, ...]:
    """Return the phases of a rollout, the first one for the canary locations. The same input has the same result.

    Canary locations that are paired with each other are in phases of their own, before all others.

    ``locations_with_updates`` are those with machines that get updates of the rollout; None: all. A canary location
    without any would test nothing. If that is true of all of them, the first location with updates, by name, is the
    canary.
    """
    everywhere = sorted(set(locations), key=_order_by_name)
    chosen = set(everywhere) if locations_with_updates is None else set(locations_with_updates) & set(everywhere)
    canaries = find_canaries(policy, everywhere)
    if not chosen.intersection(canaries):
        canaries = [location for location in everywhere if location in chosen][:1] or canaries
    noncanaries = [location for location in everywhere if location not in canaries]
    pairs = _find_pairs(policy)
    groups = [*_colour(canaries, pairs), *_colour(noncanaries, pairs)]
    return tuple(Phase(number, tuple(group)) for number, group in enumerate(groups, start=1))


def find_canaries(policy: AutomaticPolicy, locations: Iterable[str]) -> list[str]:
    """Return the canary locations that exist, or else the first location by name."""
    everywhere = sorted(set(locations), key=_order_by_name)
    return [location for location in everywhere if location in policy.canary_locations] or everywhere[:1]


def _order_by_name(location: str) -> tuple[bool, str]:
    return (not location, location)  # machines without a location are not the canaries if there are others


def _find_pairs(policy: AutomaticPolicy) -> dict[str, set[str]]:
    pairs: dict[str, set[str]] = {}
    for group in policy.paired_locations:
        for location in group:
            pairs.setdefault(location, set()).update(set(group) - {location})
    return pairs


def _colour(locations: list[str], pairs: dict[str, set[str]]) -> list[list[str]]:
    """Return groups without pairs, as few as this way finds: the location with the fewest groups left is next.

    The way is called DSATUR. It finds the fewest groups for pairs, and for groups that have no location in common.
    """
    groups: list[list[str]] = []
    waiting = list(locations)

    def rank(location: str) -> tuple[int, int]:
        partners = pairs.get(location, set())
        return sum(not partners.isdisjoint(group) for group in groups), len(partners)

    while waiting:
        chosen = max(waiting, key=rank)
        waiting.remove(chosen)
        group = next((group for group in groups if pairs.get(chosen, set()).isdisjoint(group)), None)
        if group is None:
            groups.append([chosen])
        else:
            group.append(chosen)
    return [sorted(group, key=_order_by_name) for group in groups]


_NIGHT = timedelta(days=1)


def freeze_updates(index: FleetIndex) -> frozenset[UpdateKey]:
    """Return all updates that a rollout would install: selected, held neither for all nor on every machine."""
    keys: set[UpdateKey] = set()
    for machine in index.view.machines:
        if not machine.opted_out:
            keys |= index.get_keys(machine)
    return frozenset(keys - index.held)


def create_rollout(index: FleetIndex) -> Rollout | None:
    """Return a new rollout, or None: one is under way, there is nothing to install, or it is too early."""
    if index.rolling is not None:
        return None
    reasons = [(machine, keys) for machine in index.view.machines if (keys := _find_reasons(index, machine))]
    earlier_rollouts = (rollout for rollout in index.view.rollouts if not index.is_later(rollout.created_at))
    last = max(earlier_rollouts, key=lambda rollout: rollout.created_at, default=None)
    if not reasons or (last is not None and not _is_time(index, last, reasons)):
        return None
    # the next number, so that two ticks that see the same rollouts give the same id
    numbers = (rollout.id.rpartition("-")[2] for rollout in index.view.rollouts)
    number = 1 + max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=0)
    return build_rollout(index, f"rollout-{number:04}", index.now)


def build_rollout(index: FleetIndex, rollout_id: str, created_at: datetime, waits_for: Collection[str] = ()) -> Rollout:
    """Return a rollout of all that could be installed now.

    Machines in the locations of ``waits_for`` count also if they were not seen for long.
    """
    updates = freeze_updates(index)
    locations = {machine.location for machine in index.view.machines}
    machines = [
        machine
        for machine in index.view.machines
        if not machine.opted_out
        and (machine.location in waits_for or not index.is_unseen_for(machine, CANARY_PATIENCE))
    ]
    locations_with_updates = {machine.location for machine in machines if index.get_keys(machine) & updates}
    for canary in find_canaries(index.policy, locations):
        if any(machine.location == canary and index.is_outdated(machine, updates) for machine in machines):
            locations_with_updates.add(canary)  # it goes first, unless a new assessment shows that it lacks nothing
    return Rollout(rollout_id, created_at, updates, build_phases(index.policy, locations, locations_with_updates))


def count_canary_phases(policy: AutomaticPolicy, rollout: Rollout) -> int:
    """Return how many of the first phases are for canaries: one, or more if canary locations are paired."""
    named = set(policy.canary_locations)
    later_numbers = (number for number, phase in enumerate(rollout.phases) if not named.intersection(phase.locations))
    return max(1, next(later_numbers, len(rollout.phases)))


def freeze_again(index: FleetIndex, rollout: Rollout) -> Rollout:
    """Return a rollout with the updates of today, unless its first run has begun.

    Its canary locations stay what they are while their machines are off: the rollout waits for them.
    """
    if any(phase.started_at is not None for phase in rollout.phases) or any(
        phase_try.rollout_id == rollout.id for phase_try in index.view.tries
    ):
        return rollout
    if any(run.plan is not None and run.plan.rollout_id == rollout.id for run in index.view.active_runs):
        return rollout
    canaries = rollout.phases[: count_canary_phases(index.policy, rollout)]
    waits_for = {location for phase in canaries for location in phase.locations}
    fresh = build_rollout(index, rollout.id, rollout.created_at, waits_for)
    return replace(rollout, updates=fresh.updates, phases=fresh.phases)


def find_next_creation(index: FleetIndex) -> datetime | None:
    """Return from when on a new rollout may be created; None: one is under way, or there has been none."""
    times = [rollout.created_at for rollout in index.view.rollouts if not index.is_later(rollout.created_at)]
    if index.rolling is not None or not times:
        return None
    return max(times) + timedelta(hours=index.policy.new_rollout_hours)


def can_catch_up(index: FleetIndex, machine: MachineView) -> bool:
    """Return whether a machine gets what it lacks of the newest completed rollout without a new rollout.

    Only where its phase has run. Otherwise all locations that were paused or off meanwhile would go in one night.
    """
    completed = index.completed
    if completed is None or index.is_out_of_tries(completed, machine.name):
        return False
    if not any(machine.location in phase.locations and phase.has_run for phase in completed.phases):
        return False
    remaining = index.find_remaining(completed, machine)
    return bool(remaining) and not remaining & index.held


def _find_reasons(index: FleetIndex, machine: MachineView) -> frozenset[UpdateKey]:
    """Return the updates for which a machine needs a new rollout.

    A machine that is off needs none. Neither does one that can catch up, or that has used its tries: of what it has
    tried often enough, people are told.
    """
    if machine.opted_out or not (index.is_seen(machine) or machine.can_wake):
        return frozenset()
    keys = index.get_keys(machine) - index.held
    if not keys:
        return keys
    if can_catch_up(index, machine) and index.completed is not None:
        keys -= index.completed.updates
    for rollout in index.view.rollouts:
        if keys and index.is_out_of_tries(rollout, machine.name):
            keys -= rollout.updates
    return keys


def _is_time(index: FleetIndex, last: Rollout, reasons: Iterable[tuple[MachineView, frozenset[UpdateKey]]]) -> bool:
    """Return whether enough time has passed, or a deadline would be missed otherwise."""
    regular = last.created_at + timedelta(hours=index.policy.new_rollout_hours)
    if index.now >= regular:
        return True
    # without failures, a phase takes a night and its soak time
    latest_end = regular + len(last.phases) * (_NIGHT + timedelta(hours=index.policy.soak_hours))
    return any(
        update.key in keys - last.updates and compute_due(index.policy, update, index.view.risks) < latest_end
        for machine, keys in reasons
        for update in index.list_selected(machine)
    )
