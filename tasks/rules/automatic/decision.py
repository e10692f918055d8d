"""Decides what automatic patching does now. Pure: the same view gives the same decision.

A decision is taken every few minutes. It may be carried out twice, or not at all: what it starts has a key, what it
stores has an id, and nothing is remembered from one decision to the next but the records that the view shows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.assessment import strip_update_id
from tasks.rules.automatic.advance import Advance, advance_rollout, list_outdated
from tasks.rules.automatic.fleet_index import PATIENCE, FleetIndex
from tasks.rules.automatic.model import (
    Action,
    AssessMachines,
    AutomaticDecision,
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    FleetView,
    HeldUpdate,
    HoldUpdate,
    MachineView,
    Rollout,
    RolloutState,
    RunPlan,
    StartRun,
    Tell,
    Waiting,
)
from tasks.rules.automatic.rollout import create_rollout, freeze_again
from tasks.rules.automatic.starts import find_starts

ASK_AGAIN = timedelta(hours=1)
"""A machine that did not answer is asked again after this time, so that one that is back is assessed at once."""

TELL_LATER = timedelta(days=7)
"""So long people are told of a faulted rollout if they could not be told at once."""

BATCH_SIZE = 200

_NEVER = datetime.min.replace(tzinfo=UTC)

MAX_NAMES = 8

WARN_BEFORE = timedelta(days=7)
"""People are told so long before a deadline, or when half of its time is over, whichever is later."""


def find_assessments(index: FleetIndex) -> tuple[tuple[AssessMachines, ...], int]:
    """Return the machines that are asked for an assessment now, in batches, and how many are asked later.

    Each batch is a process: a large fleet that was never assessed would need gigabytes at once. Canaries that a rollout
    waits for come first, then the machines that were asked the longest time ago. Machines that do not answer do not
    come again before all others.

    A key names its machines and the hour, so a tick that runs twice asks once.
    """
    first = _list_first_machines(index)
    due = sorted(
        (machine.name not in first, machine.asked_at or _NEVER, machine.name)
        for machine in index.view.machines
        if _is_assessment_due(index, machine) or (machine.name in first and _may_be_asked(index, machine))
    )
    room = max(0, index.policy.max_assessments - len(index.view.assessing))
    names = [name for *_, name in due[:room]]
    batches = (names[start : start + BATCH_SIZE] for start in range(0, len(names), BATCH_SIZE))
    actions = tuple(
        AssessMachines(f"assess/{index.now:%Y%m%dT%HZ}/{_build_digest(batch)}", tuple(batch)) for batch in batches
    )
    return actions, len(due) - len(names)


def _build_digest(names: Iterable[str]) -> str:
    return sha256(chr(0).join(names).encode()).hexdigest()[:16]


def _list_first_machines(index: FleetIndex) -> frozenset[str]:
    """Return machines of the first phase that are assessed before the rollout begins, so that canaries go first."""
    rollout = index.rolling
    if rollout is None:
        return frozenset()
    phase = next((rollout_phase for rollout_phase in rollout.phases if not rollout_phase.has_run), None)
    if phase is None or any(rollout_phase.has_run for rollout_phase in rollout.phases):
        return frozenset()
    return frozenset(machine.name for machine in list_outdated(index, rollout, phase))


def _may_be_asked(index: FleetIndex, machine: MachineView) -> bool:
    if machine.name in index.run_of or machine.name in index.view.assessing:  # its run assesses it
        return False
    return machine.asked_at is None or index.now - machine.asked_at >= ASK_AGAIN


def _is_assessment_due(index: FleetIndex, machine: MachineView) -> bool:
    if not _may_be_asked(index, machine):
        return False
    assessed = machine.assessed_at
    if assessed is None or not index.is_seen(machine):
        return True
    if machine.name in index.tries_of and any(
        phase_try.began and phase_try.ended_at > assessed for phase_try in index.tries_of[machine.name]
    ):
        return True
    limit = timedelta(hours=index.policy.max_assessment_age_hours)
    return index.now - assessed >= limit - min(limit / 4, ASK_AGAIN)  # so that no tick is too late


def find_news(index: FleetIndex, rollout: Rollout | None, held: Iterable[HeldUpdate]) -> tuple[Tell, ...]:
    """Return what people are told now, each thing once.

    ``rollout`` has its new state; None: none is under way. ``held`` are the updates that are held from now on.
    """
    tells = [*_tell_of_later_records(index), *_tell_of_rollout(rollout, held), *_tell_of_faults(index, rollout)]
    tells += _tell_of_tries(index, (rollout, index.completed))
    for machine in index.view.machines:
        tells += _tell_of_machine(index, machine)
    return tuple(tell for tell in tells if tell.key not in index.view.announced)


def _tell_of_later_records(index: FleetIndex) -> Iterator[Tell]:
    """Tell that the controller's clock was wrong, or is wrong now."""
    later_records = index.view.later_records
    if later_records:
        names, latest = sorted(later_records), max(later_records.values())
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        message = (
            f"assessments or runs of {', '.join(names[:MAX_NAMES])}{more} are ignored: they are dated until "
            f"{latest:%Y-%m-%d %H:%M} UTC, and now it is {index.now:%Y-%m-%d %H:%M} UTC. The controller's clock was "
            "ahead then, or is behind now"
        )
        yield Tell(f"later/{latest:%Y%m%dT%H%M%S}", message)


