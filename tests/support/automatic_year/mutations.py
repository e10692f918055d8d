"""Rules broken on purpose, each with the check that must notice it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

from tasks.domain.model import Window
from tasks.rules.automatic import advance, decision, rollout, starts
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.model import (
    AutomaticPolicy,
    CreateRollout,
    MachineStanding,
    Phase,
    Rollout,
    RunPlan,
    Waiting,
)

_DAY = timedelta(days=1)
_NUMBERS = count()


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        rule: the check that must notice it.
        places: what is replaced: an object and the name of its attribute.
        make: returns the replacement, given the original.
    """

    name: str
    rule: str
    places: tuple[tuple[Any, str], ...]
    make: Callable[[Any], Any]


def _answer(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_words, **_named: value


def _one_phase(_: Any) -> Any:
    def build(policy: AutomaticPolicy, locations: Any, locations_with_updates: Any = None) -> tuple[Phase, ...]:
        return (Phase(1, tuple(sorted(set(locations)))),)

    return build


def _canaries_last(original: Any) -> Any:
    def build(policy: AutomaticPolicy, locations: Any, locations_with_updates: Any = None) -> tuple[Phase, ...]:
        made = tuple(reversed(original(policy, locations, locations_with_updates)))
        return tuple(replace(phase, number=number) for number, phase in enumerate(made, start=1))

    return build


def _always_fresh(_: Any) -> Any:
    def freeze(index: FleetIndex, stored: Rollout) -> Rollout:
        return replace(stored, updates=rollout.freeze_updates(index))

    return freeze


def _any_zone(_: Any) -> Any:
    return lambda index, found, location, turns: (turns[0].machine.availability_zone, "")


def _always_night(_: Any) -> Any:
    return lambda self, zone: Window(self.now - timedelta(hours=1), self.now + timedelta(hours=9))


def _long_window(_: Any) -> Any:
    return lambda index, off_peak: Window(index.now, index.now + timedelta(hours=7))


def _only_opted_out(_: Any) -> Any:
    def find(index: FleetIndex, machine: Any) -> Waiting | None:
        return Waiting(machine.name, "opted out") if machine.opted_out else None

    return find


def _only_busy(_: Any) -> Any:
    def find(index: FleetIndex, machine: Any) -> Waiting | None:
        return Waiting(machine.name, "busy") if machine.name in index.run_of else None

    return find


def _no_memory_of_tonight(original: Any) -> Any:
    def find(index: FleetIndex, machine: Any) -> Any:
        index.tries_of[machine.name] = []
        return original(index, machine)

    return find


def _new_keys(original: Any) -> Any:
    def build(index: FleetIndex, turns: Any) -> RunPlan:
        plan: RunPlan = original(index, turns)
        return replace(plan, key=f"{plan.key}/{next(_NUMBERS)}")

    return build


def _two_rollouts(original: Any) -> Any:
    def create(index: FleetIndex) -> Rollout | None:
        return rollout.build_rollout(index, f"rollout-{index.now:%Y%m%d%H}", index.now)

    def list_actions(index: FleetIndex, found: Any, begun: Any) -> list[Any]:
        actions = original(index, found, begun)
        return [*actions, CreateRollout(made)] if (made := create(index)) else actions

    return list_actions


def _hold_nothing(original: Any) -> Any:
    def build(index: FleetIndex) -> Any:
        index.held = set()
        return original(index)

    return build


def _every_other_day(_: Any) -> Any:
    return lambda index, machine: machine.assessed_at is None or index.now - machine.assessed_at > 2 * _DAY


MUTATIONS = (
    Mutation("canaries last", "canary locations first", ((rollout, "build_phases"),), _canaries_last),
    Mutation("canaries are optional", "no other location before a canary succeeded",
             ((advance, "lacks_canary_success"),), _answer(value=False)),
    Mutation("pairs are ignored", "paired locations never together", ((rollout, "_find_pairs"),), _answer({})),
    Mutation(
        "pairs are patched at once", "paired locations never together",
        ((starts, "_find_busy_pair"), (rollout, "_find_pairs")), lambda _: lambda *words: "" if len(words) > 1 else {},
    ),
    Mutation("one phase for all", "paired locations never together", ((rollout, "build_phases"),), _one_phase),
    Mutation("faults are ignored", "next phase only after success",
             ((advance, "_is_enough"),), _answer(value=True)),
    Mutation("no soak time", "next phase only after the soak time", ((advance, "find_soak_end"),),
             lambda _: lambda index, phase: phase.ended_at),
    Mutation("never frozen", "the same frozen set in all phases", ((decision, "freeze_again"),), _always_fresh),
    Mutation("any zone begins", "never two availability zones of a location", ((starts, "_choose_zone"),), _any_zone),
    Mutation("always off-peak", "only in off-peak hours", ((FleetIndex, "find_off_peak"),), _always_night),
    Mutation("long windows", "length of the window", ((starts, "_cut_window"),), _long_window),
    Mutation("freezes are ignored", "no run in a freeze", ((starts, "find_freeze"),), _answer(None)),
    Mutation("opt-outs are ignored", "opted-out machines left alone", ((starts, "_find_obstacle"),), _only_busy),
    Mutation("busy machines are taken", "two runs never on one machine",
             ((starts, "_find_obstacle"),), _only_opted_out),
    Mutation("tries without end", "at most max_tries tries", ((FleetIndex, "is_out_of_tries"),), _answer(value=False)),
    Mutation("tried all night", "one turn in a night", ((starts, "_find_window"),), _no_memory_of_tonight),
    Mutation("sick sets are patched", "sets with unhealthy members left alone",
             ((FleetIndex, "find_unhealthy_set"),), _answer("")),
    Mutation("held updates go out", "held updates in no new rollout", ((rollout, "freeze_updates"),), _hold_nothing),
    Mutation("everything is selected", "only selected updates", ((FleetIndex, "_is_selected"),), _answer(value=True)),
    Mutation("nobody is told", "deadline met, or foretold", ((decision, "_tell_of_machine"),), _answer(())),
    Mutation("assessed every other day", "assessed at least daily",
             ((decision, "_is_assessment_due"),), _every_other_day),
    Mutation("asked once a day", "assessed soon when back", ((decision, "ASK_AGAIN"),), lambda _: timedelta(hours=23)),
    Mutation("keys with a number", "a tick twice changes nothing", ((starts, "_build_plan"),), _new_keys),
    Mutation("waits for machines that are off", "no rollout without an end", ((advance, "_SETTLED"),),
             lambda settled: settled - {MachineStanding.AWAY}),
    Mutation("several rollouts", "at most one rollout under way",
             ((decision, "_list_rollout_actions"),), _two_rollouts),
)  # fmt: skip
