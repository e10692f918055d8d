"""What must hold of a run of several sites: what it says of its machines, and what its shards did with them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from flows.engine.shard_entries import PLAN_WAVE, parse_shard_entry
from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome
from tasks.domain.protocols.records import SHARD_ACT, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.rules.runs.shards import find_whole_run_id
from tests.faults.budget_checks import became, spent
from tests.faults.checks import DEAFENING, JUMPS
from tests.faults.simulated import RUN
from tests.faults.world import World

POLL_SECONDS = 20.0
"""How often a whole run looks at its shards here."""
HEARD = timedelta(seconds=3 * POLL_SECONDS + 60)
"""Within this time, a machine that a shard is about to begin is not begun any more."""


def judge_sites(world: World) -> None:
    """Judge what a whole run says of its machines, and what its shards did with them."""
    run = world.records.runs.get(RUN)
    if run is None:
        return  # each of its processes died before anything was known of it
    entries = [
        parse_shard_entry(entry)
        for entry in world.records.journal
        if entry.run_id == RUN and entry.act == SHARD_ACT and entry.mark is JournalMark.BEFORE
    ]
    for outcome in world.report(RUN).outcomes:
        for fault in _outcome(world, outcome):
            world.complain(f"run {run.id}: {outcome.machine}, outcome {outcome.state}: {fault}")
    for name, machine in world.machines.items():
        ordered = {job.run_id for job in machine.orders.jobs if find_whole_run_id(job.run_id) == RUN}
        if len(ordered) > 1:
            world.complain(f"{name} was given orders by {len(ordered)} shards: {sorted(ordered)}")
    kinds = {fault.kind for fault in world.struck}
    if kinds & {*DEAFENING, "site cut off", "Prefect away", "controller killed"} or sum(world.deaths.values()):
        return
    for fault in _begun_too_late(world, [entry.run_id for entry in entries if entry.wave != PLAN_WAVE]):
        world.complain(f"run {run.id}: {fault}")


def _outcome(world: World, outcome: Outcome) -> Iterator[str]:
    """Say where the outcome of a whole run differs from that of the shard that had the machine."""
    shards = [
        other
        for other in world.records.outcomes.values()
        if other.machine == outcome.machine
        and find_whole_run_id(other.run_id) == RUN
        and other.run_id in world.records.runs
    ]
    window = world.records.runs[RUN].window
    told_at = next((when for when, other in world.settled if other == outcome), None)
    has_true_clock = not {fault.kind for fault in world.struck} & JUMPS
    is_in_window = has_true_clock and window is not None and told_at is not None and told_at < window.end
    is_unknown = outcome.state is OperationState.UNKNOWN
    if is_unknown and is_in_window and OperationState.UNKNOWN not in {other.state for other in shards}:
        yield f"it was given up at {told_at:%H:%M:%S}, before the end of the window"
    touched = [other for other in shards if other.state is not OperationState.NOT_STARTED]
    if len(touched) > 1:
        yield f"{len(touched)} shards have touched it"
    for other in touched:
        if other.state is not outcome.state and outcome.state is not OperationState.UNKNOWN:
            yield f"its shard {other.run_id} says {other.state}: {other.reason}"
        if Counter(r.state for r in other.updates) != Counter(r.state for r in outcome.updates) and (
            outcome.state is not OperationState.UNKNOWN
        ):
            yield f"its updates are not those of {other.run_id}"


def _begun_too_late(world: World, shards: list[str]) -> Iterator[str]:
    """Say which machines were begun after the budget of the whole run was spent, or after it was asked to stop."""
    run, waves = world.records.runs[RUN], world.report(RUN).waves
    request = PatchRequest.model_validate(dict(run.request))
    stop = world.leases.stops.get(RUN)
    seen: set[str] = set()
    for at, run_id, name, step in world.steps_begun:
        if run_id not in shards or step is not Step.PRECHECK or name in seen:
            continue
        seen.add(name)
        if stop is not None and at > stop.at + HEARD:
            yield f"{name} was begun at {at:%H:%M:%S}; the run had to stop at {stop.at:%H:%M:%S}"
        known = {
            o.machine: became(world, replace(o, run_id=_find_shard(world, o.machine)))
            for when, o in world.settled
            if o.run_id == RUN and when < at - HEARD
        }
        wave = next(wave for wave in waves if name in wave.machines)
        for reason in spent(request, waves, wave, known):
            yield f"{name} was begun at {at:%H:%M:%S} after {reason}"


def _find_shard(world: World, name: str) -> str:
    runs = [run_id for _, run_id, machine, _ in world.steps_begun if machine == name]
    return next((run_id for run_id in reversed(runs) if find_whole_run_id(run_id) == RUN), RUN)
