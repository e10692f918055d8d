"""Runs that take an earlier run back, by packages or by a snapshot, and what must be true of them.

The run that is taken back is not disturbed. Then faults strike the undo, and perhaps somebody orders a second one.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, cast

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.request_parts import SnapshotRequest
from flows.undo import build_undo_request
from tasks.domain.errors import RequestError
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import UndoWay
from tasks.records.queries.history import History
from tasks.rules.undo import collect_order
from tests.faults.kinds import strike
from tests.faults.world import World
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory

PATCHED, UNDO, RIVAL_UNDO = "20260309-220000-aaaaaa", "20260310-010000-aaaaaa", "20260310-010000-bbbbbb"
BEFORE, AFTER, CHANGED_SINCE = "1.0", "2.0", "2.1"
KILLS: Final = frozenset({"controller killed", "resumed too early"})
"""Faults after which an undo that has time enough ends as if there had been none."""

Versions = dict[str, str | None]
PlanOne = Callable[[World, random.Random], str]


@dataclass
class Undo:
    """One story of a run and its undo.

    Attributes:
        planned: the faults that were set up, in words.
        changed: what the run has changed, by machine and package: what is there after it.
        at_first: the versions before the run, and ``at_undo`` those before the undo, by machine.
        broken: the machines with packages that were half-configured before the undo.
        struck_before: how many faults had come about before the undo.
    """

    world: World
    dice: random.Random
    plan_one: PlanOne
    planned: list[str] = field(default_factory=list)
    changed: dict[str, dict[str, str]] = field(default_factory=dict)
    at_first: dict[str, Versions] = field(default_factory=dict)
    at_undo: dict[str, Versions] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    request: PatchRequest | None = None
    struck_before: int = 0

    def play(self) -> None:
        """Patch, and take that back among faults."""
        self._patch()
        self._change_since()
        self.request = self._order()
        if self.request is None:
            return
        self._disturb()
        world, pauses = self.world, [self.dice.choice([0.5, 20.0, 61.0, 61.0, 65.0, 200.0, 1500.0]) for _ in range(8)]
        rival = self.dice.choice([None] * 4 + [0.0, 5.0, 60.0, 600.0])
        world.begin(self.request, UNDO)
        if rival is not None:
            when = world.clock.now() + timedelta(seconds=rival)
            world.clock.call_at(when, cast("Callable[[], None]", partial(world.begin, self.request, RIVAL_UNDO)))
        world.all_end()
        for pause in pauses:
            world.hub.sleep(pause)
            if world.is_open(UNDO):
                world.take_up(UNDO)
            elif UNDO in world.records.runs:
                break
            else:
                world.begin(self.request, UNDO)
            world.all_end()

    def _patch(self) -> None:
        world, dice = self.world, self.dice
        for index in range(dice.choice([1, 1, 2, 3])):
            machine = world.add(f"m{index}", _build_packages(dice))
            if any(package.fails for package in machine.world.packages):
                world.happened("update fails", None, machine.name)
        self.at_first = self._read()
        snapshot = SnapshotRequest(take="before") if dice.random() < 0.7 else SnapshotRequest()
        window = WindowRequest(minutes=240)
        updates = UpdatesRequest(classifications=[], include=["*"], exclude=["other"])
        waves = WavesRequest(percent=100, failure_budget_count=9, unreachable_percent=100)
        request = PatchRequest(
            scope="*", window=window, waves=waves, updates=updates, snapshot=snapshot, come_back_seconds=1
        )
        world.begin(request, PATCHED)
        world.all_end()

    def _change_since(self) -> None:
        """Let time pass, repositories have the versions before, and somebody change some packages again."""
        world, dice = self.world, self.dice
        world.hub.sleep(dice.choice([1.0, 600.0, 4000.0, 40_000.0]))
        for outcome in collect_order(FakeHistory(world.records).read_report(PATCHED)).changes.items():
            self.changed[outcome[0]] = {change.update.id: change.after for change in outcome[1]}
        for name, machine in world.machines.items():
            for package in machine.world.packages:
                package.fails, package.ignored, package.needs = "", False, ()
                if package.id in self.changed.get(name, {}) and self.at_first[name][package.id]:
                    package.available, package.staged = BEFORE, False
                    if dice.random() < 0.15:
                        package.installed = CHANGED_SINCE

    def _order(self) -> PatchRequest | None:
        dice, world = self.dice, self.world
        by = dice.choice([UndoWay.PACKAGES, UndoWay.SNAPSHOT, UndoWay.SNAPSHOT])
        named = sorted(self.changed) if dice.random() < 0.5 else []
        try:
            request = build_undo_request(
                cast("History", FakeHistory(world.records)),
                PATCHED,
                named,
                by=by,
                minutes=dice.choice([240.0, 240.0, 60.0, 15 + 6 * dice.random()]),
                find_snapshots=world.find_snapshots,
            )
        except RequestError:  # it has changed nothing
            return None
        waves = request.waves.model_copy(
            update={"percent": 100, "at_once": dice.choice([1, 4]), "failure_budget_count": 9}
        )
        self.planned.append(f"undo by {by} of {', '.join(named) or 'all'}")
        return request.model_copy(update={"come_back_seconds": 1, "waves": waves})

    def _disturb(self) -> None:
        world, dice = self.world, self.dice
        self.struck_before = len(world.struck)
        self.planned += [self.plan_one(world, dice) for _ in range(dice.choice([0, 0, 1, 1, 2, 3]))]
        for call in dice.sample(range(4, 40 * len(world.machines)), dice.choice([0, 0, 1, 2, 4])):
            killed = strike("controller killed", dice.choice(list(world.machines.values())), dice)
            world.at_call.setdefault(call, []).append(killed)
            self.planned.append(f"controller killed at call {call}")
        world.at_call = {call + world.calls: strikes for call, strikes in world.at_call.items()}
        world.hypervisor.spoiled = (ProviderAct.REVERT, ProviderAct.REVERT, ProviderAct.START)
        self.planned += [world.hypervisor.spoil(dice) for _ in range(dice.choice([0, 0, 0, 1, 2]))]
        self.at_undo = self._read()
        self.broken = {name for name, machine in world.machines.items() if machine.world.shelf.broken()}

    def _read(self) -> dict[str, Versions]:
        machines = self.world.machines.items()
        return {name: {one.id: one.installed for one in machine.world.shelf.packages} for name, machine in machines}

    def judge(self) -> None:
        """Complain of what is neither as before the undo nor as it has to make it. Then offer what is newest again."""
        world, now = self.world, self._read()
        for name in world.machines if self.request is not None else ():
            for fault in self._judge_machine(name, now[name]):
                world.complain(f"{name}: {fault}")
        for machine in world.machines.values():
            for package in machine.world.packages:
                package.fails, package.ignored = "", False
                package.available = package.installed if package.installed == CHANGED_SINCE else AFTER

    def _judge_machine(self, name: str, now: Versions) -> list[str]:
        assert self.request is not None
        before, is_named = self.at_undo[name], name in self.request.only_machines
        if self.request.undo_by is UndoWay.SNAPSHOT and is_named:
            reverts = sum(self.world.hypervisor.reverts[run, name] for run in (UNDO, RIVAL_UNDO))
            wanted = self.at_first[name] if reverts or self._must_be_done(name) else before
            return [] if now == wanted else [f"after {reverts} reverts it has {now}, not {wanted}"]
        faults = []
        for package, version in now.items():
            allowed = self._list_allowed(name, package) if is_named else [before[package]]
            if version not in allowed:
                faults.append(f"{package} was {before[package]} before the undo, and is {version}, not {allowed}")
        return faults

    def _list_allowed(self, name: str, package: str) -> list[str | None]:
        """Return the versions that a package may have after an undo by packages."""
        before, at_first = self.at_undo[name][package], self.at_first[name][package]
        if self.changed.get(name, {}).get(package) != before:
            return [before]
        return [at_first] if self._must_be_done(name) else [before, at_first]

    def _must_be_done(self, name: str) -> bool:
        """Whether nothing but the ends of controllers has disturbed the undo of a machine, and it had time enough."""
        world = self.world
        kinds = {fault.kind for fault in world.struck[self.struck_before :]}
        run = world.records.runs.get(UNDO)
        if run is None or run.window is None or RIVAL_UNDO in world.records.runs or not kinds <= KILLS:
            return False
        hypervisor_is_well = not any(line.startswith("hypervisor") for line in self.planned)
        ends = [at for at, outcome in world.settled if (outcome.run_id, outcome.machine) == (UNDO, name)]
        in_time = bool(ends) and max(ends) < run.window.end - timedelta(hours=1)
        is_whole = name not in self.broken or not self.is_by_packages
        has_snapshot = any(row.machine == name for row in world.snapshot_rows.values())
        return in_time and hypervisor_is_well and is_whole and (self.is_by_packages or has_snapshot)

    @property
    def is_by_packages(self) -> bool:
        """Whether the package manager takes the run back."""
        return self.request is not None and self.request.undo_by is UndoWay.PACKAGES


def _build_packages(dice: random.Random) -> list[FakePackage]:
    packages = [FakePackage("other"), FakePackage("settled", available=BEFORE)]
    for number in range(dice.choice([0, 1, 2, 3, 4])):
        is_new = dice.random() < 0.25
        packages.append(
            FakePackage(
                f"p{number}",
                seconds=dice.choice([0.5, 5.0, 20.0, 60.0]),
                asks_reboot=dice.random() < 0.3,
                needs=(f"lib{number}",) if is_new else (),
                fails="cannot migrate data" if dice.random() < 0.04 else "",
                ignored=dice.random() < 0.04,
            )
        )
        if is_new:
            packages.append(FakePackage(f"lib{number}", installed=None))
    return packages