def _tell_of_rollout(rollout: Rollout | None, held: Iterable[HeldUpdate]) -> Iterator[Tell]:
    held = tuple(held)
    names = ", ".join(f"{update.name}={strip_update_id(update.version)} ({update.reason})" for update in held)
    if rollout is not None and rollout.state is RolloutState.FAULTED:
        tail = f"; held from now on: {names}" if names else ""
        yield Tell(f"faulted/{rollout.id}", f"{rollout.id} is faulted: {rollout.message}{tail}")
    elif held and rollout is not None:
        digest = _build_digest(f"{held_update.name}={held_update.version}" for held_update in held)
        yield Tell(f"held/{rollout.id}/{digest}", f"{rollout.id}: updates that failed are held from now on: {names}")


def _tell_of_faults(index: FleetIndex, rollout: Rollout | None) -> Iterator[Tell]:
    """Tell of rollouts that were faulted lately: when they were, nobody could be told."""
    for earlier in index.view.rollouts:
        is_told = earlier.ended_at is None or index.now - earlier.ended_at > TELL_LATER or earlier == rollout
        if earlier.state is RolloutState.FAULTED and not is_told:
            rollout_held = (update for update in index.view.held_updates if update.rollout_id == earlier.id)
            yield from _tell_of_rollout(earlier, rollout_held)


def _tell_of_tries(index: FleetIndex, rollouts: Iterable[Rollout | None]) -> Iterator[Tell]:
    for rollout in rollouts:
        if rollout is None or rollout.state is RolloutState.CANCELLED:
            continue
        for name in sorted({phase_try.machine for phase_try in index.view.tries if phase_try.rollout_id == rollout.id}):
            machine = index.machines.get(name)
            if (
                machine is None
                or not index.is_out_of_tries(rollout, name)
                or not index.find_remaining(rollout, machine)
            ):
                continue
            last = index.list_tries(rollout, name)[-1]
            counted = format_count(index.policy.max_tries, "time")
            yield Tell(
                f"out-of-tries/{rollout.id}/{name}",
                f"{name} was tried {counted} in {rollout.id}: {last.reason or last.state}",
            )


