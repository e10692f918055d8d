"""Rehearsals: whose copies, for whom each stands, what its result means, and what it measures. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from inventory.machine import Check, CheckKind, MachineSet
from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import DurationPrediction, MachinePlan, Outcome
from tasks.domain.states import PRESENT_UPDATE_STATES, OperationState, RebootState, Step, UpdateState

OVERLAY_ACT: Final = "overlay"
"""The act of a run's journal entries about a copy, whose id is their key: before it is made, and after it is gone."""

_MAX_NAMES = 5
_PHASES = ("stage", "install", "reboot", "validate")
_GOOD_ENDS = frozenset({OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS})
_NOT_REBOOTED = frozenset({RebootState.REQUIRED, RebootState.FAILED, RebootState.STARTED})


class RehearsalVerdict(StrEnum):
    """What a rehearsal says about its updates."""

    PASSED = "Passed"
    FAILED = "Failed"  # the copy was changed, and is not well
    NOT_POSSIBLE = "NotPossible"  # nothing is known: there was no copy, or it did not get the updates


@dataclass(frozen=True, slots=True)
class RehearsalGroup:
    """Machines for which one of them is rehearsed."""

    machine: str  # the one that is copied
    stands_for: tuple[str, ...]  # all machines of the group, that one included


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of one rehearsal. It is kept in the journal."""

    group: RehearsalGroup  # whom it is about
    verdict: RehearsalVerdict  # what it says
    reason: str = ""  # why it did not pass, or its warnings; "": none
    updates: tuple[tuple[str, str], ...] = ()  # id and version of the updates that the copy got
    prediction: DurationPrediction | None = None  # the seconds that its phases took; None: it did not pass
    # How fast the copy was, as the records learn it of machines.
    measures: Mapping[str, float] = field(default_factory=dict)
    reboots: int = 0  # of the copy
    # About the copy: how consistent it was, which checks were left out, and whether it is gone.
    notes: tuple[str, ...] = ()


def choose_groups(
    plans: Mapping[str, MachinePlan], sets: Sequence[MachineSet], with_provider: Collection[str]
) -> tuple[RehearsalGroup, ...]:
    """Return the groups of the machines that have something to do, in the order of their plans.

    The machines of a set are one group: a machine of several sets is in the group of the first of them. A machine of no
    set is a group of its own. The first machine of a group that has a provider is copied.
    """
    set_of = {name: machine_set.name for machine_set in reversed(sets) for name in machine_set.members}
    members: dict[tuple[str, str], list[str]] = {}
    for name, plan in plans.items():
        if plan.chosen and not plan.refusals:
            key = ("set", set_of[name]) if name in set_of else ("machine", name)
            members.setdefault(key, []).append(name)
    return tuple(
        RehearsalGroup(next((name for name in names if name in with_provider), names[0]), tuple(names))
        for names in members.values()
    )


def select_copy_checks(checks: Sequence[Check]) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Return the checks that a copy can answer, and the names of the others: those ask from the controller."""
    kept = tuple(check for check in checks if check.kind is CheckKind.COMMAND)
    return kept, tuple(check.name for check in checks if check.kind is not CheckKind.COMMAND)


def judge_copy(outcome: Outcome, plan: MachinePlan) -> tuple[RehearsalVerdict, str]:
    """Return what the outcome of a copy says about a plan, and why.

    A copy that was not changed says nothing, whatever went wrong with it. One that lacks an update that it was to get
    says nothing either, unless that update failed.
    """
    was_changed = outcome.install is not None or (outcome.reboot_result is not None and outcome.reboot_result.count > 0)
    if not was_changed:
        return RehearsalVerdict.NOT_POSSIBLE, outcome.reason or f"nothing was done on the copy ({outcome.state})"
    failed = [result.update.name for result in outcome.updates if result.state is UpdateState.FAILED]
    if outcome.state not in _GOOD_ENDS or failed:
        return RehearsalVerdict.FAILED, outcome.reason
    if outcome.reboot in _NOT_REBOOTED:
        return RehearsalVerdict.NOT_POSSIBLE, outcome.reason or f"the copy was not rebooted ({outcome.reboot})"
    missing = find_unrehearsed(plan, list_rehearsed(outcome))
    if missing:
        return RehearsalVerdict.NOT_POSSIBLE, f"the copy did not get {join_first_names(missing, _MAX_NAMES)}"
    is_warned = outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    return RehearsalVerdict.PASSED, outcome.reason if is_warned else ""


