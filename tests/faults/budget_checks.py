"""Whether machines were begun although too many others had failed, or could not be reached."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome, RunInfo, Wave
from tasks.domain.states import OperationState, Step
from tests.faults.world import World

HEARD_WITHIN = timedelta(seconds=0.1)  # an outcome that is written is counted when its answer is back
HOLDING_UP = frozenset(
    {
        "controller frozen",
        "order in transit",
        "records unavailable",
        "records unavailable for good",
        "answer of the records lost",
    }
)
"""Faults that let time pass between an outcome's writing and its counting."""
NO_LOGIN = frozenset({"Unreachable", "WayUnreachable", "ConnectionLost", "AuthenticationFailed", "HostKeyMismatch"})
FAILED, UNREACHABLE = "failed", "unreachable"


def budget_kept(world: World, run: RunInfo) -> Iterator[str]:
    """Complain of each machine that was begun with a budget spent, of the run's or of its wave's machines.

    A run that several processes worked on is left out: what was under way when it was resumed goes on.
    """
    if len(world.controllers) > 1 or {fault.kind for fault in world.struck} & HOLDING_UP:
        return
    waves = world.report(run.id).waves
    installed: set[str] = set()
    for at, run_id, machine, step in world.steps_begun:
        if run_id != run.id or step in (Step.ASSESS, Step.VALIDATE) or machine in installed:
            continue
        if step is Step.INSTALL:
            installed.add(machine)
        known = {
            o.machine: became(world, o) for when, o in world.settled if o.run_id == run.id and when < at - HEARD_WITHIN
        }
        wave = next(wave for wave in waves if machine in wave.machines)
        for why in spent(PatchRequest.model_validate(dict(run.request)), waves, wave, known):
            yield f"{machine}: its {step} was begun at {at:%H:%M:%S} after {why}"


def became(world: World, outcome: Outcome) -> str:
    """Return whether a machine has failed: one that could not be reached before a step that changes it has not."""
    if outcome.state not in (OperationState.FAILED, OperationState.UNKNOWN):
        return ""
    begun = {step for _, run_id, name, step in world.steps_begun if (run_id, name) == (outcome.run_id, outcome.machine)}
    no_login = outcome.error is not None and outcome.error.kind in NO_LOGIN
    return UNREACHABLE if no_login and begun <= {Step.ASSESS, Step.PRECHECK} else FAILED


def spent(request: PatchRequest, waves: tuple[Wave, ...], wave: Wave, known: dict[str, str]) -> Iterator[str]:
    """Say in which way the budget was spent; at most as strictly as the engine, which knows more."""
    asked, all_machines = request.waves, [name for each in waves for name in each.machines]
    run, here = Counter(known.values()), Counter(known.get(name, "") for name in wave.machines)
    allowed = asked.failure_budget_count
    if allowed is None:
        share = asked.failure_budget_percent / 100
        allowed = int(len(all_machines) * share + 1e-9)
        in_wave = max(1, int(len(wave.machines) * share + 1e-9))
        if here[FAILED] > in_wave:
            yield f"{here[FAILED]} machines of its wave had failed of {in_wave} allowed"
    canaries = [name for each in waves if each.canary for name in each.machines if known.get(name) == FAILED]
    if canaries and not asked.go_on_after_failed_canary:
        yield f"the canary {canaries[0]} had failed"
    if run[FAILED] > allowed:
        yield f"{run[FAILED]} machines had failed of {allowed} allowed"
    missing = int(len(all_machines) * asked.unreachable_percent / 100 + 1e-9)
    if run[UNREACHABLE] > missing:
        yield f"{run[UNREACHABLE]} machines could not be reached of {missing} allowed"
