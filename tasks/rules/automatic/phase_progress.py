"""Decides when a phase of a rollout is over, has soaked, or is faulted. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from inventory.name_lists import format_count
from tasks.rules.automatic.fleet_index import FleetIndex, find_last_answer, has_run
from tasks.rules.automatic.machine_progress import (
    PATIENCE,
    SUCCESSFUL_STATES,
    MachineStanding,
    find_canary_fault,
    find_open_since,
    find_soak_end,
    is_gone_for_long,
    lacks_canary_success,
    list_progress,
)
from tasks.rules.automatic.model import HeldUpdate, MachineView, Phase, Rollout, RolloutState, Try, UpdateKey

_People = Sequence[tuple[MachineView, MachineStanding]]

_SETTLED = frozenset({MachineStanding.DONE, MachineStanding.FAILED, MachineStanding.AWAY, MachineStanding.OPTED_OUT})


@dataclass(frozen=True, slots=True)
class Advance:
    """A rollout after a look at its phases."""

    rollout: Rollout
    open_phases: int  # machines of so many phases may be patched; 0: none
    held: tuple[HeldUpdate, ...] = ()
    pause: str = ""  # why nothing of the rollout starts at present, or ""


def advance(index: FleetIndex, rollout: Rollout) -> Advance:
    """Return the rollout with the phases ended that are over, and with its new state."""
    if _is_dated_later(index, rollout):
        fault = "its times are later than now: the controller's clock was ahead then, or is behind now"
        return Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0)
    held: dict[UpdateKey, HeldUpdate] = {}
    for number in range(1, len(rollout.phases) + 1):
        # after a run in a later phase, this one was judged, but for machines that were late
        phase, is_passed = rollout.phases[number - 1], any(map(has_run, rollout.phases[number:]))
        late = _list_late(index, rollout, phase)
        if is_passed and not late:
            continue
        people = list_progress(index, rollout, phase)
        phase = phase if is_passed else _open_again(phase, people)
        watched = frozenset(late) if is_passed else frozenset(machine.name for machine, _ in people)
        since = max(late.values(), default=find_open_since(index, rollout, phase))
        fault = _find_fault(index, rollout, phase, people, watched, since)
        pause = _find_pause(index, rollout, phase, people, watched)
        if fault:
            blamed = _blame(index, rollout, phase, people, everything=True)
            return Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0, blamed)
        if phase.ended_at is None:
            if not _is_over(index, rollout, phase, people):
                return Advance(_store(rollout, phase), number, tuple(held.values()), pause)
            if lacks_canary_success(index, rollout, phase):
                return _wait_for_canaries(index, _store(rollout, phase), phase, pause)
            held |= {
                (held_update.name, held_update.version): held_update
                for held_update in _blame(index, rollout, phase, people, everything=False)
            }
            phase = _end_phase(index, rollout, phase, people)
            rollout = _store(rollout, phase)
        soak_end = find_soak_end(index, phase)
        is_soaking = soak_end is None or index.now < soak_end
        if pause or is_soaking or not _is_proven(index, rollout, phase, people):
            return Advance(rollout, number, tuple(held.values()), pause)
    completed = _end(index, rollout, RolloutState.COMPLETED, "")
    return Advance(completed, len(rollout.phases), tuple(held.values()))


def _is_dated_later(index: FleetIndex, rollout: Rollout) -> bool:
    times = (moment for phase in rollout.phases for moment in (phase.started_at, phase.ended_at))
    return any(index.is_later(moment) for moment in (rollout.created_at, *times))


def _wait_for_canaries(index: FleetIndex, rollout: Rollout, phase: Phase, pause: str) -> Advance:
    """Return a rollout that waits for its first success, or that has waited for too long."""
    fault = find_canary_fault(index, rollout, phase)
    return (
        Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0)
        if fault
        else Advance(rollout, phase.number, (), pause)
    )


def _list_late(index: FleetIndex, rollout: Rollout, phase: Phase) -> dict[str, datetime]:
    """Return the machines that were tried after their phase had ended, because they were off, and when they were."""
    end = phase.ended_at
    if end is None:
        return {}
    names = {
        phase_try.machine
        for phase_try in index.view.tries
        if phase_try.rollout_id == rollout.id and phase_try.ended_at > end
    }
    tries = (phase_try for name in names for phase_try in index.list_begun_tries(rollout, phase, name))
    late = sorted((phase_try.ended_at, phase_try.machine) for phase_try in tries if phase_try.ended_at > end)
    return {name: at for at, name in late}


def _is_proven(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People) -> bool:
    """Return whether the machines of a phase that has ended still have their share of successes.

    A machine that was off when its phase ended may have failed since. It is tried again before a later phase goes on.
    """
    successes: list[bool] = []
    for machine, progress in people:
        if began := index.list_begun_tries(rollout, phase, machine.name):
            successes.append(progress is not MachineStanding.FAILED and began[-1].state in SUCCESSFUL_STATES)
    return _is_enough(index, successes.count(True), successes.count(False))


def _open_again(phase: Phase, people: _People) -> Phase:
    """Return a phase in which nothing ran as one that has not begun, if there is something to do in it now.

    So machines of the canary location that are back in time go first after all.
    """
    if phase.ended_at is None or has_run(phase):
        return phase
    idle = (MachineStanding.AWAY, MachineStanding.OPTED_OUT, MachineStanding.BLOCKED)
    is_idle = all(progress in idle for _, progress in people)
    return phase if is_idle else replace(phase, started_at=None, ended_at=None)


def _store(rollout: Rollout, phase: Phase) -> Rollout:
    return replace(
        rollout,
        phases=tuple(
            phase if rollout_phase.number == phase.number else rollout_phase for rollout_phase in rollout.phases
        ),
    )


def _end_phase(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People) -> Phase:
    ended = (
        phase_try.ended_at
        for machine, _ in people
        for phase_try in index.list_phase_tries(rollout, phase, machine.name)
    )
    return replace(phase, started_at=phase.started_at or min(ended, default=index.now), ended_at=index.now)


def _end(index: FleetIndex, rollout: Rollout, state: RolloutState, message: str) -> Rollout:
    return replace(rollout, state=state, ended_at=index.now, message=message)


def _is_over(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People) -> bool:
    """Return whether a phase waits for nobody any more.

    It does not wait for machines that are off, unless nothing was installed in the phase so far: then for machines that
    were seen in the last days, so that an outage of the canary location does not let the others go without canaries.
    For the same reason the first phase does not end before its machines were assessed again.
    """
    late = index.now - find_open_since(index, rollout, phase) > PATIENCE
    if any(progress not in _SETTLED and not (late and progress is MachineStanding.BLOCKED) for _, progress in people):
        return False
    if any(progress is MachineStanding.DONE for _, progress in people):
        failed = _count(people, MachineStanding.FAILED) + len(_list_lapsed(index, rollout, phase, people))
        return _is_enough(index, _count(people, MachineStanding.DONE), failed)
    if any(progress is MachineStanding.AWAY and not is_gone_for_long(index, machine) for machine, progress in people):
        return False
    is_first = not any(has_run(earlier_phase) for earlier_phase in rollout.phases[: phase.number - 1])
    return not (is_first and list_outdated(index, rollout, phase))


def list_outdated(index: FleetIndex, rollout: Rollout, phase: Phase) -> list[MachineView]:
    """Return the machines of a phase that may lack updates of the rollout without anybody knowing, if they answer."""
    return [
        machine
        for location in phase.locations
        for machine in index.by_location.get(location, ())
        if not machine.opted_out
        and index.is_outdated(machine, rollout.updates)
        and not is_gone_for_long(index, machine)
    ]


def _find_fault(
    index: FleetIndex, rollout: Rollout, phase: Phase, people: _People, watched: Collection[str], since: datetime
) -> str:
    """Return why a rollout must not go on, or "".

    The ``watched`` machines must be healthy if they were patched. Machines that failed, and are off or blocked, may be
    back for so long after ``since`` (PATIENCE).
    """
    where = f"phase {phase.number} ({', '.join(phase.locations)})"
    lapsed = _list_lapsed(index, rollout, phase, people)
    hopeful = _count_hopeful(index, lapsed, is_late=index.now - since > PATIENCE)
    possible = _count(people, MachineStanding.DONE, MachineStanding.READY, MachineStanding.RUNNING) + hopeful
    failed = _count(people, MachineStanding.FAILED) + len(lapsed) - hopeful
    if failed and not _is_enough(index, possible, failed):
        share = f"{index.policy.success_percent:g} % must succeed"
        return f"{where}: {failed} of {format_count(possible + failed, 'machine')} failed; {share}"
    patched = _list_patched(index, rollout, phase, people)
    followed = (machine for machine in patched if machine.name in watched)
    bad = [machine for machine in followed if machine.is_healthy is False or _is_gone(index, machine)]
    if _is_too_many(index, len(bad), people, len(patched)):
        patched_count = format_count(len(patched), "patched machine")
        return f"{where}: of {patched_count}, {len(bad)} unhealthy or not seen since"
    return ""


def _count(people: _People, *standings: MachineStanding) -> int:
    return sum(progress in standings for _, progress in people)


def _is_enough(index: FleetIndex, good: int, failed: int) -> bool:
    return good * 100 >= index.policy.success_percent * (good + failed)


def _list_lapsed(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People) -> _People:
    """Return machines that failed and have not been tried again, because they are off, opted out or blocked."""
    idle = (MachineStanding.AWAY, MachineStanding.OPTED_OUT, MachineStanding.BLOCKED)
    return [
        (machine, progress)
        for machine, progress in people
        if progress in idle and index.list_begun_tries(rollout, phase, machine.name)
    ]


def _count_hopeful(index: FleetIndex, lapsed: _People, *, is_late: bool) -> int:
    """Return how many of these machines may be back, and succeed."""
    if is_late:
        return 0
    left = (machine for machine, progress in lapsed if progress is not MachineStanding.OPTED_OUT)
    return sum(not is_gone_for_long(index, machine) for machine in left)


def _find_pause(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People, watched: Collection[str]) -> str:
    """Return why a rollout waits although nothing is proven yet, or ""."""
    patched = _list_patched(index, rollout, phase, people)
    bad = sum(index.is_unhealthy(machine) for machine in patched if machine.name in watched)
    if _is_too_many(index, bad, people, len(patched)):
        return f"of {format_count(len(patched), 'patched machine')}, {bad} unhealthy or without an answer"
    return ""


def _list_patched(index: FleetIndex, rollout: Rollout, phase: Phase, people: _People) -> list[MachineView]:
    """Return the machines that were patched. Nobody can say how those are that have left the inventory."""
    return [
        machine
        for machine, progress in people
        if machine.name in index.machines
        and progress is not MachineStanding.RUNNING
        and index.list_begun_tries(rollout, phase, machine.name)
    ]


def _is_too_many(index: FleetIndex, bad: int, people: _People, patched: int) -> bool:
    """Return whether bad machines are too large a share of a phase. Machines that are off or opted out don't count."""
    idle = sum(progress in (MachineStanding.AWAY, MachineStanding.OPTED_OUT) for _, progress in people)
    return bad * 100 > index.policy.max_unhealthy_percent * max(patched, len(people) - idle)


