"""Machine sets in the plan of a run: the order of its waves by roles, and the notes for people who read the plan."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Final

from flows.engine.member_questions import MemberQuestions
from flows.ports.ports import Ports
from inventory.machine import Inventory, Machine, MachineSet
from inventory.name_lists import format_count, join_first_names
from tasks.domain.errors import RecordsError
from tasks.domain.model import Wave
from tasks.domain.protocols.leases import SetSlot
from tasks.rules.runs.set_capacity import describe_left_drained
from tasks.rules.runs.shards import build_shard_waves
from tasks.rules.runs.waves import WavePolicy, build_waves
from tasks.rules.undo import find_removals
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.start_checks import is_visit_needed

logger = logging.getLogger(__name__)

_MAX_ASKED_AT_ONCE: Final = 16
_MAX_NAMES_SHOWN: Final = 20


def prepare_waves(
    machines: Sequence[Machine],
    policy: WavePolicy,
    inventory: Inventory,
    run_context: RunContext,
    *,
    is_divided: bool,
) -> Callable[..., tuple[Wave, ...]]:
    """Return what builds the waves of a run. Members of sets with an order of roles are asked for their roles first.

    So a member of a late role is neither a canary nor in an early wave, in which it would only wait.

    Raises:
        RequestError: the waves can't be built; no machine was contacted.
    """
    if is_divided:
        return partial(build_shard_waves, machines, policy, inventory.sets)
    build = partial(build_waves, machines, policy, inventory.sets)
    build()
    names = {machine.name for machine in machines}
    asked = {
        machine_set: members
        for machine_set in inventory.sets
        if machine_set.order
        and machine_set.role
        and machine_set.role.command
        and len(members := names.intersection(machine_set.members)) > 1
    }
    if run_context.options.download_only or not asked:
        return build
    questions = MemberQuestions(inventory, run_context)
    roles = {
        machine_set.name: _ask_roles(machine_set, sorted(members), questions) for machine_set, members in asked.items()
    }
    return partial(build, roles)


def choose_canaries(
    waves: tuple[Wave, ...], contexts: Collection[MachineContext], build: Callable[..., tuple[Wave, ...]]
) -> tuple[Wave, ...]:
    """Return the waves, with canaries on which the run installs. Without any: those that it restarts, or may change.

    The canaries of a component have a rule of their own: a machine with its version counts, too.
    """
    is_of_component = any(context.options.component_order is not None for context in contexts)
    if is_of_component or not any(wave.canary for wave in waves):
        return waves
    states = {context.name: context.state for context in contexts}
    plans = {name: plan for name, state in states.items() if (plan := state.plan) and not plan.refusals}
    installing = {name for name, plan in plans.items() if plan.chosen or plan.snapshot or find_removals(plan.skipped)}
    busy = {
        context.name
        for context in contexts
        if context.name in plans and is_visit_needed(context.state, context.options)
    }
    possible = installing or busy or {name for name, state in states.items() if state.plan is None}
    waves = build(idle=states.keys() - possible)
    for context in contexts:
        if context.keeps_connection and context.name not in waves[0].machines:  # its turn comes later now
            context.keeps_connection = False
            context.transport.close()
    return waves


def _ask_roles(machine_set: MachineSet, names: Sequence[str], questions: MemberQuestions) -> Mapping[str, str]:
    with ThreadPoolExecutor(min(_MAX_ASKED_AT_ONCE, len(names)), thread_name_prefix="role") as pool:
        futures = [
            pool.submit(copy_context().run, questions.find_role, machine_set, name, lambda _: True) for name in names
        ]
        return {name: future.result() for name, future in zip(names, futures, strict=True)}


def read_left_slots(ports: Ports) -> tuple[SetSlot, ...]:
    """Return the slots of members that earlier runs left drained. Without an answer of the records: none."""
    try:
        return tuple(slot for slot in ports.set_slots.find() if slot.is_left)
    except RecordsError as error:
        logger.warning("which members of sets are drained can't be read: %s", error.message)
        return ()


def describe_sets(
    sets: Sequence[MachineSet], waves: Sequence[Wave], left_slots: Sequence[SetSlot] = ()
) -> tuple[str, ...]:
    """Return a note for each set with members in these waves: its limits, and the expected order of their turns. Pure.

    Other runs, the health of members and a change of roles may change the order. Further notes name members that
    earlier runs left drained.
    """
    notes = []
    places = {name: number for number, name in enumerate(name for wave in waves for name in wave.machines)}
    for machine_set in sets:
        names = sorted((name for name in machine_set.members if name in places), key=places.__getitem__)
        if names:
            notes.append(
                f"set {machine_set.name}: {_describe_limits(machine_set)}; {join_first_names(names, _MAX_NAMES_SHOWN)}"
            )
            left = {slot.machine: slot for slot in left_slots if slot.machine in machine_set.members}
            notes += [
                f"set {machine_set.name}: run {slot.run_id} left {name} drained: this run brings it back first"
                if name in places
                else f"set {machine_set.name}: {describe_left_drained(slot)}"
                for name, slot in left.items()
            ]
    return tuple(notes)


def _describe_limits(machine_set: MachineSet) -> str:
    limits = [
        f"at most {machine_set.allowed_unavailable} of {format_count(len(machine_set.members), 'member')} at a time"
    ]
    if machine_set.update_domain:
        limits.append(f"one {machine_set.update_domain} at a time")
    if machine_set.quorum is not None:
        limits.append(f"{machine_set.quorum} must be healthy")
    if machine_set.order:
        limits.append(f"roles in the order {', '.join(machine_set.order)}")
    return ", ".join(limits)
