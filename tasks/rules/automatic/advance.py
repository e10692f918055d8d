"""Decides when a phase of a rollout is over, has soaked, or is faulted. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.model import UpdateKey
from tasks.rules.automatic.fleet_index import CANARY_PATIENCE, PATIENCE, SUCCESSFUL_STATES, FleetIndex
from tasks.rules.automatic.model import (
    HeldUpdate,
    MachineStanding,
    MachineView,
    Phase,
    Rollout,
    RolloutState,
    Try,
)
from tasks.rules.automatic.rollout import count_canary_phases

_SETTLED = frozenset({MachineStanding.DONE, MachineStanding.FAILED, MachineStanding.AWAY, MachineStanding.OPTED_OUT})
_IDLE = frozenset({MachineStanding.AWAY, MachineStanding.OPTED_OUT, MachineStanding.BLOCKED})


@dataclass(frozen=True, slots=True)
class Advance:
    """A rollout after a look at its phases."""

    rollout: Rollout
    open_phases: int  # machines of so many phases may be patched; 0: none
    held: tuple[HeldUpdate, ...] = ()
    pause: str = ""  # why nothing of the rollout starts at present, or ""


def advance_rollout(index: FleetIndex, rollout: Rollout) -> Advance:
    """Return the rollout with the phases ended that are over, and with its new state."""
    times = (moment for phase in rollout.phases for moment in (phase.started_at, phase.ended_at))
    if any(index.is_later(moment) for moment in (rollout.created_at, *times)):
        fault = "its times are later than now: the controller's clock was ahead then, or is behind now"
        return Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0)
    held_updates: dict[UpdateKey, HeldUpdate] = {}
    for number, phase in enumerate(rollout.phases, start=1):
        # after a run in a later phase, this one was judged, but for machines that were late
        is_passed = any(later.has_run for later in rollout.phases[number:])
        late = _list_late(index, rollout, phase)
        if is_passed and not late:
            continue
        review = _PhaseReview(index, rollout, phase, is_passed=is_passed)
        watched = frozenset(late if is_passed else review.begun)
        if fault := review.find_fault(watched, max(late.values(), default=review.open_since)):
            blamed = review.blame(everything=True)
            return Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0, blamed)
        pause = review.find_pause(watched)
        if review.phase.ended_at is None:
            if not review.is_over():
                return Advance(rollout.replace_phase(review.phase), number, tuple(held_updates.values()), pause)
            if lacks_canary_success(index, rollout, phase):
                return _wait_for_canaries(index, rollout.replace_phase(review.phase), review.phase, pause)
            held_updates |= {(update.name, update.version): update for update in review.blame(everything=False)}
            review.end_phase()
            rollout = rollout.replace_phase(review.phase)
        soak_end = find_soak_end(index, review.phase)
        is_soaking = soak_end is None or index.now < soak_end
        if pause or is_soaking or not review.is_proven():
            return Advance(rollout, number, tuple(held_updates.values()), pause)
    completed = _end(index, rollout, RolloutState.COMPLETED, "")
    return Advance(completed, len(rollout.phases), tuple(held_updates.values()))


def _end(index: FleetIndex, rollout: Rollout, state: RolloutState, message: str) -> Rollout:
    return replace(rollout, state=state, ended_at=index.now, message=message)


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


def _wait_for_canaries(index: FleetIndex, rollout: Rollout, phase: Phase, pause: str) -> Advance:
    """Return a rollout that waits for its first success, or that has waited for too long."""
    fault = find_canary_fault(index, rollout, phase)
    if fault:
        return Advance(_end(index, rollout, RolloutState.FAULTED, fault), 0)
    return Advance(rollout, phase.number, (), pause)


def find_open_since(index: FleetIndex, rollout: Rollout, phase: Phase) -> datetime:
    """Return since when a phase may run. It is open: the phases before it have ended, and their soak time."""
    if phase.number == 1:
        return rollout.created_at
    return find_soak_end(index, rollout.phases[phase.number - 2]) or index.now


def find_soak_end(index: FleetIndex, phase: Phase) -> datetime | None:
    """Return when the soak time of a phase ends; None: the phase has not ended. Where nothing ran, nothing soaks."""
    if phase.ended_at is None:
        return None
    return phase.ended_at + timedelta(hours=index.policy.soak_hours) if phase.has_run else phase.ended_at


def lacks_canary_success(index: FleetIndex, rollout: Rollout, phase: Phase) -> bool:
    """Return whether a phase is the last one for canaries, others come after it, and no canary has succeeded yet.

    A canary on which its runs have installed nothing proves nothing: somebody else has updated it.
    """
    if phase.number != count_canary_phases(index.policy, rollout) or phase.number == len(rollout.phases):
        return False
    return not any(
        phase_try.installed
        for canary_phase in rollout.phases[: phase.number]
        for machine, standing in index.list_standings(rollout, canary_phase)
        if standing is MachineStanding.DONE
        for phase_try in index.list_begun_tries(rollout, canary_phase, machine.name)
    )


def find_canary_fault(index: FleetIndex, rollout: Rollout, phase: Phase) -> str:
    """Return why a rollout waits for its canaries no longer, or "": they may still be back.

    It does not go on without them, because then nothing would have been tested where people wanted it to be tested.
    """
    since = find_open_since(index, rollout, phase)
    may_lack = any(
        index.get_keys(machine) & rollout.updates or index.is_outdated(machine, rollout.updates)
        for location in phase.locations
        for machine in index.by_location.get(location, ())
    )
    if may_lack and index.now - since <= PATIENCE:
        return ""
    locations = ", ".join(location or "no location" for location in phase.locations)
    reason = "lacks the updates any more"
    if may_lack:
        reason = f"could be patched in {format_count((index.now - since).days, 'day')}"
    return (
        f"phase {phase.number} ({locations}): none of its machines {reason}, so nothing is tested and the other "
        "locations were not begun; the next rollout chooses its first phase anew. If no machine of the canary "
        "locations can be patched, name others in the policy: phases, canary_locations"
    )


def list_outdated(index: FleetIndex, rollout: Rollout, phase: Phase) -> list[MachineView]:
    """Return the machines of a phase that may lack updates of the rollout without anybody knowing, if they answer."""
    return [
        machine
        for location in phase.locations
        for machine in index.by_location.get(location, ())
        if not machine.opted_out
        and index.is_outdated(machine, rollout.updates)
        and not index.is_unseen_for(machine, CANARY_PATIENCE)
    ]


def _is_enough(index: FleetIndex, good: int, failed: int) -> bool:
    return good * 100 >= index.policy.success_percent * (good + failed)


class _PhaseReview:
    """A look at a phase, and at how far its machines are.

    A phase in which nothing ran is one that has not begun, if there is something to do in it now. So machines of the
    canary location that are back in time go first after all. ``is_passed``: a later phase has run, so it stays ended.

    Attributes:
        standings: the machines that the rollout concerns, and how far they are.
        begun: by the names of these machines: their tries in the phase in which anything was begun.
        lapsed: machines that failed and have not been tried again, because they are off, opted out or blocked.
        patched: the machines that were patched. Nobody can say how those are that have left the inventory.
    """

    def __init__(self, index: FleetIndex, rollout: Rollout, phase: Phase, *, is_passed: bool) -> None:
        self.index, self.rollout, self.phase = index, rollout, phase
        self.standings = index.list_standings(rollout, phase)
        is_idle = all(standing in _IDLE for _, standing in self.standings)
        if not is_passed and phase.ended_at is not None and not phase.has_run and not is_idle:
            self.phase = replace(phase, started_at=None, ended_at=None)
        self.begun = {
            machine.name: index.list_begun_tries(rollout, phase, machine.name) for machine, _ in self.standings
        }
        self.lapsed = [
            (machine, standing)
            for machine, standing in self.standings
            if standing in _IDLE and self.begun[machine.name]
        ]
        self.patched = [
            machine
            for machine, standing in self.standings
            if machine.name in index.machines and standing is not MachineStanding.RUNNING and self.begun[machine.name]
        ]
        self.open_since = find_open_since(index, rollout, phase)

    def count(self, *standings: MachineStanding) -> int:
        return sum(standing in standings for _, standing in self.standings)

    def is_proven(self) -> bool:
        """Return whether the machines of a phase that has ended still have their share of successes.

        A machine that was off when its phase ended may have failed since. It is tried again before a later phase goes
        on.
        """
        successes = [
            standing is not MachineStanding.FAILED and tries[-1].state in SUCCESSFUL_STATES
            for machine, standing in self.standings
            if (tries := self.begun[machine.name])
        ]
        return _is_enough(self.index, successes.count(True), successes.count(False))

    def end_phase(self) -> None:
        """End the phase now."""
        started_at = self.phase.started_at or min(
            (
                phase_try.ended_at
                for machine, _ in self.standings
                for phase_try in self.index.list_phase_tries(self.rollout, self.phase, machine.name)
            ),
            default=self.index.now,
        )
        self.phase = replace(self.phase, started_at=started_at, ended_at=self.index.now)

    def is_over(self) -> bool:
        """Return whether a phase waits for nobody any more.

        It does not wait for machines that are off, unless nothing was installed in the phase so far: then for machines
        that were seen in the last days, so that an outage of the canary location does not let the others go without
        canaries. For the same reason the first phase does not end before its machines were assessed again.
        """
        settled = _SETTLED
        if self.index.now - self.open_since > PATIENCE:
            settled |= {MachineStanding.BLOCKED}
        if any(standing not in settled for _, standing in self.standings):
            return False
        if done_count := self.count(MachineStanding.DONE):
            return _is_enough(self.index, done_count, self.count(MachineStanding.FAILED) + len(self.lapsed))
        if any(
            standing is MachineStanding.AWAY and not self.index.is_unseen_for(machine, CANARY_PATIENCE)
            for machine, standing in self.standings
        ):
            return False
        is_first = not any(earlier.has_run for earlier in self.rollout.phases[: self.phase.number - 1])
        return not (is_first and list_outdated(self.index, self.rollout, self.phase))

    def find_fault(self, watched: Collection[str], since: datetime) -> str:
        """Return why a rollout must not go on, or "".

        The ``watched`` machines must be healthy if they were patched. Machines that failed, and are off or blocked, may
        be back for so long after ``since`` (PATIENCE), and succeed.
        """
        name = f"phase {self.phase.number} ({', '.join(self.phase.locations)})"
        hopeful = 0
        if self.index.now - since <= PATIENCE:
            hopeful = sum(
                standing is not MachineStanding.OPTED_OUT and not self.index.is_unseen_for(machine, CANARY_PATIENCE)
                for machine, standing in self.lapsed
            )
        possible = self.count(MachineStanding.DONE, MachineStanding.READY, MachineStanding.RUNNING) + hopeful
        failed = self.count(MachineStanding.FAILED) + len(self.lapsed) - hopeful
        if failed and not _is_enough(self.index, possible, failed):
            share = f"{self.index.policy.success_percent:g} % must succeed"
            return f"{name}: {failed} of {format_count(possible + failed, 'machine')} failed; {share}"
        bad = sum(self._is_bad(machine) for machine in self.patched if machine.name in watched)
        if self._is_too_many(bad):
            patched_count = format_count(len(self.patched), "patched machine")
            return f"{name}: of {patched_count}, {bad} unhealthy or not seen since"
        return ""

    def find_pause(self, watched: Collection[str]) -> str:
        """Return why a rollout waits although nothing is proven yet, or ""."""
        bad = sum(self.index.is_unhealthy(machine) for machine in self.patched if machine.name in watched)
        if self._is_too_many(bad):
            return f"of {format_count(len(self.patched), 'patched machine')}, {bad} unhealthy or without an answer"
        return ""

    def _is_bad(self, machine: MachineView) -> bool:
        return machine.is_healthy is False or self.index.is_unseen_for(machine, PATIENCE)

    def _is_too_many(self, bad: int) -> bool:
        """Return whether bad machines are too large a share. Machines that are off or opted out don't count."""
        reachable = len(self.standings) - self.count(MachineStanding.AWAY, MachineStanding.OPTED_OUT)
        return bad * 100 > self.index.policy.max_unhealthy_percent * max(len(self.patched), reachable)

    def blame(self, *, everything: bool) -> tuple[HeldUpdate, ...]:
        """Return the updates that failed on more machines, of those that tried them, than may fail.

        With ``everything`` the rollout is faulted. So what failed less often counts as well if nothing failed so often,
        and so does what was installed on machines that failed, or became unhealthy, for no fault of an update.
        """
        tries = [phase_try for machine, _ in self.standings for phase_try in self.begun[machine.name]]
        failed_for_good = {machine.name for machine, standing in self.standings if standing is MachineStanding.FAILED}
        failures = _find_last_failures(tries, None if everything else failed_for_good)
        good = Counter(key for phase_try in tries for key in phase_try.installed)
        allowed = 100 - self.index.policy.success_percent
        first_reasons = {key: next(iter(by_machine.values())) for key, by_machine in failures.items()}
        reasons = {
            key: first_reasons[key]
            for key, by_machine in failures.items()
            if len(by_machine) * 100 > allowed * (len(by_machine) + good[key])
        }
        if everything:
            reasons = (reasons or first_reasons) | self._blame_installed(
                {name for by_machine in failures.values() for name in by_machine}
            )
        return tuple(
            HeldUpdate(name, version, reason, self.index.now, self.rollout.id)
            for (name, version), reason in sorted(reasons.items())
            if (name, version) not in self.index.held
        )

    def _blame_installed(self, failing: Collection[str]) -> dict[UpdateKey, str]:
        """Return what was installed on bad machines, with the reason, apart from machines whose updates failed."""
        reasons: dict[UpdateKey, str] = {}
        for machine, standing in self.standings:
            is_bad = machine.name in self.index.machines and self._is_bad(machine)
            if machine.name in failing or not (is_bad or standing is MachineStanding.FAILED):
                continue
            for phase_try in self.index.list_phase_tries(self.rollout, self.phase, machine.name):
                reason = phase_try.reason or "the machine was unhealthy afterwards"
                reasons |= dict.fromkeys(phase_try.installed, f"{machine.name} had it installed: {reason}")
        return reasons


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