def _is_gone(index: FleetIndex, machine: MachineView) -> bool:
    seen = find_last_answer(machine)
    return seen is None or index.now - seen > PATIENCE


def _blame(
    index: FleetIndex, rollout: Rollout, phase: Phase, people: _People, *, everything: bool
) -> tuple[HeldUpdate, ...]:
    """Return the updates that failed on more machines, of those that tried them, than may fail.

    With ``everything`` the rollout is faulted. So what failed less often counts as well if nothing failed so often, and
    so does what was installed on machines that failed, or became unhealthy, for no fault of an update.
    """
    tries = [phase_try for machine, _ in people for phase_try in index.list_begun_tries(rollout, phase, machine.name)]
    failed_for_good = {machine.name for machine, progress in people if progress is MachineStanding.FAILED}
    failures = _find_last_failures(tries, failed_for_good if not everything else None)
    good = Counter(key for phase_try in tries for key in phase_try.installed)
    allowed = 100 - index.policy.success_percent
    reasons = {
        key: next(iter(by_machine.values()))
        for key, by_machine in failures.items()
        if len(by_machine) * 100 > allowed * (len(by_machine) + good[key])
    }
    if everything:
        reasons = reasons or {key: next(iter(by_machine.values())) for key, by_machine in failures.items()}
        reasons |= _blame_installed(index, rollout, phase, people, failures)
    return tuple(
        HeldUpdate(name, version, reason, index.now, rollout.id)
        for (name, version), reason in sorted(reasons.items())
        if (name, version) not in index.held
    )


