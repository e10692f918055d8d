"""What the dice say of one case: its fleet, its request, its faults. The same seed and number say the same, always."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.request_parts import RehearsalRequest, SnapshotRequest
from inventory.machine import Limits
from tasks.domain.states import Classification, RebootPolicy, Step
from tests.faults.abandoned import Many
from tests.faults.checks import outcome_is_true
from tests.faults.copies import judge_rehearsals, spoil_copy
from tests.faults.hypervisor import COPY_ACTS
from tests.faults.kinds import FROM_THE_START, STRIKES, WITH_AN_ORDER, strike
from tests.faults.machine import FaultyMachine
from tests.faults.undos import Undo
from tests.faults.world import World
from tests.support.fake_components import PROBE
from tests.support.fake_packages import FakePackage
from tests.support.image_fleet import make_group

STEPS = (Step.ASSESS, Step.PRECHECK, Step.INSTALL, Step.REBOOT, Step.VALIDATE)
WORKS = ("stage", "install", "install", "install", "repair")
MOST_OFTEN = (
    *["controller killed"] * 12,
    *["controller frozen", "connection lost", "power cut", "records unavailable"] * 2,
    *["order in transit"] * 3,
    *["administrator's transaction", "administrator begins during our order", "inhibitor lock held"] * 2,
)
OF_SERVICES = (
    "",
    "services run replaced files",
    "service does not start again",
    "service restarts slowly",
    "package lock held after boot",
)
"""How a machine's services are, beside all other faults."""


@dataclass
class Case:
    """One schedule.

    Attributes:
        pauses: seconds that pass after a controller's end until the next one takes the run up; then it is left.
        rival_after: when another run begins on the same fleet, in seconds; None: never.
        rival_downloads: it only downloads, so that it gives way.
        planned: the faults that were set up, in words, for people.
        story: what is played in its stead.
        judge: complains of what must not be at the end of the story.
    """

    world: World = field(repr=False)
    request: PatchRequest
    pauses: list[float]
    rival_after: float | None
    planned: list[str]
    story: Callable[[], None] | None = None
    judge: Callable[[], None] = lambda: None
    rival_downloads: bool = False


ONE_IN = 32
"""Among so many cases one is of many runs that are abandoned."""
IMAGES, UNDOS, REHEARSALS = (9, 19), (11, 20, 24), (13, 28)
"""The numbers of those in which machines get new OS disks, a run is taken back, or copies are patched first."""


def roll(seed: str, number: int, build_world: Callable[..., World] = World) -> Case:
    """Return one case."""
    build = _STORIES.get(number % ONE_IN)
    if build is not None and (build_world is World or build is _many):
        return build(seed, number)
    dice = random.Random(f"{seed}/{number}")
    world = build_world(dice, outcome_is_true)
    for index in range(dice.choice([1, 1, 1, 2, 2, 3, 4])):
        own = dice.choice([None] * 6 + [0, 1])
        world.add(f"m{index}", _packages(dice), limits=Limits(max_reboots=own))
    if dice.random() < 0.7:
        for name in world.machines:
            for measure in ("transaction_seconds", "install_seconds_per_update"):
                world.records.teach(name, measure, dice.choice([2.0, 10.0, 40.0]), world.clock.now())
    _teach_reboots(world, random.Random(f"{seed}/{number}/reboots"))
    request = _request(dice)
    if random.Random(f"{seed}/{number}/updaters").random() < 0.5:
        request = request.model_copy(update={"native_updaters": "pause"})
        for machine in world.machines.values():
            machine.must_rest = True
    request = _with_restarts(world, request, random.Random(f"{seed}/{number}/services"))
    request = request.model_copy(update={"waves": _budgets(request.waves, random.Random(f"{seed}/{number}/budgets"))})
    request = _with_snapshot(world, request, snapshots := random.Random(f"{seed}/{number}/snapshots"))
    planned = [_plan_one(world, dice) for _ in range(dice.choice([0, 1, 1, 2, 2, 3, 3, 4, 5]))]
    if request.snapshot.take == "before":
        planned += [world.hypervisor.spoil(snapshots) for _ in range(snapshots.choice([0, 0, 1, 2]))]
    pauses = [dice.choice([0.5, 20.0, 61.0, 61.0, 65.0, 200.0, 1500.0]) for _ in range(8)]
    rival = dice.choice([None] * 7 + [0.0, 5.0, 60.0])
    rival_downloads = random.Random(f"{seed}/{number}/rival").random() < 0.5
    return Case(world, request, pauses, rival, planned, rival_downloads=rival_downloads)