def list_rehearsed(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """Return id and version of the updates that a copy has."""
    present = (result.update for result in outcome.updates if result.state in PRESENT_UPDATE_STATES)
    return tuple((update.id, update.available) for update in present)


def find_unrehearsed(plan: MachinePlan, updates: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names of the updates of a plan that a copy did not get in that version."""
    return tuple(update.name for update in plan.chosen if (update.id, update.available) not in updates)


def measure_phases(outcome: Outcome) -> DurationPrediction:
    """Return the seconds that the phases of an outcome took."""
    install, reboot = outcome.install, outcome.reboot_result
    ends = [(one.started_at, one.ended_at) for one in install.transactions] if install is not None else []
    phases = (reboot.down_seconds, reboot.up_seconds) if reboot is not None else ()
    validated = [record for record in outcome.steps if record.step is Step.VALIDATE]
    return DurationPrediction(
        stage=(install.staged_seconds or 0.0) if install is not None else 0.0,
        install=sum(max(0.0, (end - start).total_seconds()) for start, end in ends if start and end),
        reboot=sum(seconds for seconds in phases if seconds is not None),
        validate=sum((record.ended_at - record.started_at).total_seconds() for record in validated),
        basis="rehearsed",
    )


def apply_to_plan(rehearsal: Rehearsal, plan: MachinePlan) -> MachinePlan:
    """Return a plan with the minutes that the rehearsal has measured, if it got all updates of the plan.

    A phase is never shorter than predicted before, unless nothing was learned of the machine and its own copy tells.
    """
    measured, own = rehearsal.prediction, plan.prediction
    if measured is None or find_unrehearsed(plan, rehearsal.updates):
        return plan
    if plan.machine == rehearsal.group.machine and own.basis == DurationPrediction().basis:
        return replace(plan, prediction=measured)
    slower = {phase: max(getattr(measured, phase), getattr(own, phase)) for phase in _PHASES}
    if replace(own, **slower) == own:
        return plan
    is_measured = replace(measured, **slower) == measured
    basis = measured.basis if is_measured else f"{measured.basis}; {own.basis} where slower"
    return replace(plan, prediction=DurationPrediction(**slower, basis=basis))


def choose_measure(measure: str, rehearsed: float, learned: float | None, usual: float | None) -> float | None:
    """Return the measure (see ``compute_measures``) of a machine after a rehearsal; None: what counts without one.

    ``learned`` is of its past runs, and ``usual`` counts without that; None: it was a copy of the machine itself.
    """
    known = learned or usual
    is_rate = measure.endswith("_per_second")  # the smaller one is slower
    is_slower = known is None or (rehearsed < known if is_rate else rehearsed > known)
    return rehearsed if is_slower else learned


def explain_no_start(rehearsal: Rehearsal, plan: MachinePlan, *, is_required: bool) -> str:
    """Return why a machine may not begin after the rehearsal that stands for it, or "".

    With ``is_required`` it begins only after one that passed. Otherwise it begins also if none could be made.
    """
    copied = f"the rehearsal on a copy of {rehearsal.group.machine}"
    if rehearsal.verdict is RehearsalVerdict.FAILED:
        return f"{copied} failed: {rehearsal.reason}"
    if not is_required:
        return ""
    if rehearsal.verdict is RehearsalVerdict.NOT_POSSIBLE:
        return f"{copied} could not be made: {rehearsal.reason}"
    unrehearsed = find_unrehearsed(plan, rehearsal.updates)
    return f"{copied} had other updates, without {join_first_names(unrehearsed, _MAX_NAMES)}" if unrehearsed else ""


def describe_rehearsal(rehearsal: Rehearsal) -> str:
    """Return the note about a rehearsal for the report."""
    group, measured = rehearsal.group, rehearsal.prediction
    others = tuple(name for name in group.stands_for if name != group.machine)
    whom = f"{group.machine}, for {join_first_names(others, _MAX_NAMES)} too" if others else group.machine
    verdict = {
        RehearsalVerdict.PASSED: "passed",
        RehearsalVerdict.FAILED: "failed",
        RehearsalVerdict.NOT_POSSIBLE: "could not be made",
    }[rehearsal.verdict]
    parts = [f"{verdict}: {rehearsal.reason}" if rehearsal.reason else verdict]
    if measured is not None:
        parts.append(
            f"{format_count(len(rehearsal.updates), 'update')} in {measured.total_seconds / 60:.1f} minutes, "
            f"{format_count(rehearsal.reboots, 'reboot')}"
        )
    return f"rehearsal on a copy of {whom}: {'; '.join((*parts, *rehearsal.notes))}"