def _find_last_failures(tries: Iterable[Try], among: Collection[str] | None) -> dict[UpdateKey, dict[str, str]]:
    """Return which updates failed and were not installed later: update -> machine -> reason."""
    reasons_by_update: dict[UpdateKey, dict[str, str]] = {}
    for phase_try in tries:
        for key in phase_try.installed:
            reasons_by_update.get(key, {}).pop(phase_try.machine, None)
        if among is None or phase_try.machine in among:
            for name, version, reason in phase_try.failed_updates:
                reasons_by_update.setdefault((name, version), {})[phase_try.machine] = reason
    return {key: by_machine for key, by_machine in reasons_by_update.items() if by_machine}


def _blame_installed(
    index: FleetIndex, rollout: Rollout, phase: Phase, people: _People, failures: dict[UpdateKey, dict[str, str]]
) -> dict[UpdateKey, str]:
    failing = {name for by_machine in failures.values() for name in by_machine}
    reasons: dict[UpdateKey, str] = {}
    for machine, progress in people:
        is_bad = machine.name in index.machines and (machine.is_healthy is False or _is_gone(index, machine))
        if machine.name in failing or not (is_bad or progress is MachineStanding.FAILED):
            continue
        for phase_try in index.list_phase_tries(rollout, phase, machine.name):
            reason = phase_try.reason or "the machine was unhealthy afterwards"
            reasons |= dict.fromkeys(phase_try.installed, f"{machine.name} had it installed: {reason}")
    return reasons


def find_phase_of(rollout: Rollout, location: str) -> Phase | None:
    """Return the phase of a location, or None: the location was not there when the rollout was made."""
    return next((phase for phase in rollout.phases if location in phase.locations), None)


def mark_started(rollout: Rollout, numbers: Collection[int], now: datetime) -> Rollout:
    """Return a rollout in which phases with these numbers have begun."""
    phases = (
        replace(phase, started_at=now) if phase.number in numbers and phase.started_at is None else phase
        for phase in rollout.phases
    )
    return replace(rollout, phases=tuple(phases))