def _images(seed: str, number: int) -> Case:
    """Return a case in which machines get new OS disks, some of which are bad."""
    dice = random.Random(f"{seed}/{number}/images")
    world, group = World(dice, outcome_is_true), make_group()
    for index in range(dice.choice([1, 2, 3, 4])):
        world.add(f"m{index}", [FakePackage("tzdata")], probes=(PROBE,))
    bad = {name for name in world.machines if dice.random() < 0.3}
    world.hypervisor.install_images(group, lambda name, version: name in bad and version != group.versions[0].version)
    at_once = dice.choice([1, 2])
    waves = WavesRequest(percent=group.limits.batch, round_down=True, at_once=at_once)
    window = WindowRequest(minutes=dice.choice([600.0, 240.0, 60.0]))
    request = PatchRequest(
        scope="*", component=group.name, window=window, waves=waves, reboot=RebootPolicy.NEVER, come_back_seconds=10
    )
    planned = [f"bad: {', '.join(sorted(bad)) or 'none'}"]
    planned += [_plan_one(world, dice) for _ in range(dice.choice([0, 1, 1, 2, 2, 3]))]
    for call in dice.sample(range(10, 40 * len(world.machines)), dice.choice([0, 1, 2, 4])):
        killed = strike("controller killed", dice.choice(list(world.machines.values())), dice)
        world.at_call.setdefault(call, []).append(killed)
        planned.append(f"controller killed at call {call}")
    planned += [world.hypervisor.spoil(dice) for _ in range(dice.choice([0, 0, 1, 2]))]
    pauses = [dice.choice([0.5, 20.0, 61.0, 61.0, 65.0, 200.0, 1500.0]) for _ in range(8)]
    return Case(world, request, pauses, None, planned)


def _teach_reboots(world: World, dice: random.Random) -> None:
    for name in world.machines if dice.random() < 0.4 else ():
        world.records.teach(name, "reboot_seconds", dice.choice([20.0, 240.0, 1300.0]), world.clock.now())


def _with_restarts(world: World, request: PatchRequest, dice: random.Random) -> PatchRequest:
    if dice.random() < 0.5:
        request = request.model_copy(update={"restart_services": "IfRequired"})
    for machine in world.machines.values():
        kind = dice.choices(OF_SERVICES, (10, 5, 1, 1, 1))[0]
        if kind:
            FROM_THE_START[kind](machine, dice)
            world.happened(kind, None, machine.name)
    return request


def _with_snapshot(world: World, request: PatchRequest, dice: random.Random) -> PatchRequest:
    """Return a request of which some take a snapshot of each machine, and put back what fails."""
    if dice.random() >= 0.3:
        return request
    snapshot = SnapshotRequest(take="before", revert_on_failure=dice.random() < 0.7, patch_without=dice.random() < 0.2)
    world.happened("snapshots", None)
    return request.model_copy(update={"snapshot": snapshot})


def _many(seed: str, number: int) -> Case:
    """Return a case of many runs."""
    dice = random.Random(f"{seed}/{number}/abandoned")
    world = World(dice, outcome_is_true)
    many = Many(world, dice)
    return Case(world, PatchRequest(scope="*"), [], None, many.planned, many.play)


def _undo(seed: str, number: int) -> Case:
    """Return a case in which a run is taken back."""
    dice = random.Random(f"{seed}/{number}/undo")
    world = World(dice, outcome_is_true)
    undo = Undo(world, dice, _plan_one)
    return Case(world, PatchRequest(scope="*"), [], None, undo.planned, undo.play, undo.judge)


def _rehearsal(seed: str, number: int) -> Case:
    """Return a case in which copies are patched first; some of them are in trouble of their own."""
    dice = random.Random(f"{seed}/{number}/rehearsal")
    world = World(dice, outcome_is_true)
    for index in range(dice.choice([1, 1, 2, 3])):
        world.add(f"m{index}", _packages(dice))
    rehearse = RehearsalRequest(on_copies=True, strict=dice.random() < 0.7, at_most=dice.choice([1, 10, 10]))
    request = _request(dice).model_copy(update={"rehearse": rehearse})
    planned = [_plan_one(world, dice) for _ in range(dice.choice([0, 1, 1, 2, 2, 3]))]
    for call in dice.sample(range(10, 80 * len(world.machines)), dice.choice([0, 1, 2, 4])):
        killed = strike("controller killed", dice.choice(list(world.machines.values())), dice)
        world.at_call.setdefault(call, []).append(killed)
        planned.append(f"controller killed at call {call}")
    world.hypervisor.spoiled = COPY_ACTS
    planned += [world.hypervisor.spoil(dice) for _ in range(dice.choice([0, 0, 1, 2]))]
    planned += [spoil_copy(world, dice) for _ in range(dice.choice([0, 0, 1, 2]))]
    pauses = [dice.choice([0.5, 20.0, 61.0, 61.0, 65.0, 200.0, 1500.0]) for _ in range(8)]
    rival = dice.choice([None] * 7 + [0.0, 5.0, 60.0])
    return Case(world, request, pauses, rival, planned, judge=lambda: judge_rehearsals(world))


