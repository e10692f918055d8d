"""Each moment of a run, each kind of fault, each way to run: what people see at the end is what the records have.

Every play is the same every time. `python -m tests.faults.ends --write` notes who published each end.
"""

import copy
import json
import logging
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import flows.engine.shard_watch
import flows.recovery.unpublished_ends
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tasks.domain.states import UNFINISHED_RUN_STATES, RebootPolicy, Step
from tests.ci.tree import TOP
from tests.faults import outputs
from tests.faults.breaks import Break, apply_all, replace_attribute
from tests.faults.checks import after, outcome_is_true
from tests.faults.controller import Controller, Keeper
from tests.faults.hub import Endless
from tests.faults.outputs import judge_ends, publish_left_ends
from tests.faults.simulated import RUN, leave_alone
from tests.faults.site_checks import POLL_SECONDS
from tests.faults.sites import SitesWorld
from tests.faults.world import Strike, World, engine_in_virtual_time
from tests.support.fake_packages import FakePackage

DATA: Final = TOP / "tests/data/faults/ends.json"
FOUR_MINUTES: Final = timedelta(minutes=4)
LOOKS: Final = (70.0, 140.0, 210.0, 420.0, 900.0)
"""Seconds after a fault at which reconcile-fleet looks for runs that nobody carries out."""
SITE: Final = "hamburg"


@dataclass(frozen=True, slots=True)
class Play:
    """One fault at one moment of one way to run."""

    moment: str
    fault: str
    way: str


# ---- moments


def _at_named(name: str) -> Callable[[World, Strike], None]:
    """Return what lets a fault strike when the whole run comes to a moment."""

    def arm(world: World, strike: Strike) -> None:
        def reach(reached: World, controller: Controller | None) -> None:
            if controller is not None and controller.run_id != RUN:
                arm(reached, strike)
            else:
                strike(reached, controller)

        world.at_moment[name] = reach

    return arm


def _at_step(step: Step, calls: int) -> Callable[[World, Strike], None]:
    return lambda world, strike: world.at_step.setdefault(("web", step), []).append((calls, strike))


MOMENTS: Final[dict[str, Callable[[World, Strike], None]]] = {
    "before the plan is shown": _at_step(Step.ASSESS, 1),
    "the plan is shown": _at_named("the plan is shown"),
    "approval": _at_named("approval"),
    "the window opens": _at_named("started is told"),
    "wave 1 begins": _at_named("a wave begins"),
    "installing": _at_step(Step.INSTALL, 2),
    "rebooting": _at_step(Step.REBOOT, 2),
    "validating": _at_step(Step.VALIDATE, 1),
    "the end is recorded": _at_named("the end is recorded"),
    "files are written": _at_named("files: rename"),
    "Prefect is shown": _at_named("prefect: show"),
    "a message is sent": _at_named("messages: send"),
}


# ---- faults


def _find_victim(world: World, controller: Controller | None) -> Controller:
    return controller if controller is not None else world.living()[0]


def _stop(world: World, controller: Controller | None) -> None:
    """Stop the process for four minutes. Whoever looks meanwhile takes its run up."""
    _find_victim(world, controller).frozen_until = world.hub.now + FOUR_MINUTES


def _kill(world: World, controller: Controller | None) -> None:
    world.kill(_find_victim(world, controller), after_the_act=False)


def _cut_power(world: World, _controller: Controller | None) -> None:
    """Cut the power of everything: all processes, the database for a minute, the machines."""
    for living in world.living():
        world.kill(living, after_the_act=False)
    world.outage.until = world.hub.now + timedelta(minutes=1)
    for machine in world.machines.values():
        machine.power_cut()


def _restart_database(world: World, _controller: Controller | None) -> None:
    world.outage.lost_answers, world.outage.until = 1, None
    start = world.hub.now + timedelta(seconds=0.5)
    world.clock.call_at(start, lambda: setattr(world.outage, "until", start + timedelta(seconds=20)))


def _wipe_prefect(world: World, _controller: Controller | None) -> None:
    world.outputs.wipe_prefect()


def _restore(world: World, _controller: Controller | None) -> None:
    """Stop all processes for four minutes, and bring meanwhile back the records as they were after the plan.

    A restore refuses records whose leases are held, so it comes a minute later.
    """
    for living in world.living():
        _stop(world, living)
    world.clock.call_at(world.hub.now + timedelta(seconds=65), partial(_bring_back, world))


_KEPT: Final = ("journal", "runs", "reports", "assessments", "outcomes", "outputs", "samples")


def _copy_records(world: World) -> dict[str, Any]:
    return {name: copy.copy(getattr(world.records, name)) for name in _KEPT}


def _bring_back(world: World) -> None:
    for name, kept in world.backup.items():
        setattr(world.records, name, copy.copy(kept))
    world.leases.held.clear()
    if isinstance(world, SitesWorld):
        for run_id in set(world.requests) - set(world.records.runs):
            world.ends[run_id] = "its flow run ended Crashed"


RESTORED: Final = "records restored"
FAULTS: Final[dict[str, Strike]] = {
    "stopped for 4 minutes": _stop,
    "kill -9": _kill,
    "power cut": _cut_power,
    "database restarted": _restart_database,
    "Prefect's database wiped": _wipe_prefect,
    RESTORED: _restore,
}


# ---- ways to run


def _build_world(way: str) -> World:
    dice = random.Random(f"ends/{way}")
    world = SitesWorld(dice, outcome_is_true) if way == "two sites" else World(dice, outcome_is_true)
    world.add("web", [FakePackage("a", asks_reboot=True, seconds=20.0)])
    world.add("db", [FakePackage("b", seconds=5.0)])
    world.has_prefect = way != "plain"
    if isinstance(world, SitesWorld):
        world.described[0] = replace(world.described[0], site=SITE)
    return world