def _tell_of_machine(index: FleetIndex, machine: MachineView) -> Iterator[Tell]:
    worst = index.find_worst(machine)
    if worst is not None and index.now >= worst[1] - (worst[1] - worst[0].since) / 2:
        update, due = worst
        stamp = f"{machine.name}/{update.name}/{due:%Y%m%dT%H%M}"
        subject = f"{machine.name}: {update.name} {strip_update_id(update.version)}"
        if index.now >= due:
            yield Tell(f"breached/{stamp}", f"{subject} was due on {due:%Y-%m-%d %H:%M} UTC and is not installed")
        elif index.now >= due - WARN_BEFORE:
            yield Tell(f"breach-soon/{stamp}", f"{subject} is due on {due:%Y-%m-%d %H:%M} UTC and is not installed")
    answer = machine.last_answer
    is_missed = machine.asked_at is not None and not index.is_seen(machine) and not machine.opted_out
    if is_missed and answer is None:
        yield Tell(f"unseen/{machine.name}/never", f"{machine.name} has never been assessed")
    elif is_missed and answer is not None and index.now - answer >= PATIENCE:
        message = f"{machine.name} was last seen on {answer:%Y-%m-%d %H:%M} UTC"
        yield Tell(f"unseen/{machine.name}/{answer:%Y%m%dT%H%M}", message)


def decide(policy: AutomaticPolicy, view: FleetView, now: datetime) -> AutomaticDecision:
    """Return what automatic patching does now, and who waits for what.

    Actions are to be carried out in their order: a rollout is stored before a run of it starts.
    """
    index = FleetIndex(policy, view, now)
    if not policy.enabled:
        waiting = (
            Waiting(machine.name, "automatic patching is switched off")
            for machine in view.machines
            if index.list_selected(machine)
        )
        return AutomaticDecision(waiting=tuple(waiting))
    steps = decide_steps(index)
    held = steps.advance.held if steps.advance else ()
    actions: list[Action] = [*steps.rollouts, *map(HoldUpdate, held), *map(StartRun, steps.plans)]
    assessments, later_assessments = find_assessments(index)
    actions += assessments
    actions += find_news(index, steps.advance.rollout if steps.advance else None, held)
    return AutomaticDecision(tuple(actions), steps.waiting, later_assessments)


def stop_for_foreign_rollout(decision: AutomaticDecision, view: FleetView, rollout: Rollout) -> AutomaticDecision:
    """Return the decision without actions for rollouts. It tells people why, once."""
    reason = f"{rollout.id} is under way, and its machines are not in this inventory"
    message = (
        f"{reason}: does another controller patch its own machines in the records of this fleet? Give it one of its "
        f"own: fleetpatch deploy --fleet NAME. Nothing is patched here until the rollout is over. If its machines are "
        f"gone for good: fleetpatch automatic cancel {rollout.id}"
    )
    tell = Tell(f"foreign/{rollout.id}", message)
    actions = tuple(action for action in decision.actions if isinstance(action, AssessMachines))
    news = () if tell.key in view.announced else (tell,)
    waiting = tuple(Waiting(machine.name, reason) for machine in view.machines if machine.pending)
    return replace(decision, actions=(*actions, *news), waiting=waiting)


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to rollouts now, and which runs start. A forecast needs only this of a decision."""

    advance: Advance | None
    rollouts: tuple[CreateRollout | ChangeRollout, ...]
    plans: tuple[RunPlan, ...]
    waiting: tuple[Waiting, ...]


def decide_steps(index: FleetIndex) -> Steps:
    """Return what happens to rollouts now, and which runs start."""
    advance = None if index.rolling is None else advance_rollout(index, freeze_again(index, index.rolling))
    is_over = advance is not None and advance.rollout.state is not RolloutState.ROLLING_FORWARD
    plans, waiting = find_starts(index, None if is_over else advance)
    return Steps(advance, tuple(_list_rollout_actions(index, advance, plans)), plans, waiting)


def _list_rollout_actions(
    index: FleetIndex, advance: Advance | None, plans: Iterable[RunPlan]
) -> list[CreateRollout | ChangeRollout]:
    """Return the rollout's creation, or its change if there is one."""
    if advance is None:
        created = create_rollout(index)
        return [] if created is None else [CreateRollout(created)]
    numbers = {plan.phase for plan in plans if plan.rollout_id == advance.rollout.id}
    changed = advance.rollout.mark_started(numbers, index.now)
    return [] if changed == index.rolling else [ChangeRollout(changed)]