def _packages(dice: random.Random) -> list[FakePackage]:
    return [
        FakePackage(
            f"p{number}",
            classification=dice.choice([Classification.SECURITY, Classification.OTHER]),
            seconds=dice.choice([0.5, 5.0, 20.0, 60.0, 400.0]),
            asks_reboot=dice.random() < 0.3,
            held=dice.random() < 0.06,
            conffile="/etc/lab.conf" if dice.random() < 0.1 else "",
            group=dice.choice(["", "", "g"]),
            needs=(f"p{number - 1}",) if number and dice.random() < 0.15 else (),
        )
        for number in range(dice.choice([0, 1, 2, 3, 3, 4, 6]))
    ]


def _request(dice: random.Random) -> PatchRequest:
    minutes = dice.choice([240.0, 60.0, 15 + 30 * dice.random(), 15 + 6 * dice.random()])
    waves = WavesRequest(
        size=dice.randint(1, 4),
        at_once=dice.choice([1, 2, 4]),
        failure_budget_count=dice.choice([0, 1, 3, 3]),
        pause_minutes=dice.choice([0, 0, 0, 2]),
    )
    fields: dict[str, Any] = {
        "assess_at_once": dice.choice([1, 4]),
        "settle_seconds": 0,
        "come_back_seconds": 10,
        "reboot": dice.choice([RebootPolicy.IF_REQUIRED] * 3 + [RebootPolicy.ALWAYS, RebootPolicy.NEVER]),
        "reboot_pending_first": dice.random() < 0.5,
        "repair": dice.random() < 0.6,
        "stage": dice.random() < 0.7,
        "max_reboots": dice.choice([0, 1, 2, 2, 2]),
    }
    updates = UpdatesRequest(classifications=[], include=["*"])
    return PatchRequest(scope="*", window=WindowRequest(minutes=minutes), waves=waves, updates=updates, **fields)


def _budgets(waves: WavesRequest, dice: random.Random) -> WavesRequest:
    """Return waves of which some have a share instead of a count, canaries, and another limit of unreachable ones."""
    changes: dict[str, Any] = {"unreachable_percent": dice.choice([50, 50, 50, 100, 25, 0])}
    if dice.random() < 0.3:
        changes |= {"failure_budget_count": None, "failure_budget_percent": dice.choice([0, 20, 25, 50])}
    if dice.random() < 0.2:
        changes["canary_count"] = 1
    return waves.model_copy(update=changes)


def _plan_one(world: World, dice: random.Random) -> str:
    machine = dice.choice(list(world.machines.values()))
    if dice.random() < 0.25:
        kind = dice.choice(list(FROM_THE_START))
        FROM_THE_START[kind](machine, dice)
        world.happened(kind, None, machine.name)
        return f"{machine.name}: {kind}"
    kind = dice.choice([*STRIKES, *MOST_OFTEN])
    return f"{machine.name}: {kind} {_aim(world, machine, kind, dice)}"


def _aim(world: World, machine: FaultyMachine, kind: str, dice: random.Random) -> str:
    """Say when a fault strikes; return that in words."""
    struck = strike(kind, machine, dice)
    if kind in WITH_AN_ORDER:
        orders = dice.choice([1, 1, 2, 3])
        world.at_order.setdefault(machine.name, []).append((orders, struck))
        return f"at order {orders}"
    how = dice.choice(["call", "step", "step", "job"])
    if how == "call":
        call = round(2 ** (dice.random() * 8))
        world.at_call.setdefault(call, []).append(struck)
        return f"at call {call}"
    if how == "step":
        step, calls = dice.choice(STEPS), dice.choice([0, 1, 1, 2, 2, 3, 4, 6, 9])
        world.at_step.setdefault((machine.name, step), []).append((calls, struck))
        return f"at call {calls} of its {step}"
    work, seconds = dice.choice(WORKS), dice.choice([0.0, 0.5, 3.0, 10.0, 50.0])
    machine.on_start(work, seconds, lambda: struck(world, next(iter(world.living()), None)))
    return f"{seconds:g} s into its {work}"


_STORIES: Final[Mapping[int, Callable[[str, int], Case]]] = {
    ONE_IN - 1: _many,
    **dict.fromkeys(IMAGES, _images),
    **dict.fromkeys(UNDOS, _undo),
    **dict.fromkeys(REHEARSALS, _rehearsal),
}