WAYS: Final = ("Prefect", "plain", "two sites")


def list_plays() -> list[Play]:
    """Return all plays. A run without Prefect has nothing to show there, and nothing that a wiped one could lose."""
    return [
        Play(moment, fault, way)
        for moment in MOMENTS
        for fault in FAULTS
        for way in WAYS
        if way != "plain" or (moment != "Prefect is shown" and fault != "Prefect's database wiped")
    ]


def _build_request(world: World) -> PatchRequest:
    return PatchRequest(
        scope="*",
        window=WindowRequest(start=world.hub.now + timedelta(minutes=1), minutes=240),
        waves=WavesRequest(percent=100, failure_budget_count=9, unreachable_percent=100),
        updates=UpdatesRequest(classifications=[], include=["*"]),
        reboot=RebootPolicy.IF_REQUIRED,
        settle_seconds=0,
        come_back_seconds=1,
    )


def _look(world: World) -> None:
    """Take up each run that nobody carries out, as reconcile-fleet does."""
    for run in list(world.records.runs.values()):
        lease = world.leases.find_lease(run.id)
        if run.state in UNFINISHED_RUN_STATES and run.may_change_machines and (lease is None or not lease.is_held):
            world.take_up(run.id)


def play(played: Play) -> World:
    """Play one fault, let recovery do its part, compare what people see, and return the world."""
    world = _build_world(played.way)
    struck: list[Play] = []

    def strike(struck_world: World, controller: Controller | None) -> None:
        struck.append(played)
        FAULTS[played.fault](struck_world, controller)
        for seconds in LOOKS:
            world.clock.call_at(world.hub.now + timedelta(seconds=seconds), partial(_look, world))

    MOMENTS[played.moment](world, strike)
    if played.fault == RESTORED:
        _plan_backup(world)
    with engine_in_virtual_time(), patch.object(flows.engine.shard_watch, "POLL_SECONDS", POLL_SECONDS):
        try:
            _run_to_end(world)
            if played.fault != RESTORED:  # what machines did since the backup is in no journal
                after(world)
            publish_left_ends(world)
            judge_ends(world)
        except Endless as error:
            world.complain(str(error))
    if not struck:
        world.complain("its moment never came")
    return world


def _plan_backup(world: World) -> None:
    """Let the records be copied when the plan is shown, before a fault strikes there."""
    strike_at_plan = world.at_moment.get("the plan is shown")

    def keep_copy(kept: World, controller: Controller | None) -> None:
        kept.backup = _copy_records(kept)
        if strike_at_plan is not None:
            strike_at_plan(kept, controller)

    world.at_moment["the plan is shown"] = keep_copy


def _run_to_end(world: World) -> None:
    world.begin(_build_request(world), RUN)
    world.hub.sleep(3 * 3600.0)
    world.all_end()
    leave_alone(world)
    if RUN not in world.records.runs:  # it died before anything was known of it
        world.begin(_build_request(world), RUN)
        world.all_end()
    if isinstance(world, SitesWorld):
        world.forget_plans()


def name_publisher(world: World) -> str:
    """Return which process has written the files that people see."""
    writer = world.outputs.folders[RUN].writer
    first = next(controller for controller in world.controllers if controller.run_id == RUN)
    return "itself" if writer is first else "reconcile" if writer is world.controllers[-1] else "next"


def play_all(plays: Iterable[Play]) -> dict[Play, World]:
    """Play all of them, without their logs."""
    logging.disable(logging.CRITICAL)
    try:
        return {played: play(played) for played in plays}
    finally:
        logging.disable(logging.NOTSET)


def summarize_publishers(worlds: dict[Play, World]) -> dict[str, dict[str, str]]:
    """Return by moment and fault who published the end, for each way to run; one name if they agree."""
    table: dict[str, dict[str, str]] = {}
    for moment in MOMENTS:
        for fault in FAULTS:
            names = [name_publisher(world) for played, world in worlds.items() if _is_of(played, moment, fault)]
            table.setdefault(moment, {})[fault] = names[0] if len(set(names)) == 1 else ", ".join(names)
    return table


def _is_of(played: Play, moment: str, fault: str) -> bool:
    return (played.moment, played.fault) == (moment, fault)


END_MUTANTS: Final[dict[str, tuple[str, Break]]] = {
    "an end is published without a look at the lease": (
        "the last message is",
        replace_attribute(Keeper, "confirm", lambda _self: True),
    ),
    "an older process replaces the files of a newer one": (
        "its files say",
        apply_all(
            replace_attribute(Keeper, "confirm", lambda _self: True),
            replace_attribute(outputs, "is_older", lambda _generation, _written: False),
        ),
    ),
    "an end that nobody has published stays unpublished": (
        "its report has no files",
        replace_attribute(flows.recovery.unpublished_ends, "_find_unpublished_runs", lambda _records: []),
    ),
}
"""The end of a run with its guards taken out: what is seen, and how they are."""


def main(arguments: list[str]) -> int:
    """Play all; with ``--write``, note who published. Return 1 if an end was not the one in the records."""
    worlds = play_all(list_plays())
    bad = {played: world.complaints for played, world in worlds.items() if world.complaints}
    for played, complaints in bad.items():
        print(f"{played.moment} / {played.fault} / {played.way}: {complaints}")  # noqa: T201 - a program that prints
    if arguments == ["--write"] and not bad:
        DATA.write_text(json.dumps(summarize_publishers(worlds), indent=2) + "\n", encoding="utf-8")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
