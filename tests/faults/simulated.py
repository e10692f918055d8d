"""Thousands of schedules of faults over a simulated fleet and the real engine, and what must hold after each.

A case is its seed and its number: it is played the very same way again. See docs/explanation/faults.md.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tests.faults.checks import after
from tests.faults.dice import Case, roll
from tests.faults.hub import Endless
from tests.faults.hypervisor import judge_disks, judge_snapshots
from tests.faults.next_run import all_is_installed
from tests.faults.outputs import judge_ends, publish_left_ends
from tests.faults.world import World, engine_in_virtual_time

RUN, RIVAL, NEXT = "20260310-010000-aaaaaa", "20260310-010000-bbbbbb", "20260310-090000-cccccc"
SIX_HOURS = 6 * 3600.0
PROGRESS_SECONDS = 5.0


@dataclass
class Figures:
    """What was played, and what was seen.

    Attributes:
        violations: by the case's number.
    """

    seed: str
    cases: int = 0
    machines: int = 0
    calls: int = 0
    controllers: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, world: World) -> None:
        """Count one case."""
        self.cases += 1
        self.machines += len(world.machines)
        self.calls += world.calls
        self.controllers += len(world.controllers)
        self.faults.update((fault.kind, fault.step) for fault in world.struck)
        self.deaths.update(world.deaths)
        self.outcomes.update(outcome.state.value for outcome in world.records.outcomes.values())
        if world.complaints:
            self.violations[number] = list(dict.fromkeys(world.complaints))


def play(case: Case) -> World:
    """Play one case to its end, judge it, and return its world."""
    world = case.world
    with engine_in_virtual_time():
        try:
            _disturbed(case)
            leave_alone(world)
            after(world)
            publish_left_ends(world)
            judge_ends(world)
            judge_snapshots(world)
            judge_disks(world)
            case.judge()
            begin_next_run(world)
            all_is_installed(world)
        except Endless as error:
            world.complain(str(error))
    return world


def _disturbed(case: Case) -> None:
    """A run among faults: whenever its controllers are gone and it is not over, somebody takes it up."""
    world = case.world
    if case.story is not None:
        case.story()
        return
    world.begin(case.request, RUN)
    if case.rival_after is not None:
        when = world.clock.now() + timedelta(seconds=case.rival_after)
        rival = case.request.model_copy(update={"download_only": case.rival_downloads})
        world.clock.call_at(when, lambda: _begin(world, rival, RIVAL))
    world.all_end()
    for pause in case.pauses:
        world.hub.sleep(pause)
        if world.is_open(RUN):
            world.take_up(RUN)
        elif RUN in world.records.runs:
            break
        else:  # it died before anything was known of it
            world.begin(case.request, RUN)
        world.all_end()


def leave_alone(world: World) -> None:
    """All trouble ends, what runs comes to its end, and runs that are still open are taken up undisturbed."""
    world.mend()
    world.hub.sleep(SIX_HOURS)
    for run_id in list(world.records.runs):
        for _ in range(2):
            if world.is_open(run_id):
                world.take_up(run_id)
                world.all_end()
                world.hub.sleep(61)


def begin_next_run(world: World) -> None:
    """Another run, which nothing disturbs."""
    updates = UpdatesRequest(classifications=[], include=["*"])
    waves = WavesRequest(percent=100, failure_budget_count=9, unreachable_percent=100)
    window = WindowRequest(minutes=24 * 60)
    request = PatchRequest(
        scope="*",
        window=window,
        waves=waves,
        updates=updates,
        repair=True,
        reboot_pending_first=True,
        native_updaters="pause",
        settle_seconds=0,
        come_back_seconds=1,
    )
    world.mend()  # a revert since then has brought back what was wrong with packages
    for machine in world.machines.values():
        machine.must_rest = True
        machine.world.skew_seconds = 0.0
    for controller in world.controllers:
        controller.offset = timedelta()
    world.begin(request, NEXT)
    world.all_end()


def _begin(world: World, request: PatchRequest, run_id: str) -> None:
    world.begin(request, run_id)


def play_number(seed: str, number: int) -> World:
    """Play the case of a number to its end, and return its world."""
    return play(roll(seed, number))


def soak(
    seed: str,
    numbers: Iterable[int],
    *,
    seconds: float | None = None,
    tell: Callable[[Figures], None] | None = None,
    play_case: Callable[[str, int], World] = play_number,
) -> Figures:
    """Play cases one after the other, until they or the time are over.

    Args:
        seed: of all of them.
        numbers: which.
        seconds: how long at most; the case that runs then is played to its end.
        tell: called now and then with the figures so far.
        play_case: plays the case of a seed and a number.
    """
    logging.disable(logging.CRITICAL)
    figures, began = Figures(seed), time.monotonic()
    told = began
    try:
        for number in numbers:
            figures.add(number, play_case(seed, number))
            figures.seconds = time.monotonic() - began
            if tell is not None and time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                tell(figures)
            if seconds is not None and figures.seconds > seconds:
                break
    finally:
        logging.disable(logging.NOTSET)
    return figures
