"""Runs of several sites among faults: the whole run, the runs of its shards, and the workers that take them."""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import flows.engine.shard_watch
from flows.engine.shard_entries import parse_shard_entry
from flows.engine.shard_state import ShardGate, read_shard_state, require_shard
from flows.execution import open_run
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.ports.shards import ShardView
from flows.request.patch_request import PatchRequest
from inventory.machine import Machine
from inventory.sites import use_site
from tasks.domain.errors import OtherSite, PatchError, RecordsUnavailable
from tasks.domain.model import Outcome, RunReport, Wave
from tasks.domain.protocols.records import SHARD_ACT, JournalMark
from tasks.domain.states import OperationState
from tests.faults.checks import after
from tests.faults.controller import Controller, Steps
from tests.faults.dice import ONE_IN, Case, roll
from tests.faults.hub import Endless, Task
from tests.faults.kinds import FROM_THE_START
from tests.faults.next_run import all_is_installed
from tests.faults.outputs import judge_ends, publish_left_ends
from tests.faults.simulated import RUN, begin_next_run, leave_alone
from tests.faults.site_checks import POLL_SECONDS, judge_sites
from tests.faults.world import OPEN, World, engine_in_virtual_time
from tests.support.fake_records import FakeHistory

SITES = ("default", "default", "hamburg", "hamburg", "rome")
RECONCILE_SECONDS = 60.0
RECONCILES = 12 * 60


class SitesWorld(World):
    """A world with sites.

    Attributes:
        shard_size: of whole runs.
        prefect_away: until when Prefect does not answer.
        cut: by site, until when its controllers reach neither the records nor the leases.
        worker_delays: by site, seconds until a worker takes a flow run.
        lost: ids of flow runs that crash before they begin.
    """

    def __init__(self, dice: random.Random, judge: Callable[[World, Outcome], None]) -> None:
        super().__init__(dice, lambda world, outcome: None if self.is_whole(outcome.run_id) else judge(world, outcome))
        self.shard_size = 500
        self.prefect_away: Any = None
        self.cut: dict[str, Any] = {}
        self.worker_delays: dict[str, float] = {}
        self.crash_rate = 0.0
        self.shard_dice = random.Random(dice.random())
        self.requests: dict[str, tuple[str, PatchRequest]] = {}
        self.ends: dict[str, str] = {}
        self.sites: dict[int, str] = {}

    def is_whole(self, run_id: str) -> bool:
        """Whether a run has shards."""
        return any(entry.run_id == run_id and entry.act == SHARD_ACT for entry in self.records.journal)

    # ---- what controllers reach

    def _controller(self, run_id: str) -> Controller:
        controller = super()._controller(run_id)
        self.sites[controller.number] = self.requests[run_id][0] if run_id in self.requests else "default"
        return controller

    def _ports(self, controller: Controller) -> Ports:
        ports, site = super()._ports(controller), self.sites[controller.number]
        request = self.requests.get(controller.run_id, (site, None))[1]

        def connect(machine: Machine) -> Any:
            if machine.site != site:
                raise OtherSite(f"{machine.name} is of {machine.site}, and this is {site}")
            return ports.connect(machine)

        history: Any = FakeHistory(self.records)
        notify = ports.notify if controller.run_id not in self.requests else lambda *_: None  # the whole run tells
        gate = ShardGate(history, request) if request is not None else ports.gate
        return replace(
            ports,
            connect=connect,
            notify=notify,
            gate=lambda planned, token: controller.call("records", "gate", lambda: gate(planned, token)),
            open_shard_runs=lambda: SiteRuns(self, controller),
            shard_size=self.shard_size,
        )

    def _call(self, controller: Controller, target: str, name: str) -> None:
        super()._call(controller, target, name)
        if target in self.machines and self.is_whole(controller.run_id):
            self.complain(f"the whole run asks {target} itself: {name}")
        cut = self.cut.get(self.sites[controller.number])
        if cut is not None and self.hub.now < cut and target in {"records", "leases"}:
            raise RecordsUnavailable("the site is cut off")

    def _process(self, controller: Controller, body: Callable[[], object]) -> Task:
        def live_at_site() -> object:
            with use_site(self.sites[controller.number]):
                return body()

        return super()._process(controller, live_at_site)

    def _wave_begins(self, controller: Controller, wave: Wave) -> None:
        begun = {
            name
            for entry in self.records.journal
            if entry.run_id == controller.run_id and entry.act == SHARD_ACT
            for name in (parse_shard_entry(entry).shard.machines if entry.mark is JournalMark.BEFORE else ())
        }
        super()._wave_begins(controller, replace(wave, machines=tuple(n for n in wave.machines if n not in begun)))

    def begin(self, request: PatchRequest, run_id: str) -> Task:
        """Let a flow run begin a run. One without Prefect would not reach the other sites."""
        return self._execute(self._controller(run_id), request)

    def _execute(
        self, controller: Controller, request: PatchRequest, read_state: Callable[[], Any] | None = None
    ) -> Task:
        def body() -> RunReport:
            who = Caller(Steps(controller), controller.control, "sim", run_id=controller.run_id)
            ports, waves = self._ports(controller), self._waves(controller)
            with open_run(request, who, waves, ports, controller.run_id, read_state=read_state) as run:
                return run.execute()

        return self._process(controller, body)

    # ---- the runs of shards

    def start_shard(self, run_id: str, site: str, request: Mapping[str, object]) -> str:
        """Create a flow run, which a worker of the site takes after a while."""
        if self.prefect_away is not None and self.hub.now < self.prefect_away:
            raise PatchError("Prefect does not answer")
        if run_id not in self.requests:
            self.requests[run_id] = (site, PatchRequest.model_validate(dict(request)))
            if self.shard_dice.random() < self.crash_rate:
                self.ends[run_id] = "its flow run ended Crashed"
            else:
                delay = timedelta(seconds=self.worker_delays.get(site, 1.0))
                self.clock.call_at(self.clock.now() + delay, lambda: self._take_shard(run_id))
        return f"flow run of {run_id}"

    def _take_shard(self, run_id: str) -> None:
        controller, request = self._controller(run_id), self.requests[run_id][1]
        history: Any = FakeHistory(self.records)

        def read_state() -> Any:
            whole = require_shard(history, request, "")
            return None if request.dry_run else read_shard_state(history, request, whole, self.hub.now)

        self._execute(controller, request, partial(controller.call, "records", "past", read_state))

    def forget_plans(self) -> None:
        """Forget the runs that only planned: of one whose process died, nobody writes the end."""
        self.records.runs = {run.id: run for run in self.records.runs.values() if run.may_change_machines}

    def reconcile(self, left: int = RECONCILES) -> None:
        """Take up every run that nobody carries out, again and again."""
        for run in list(self.records.runs.values()):
            lease = self.leases.find_lease(run.id)
            held = lease is not None and lease.is_held
            if run.state in OPEN and run.state is not OperationState.NOT_STARTED and run.may_change_machines:
                alive = any(each.run_id == run.id and not each.dead for each in self.controllers)
                if not held and not alive:
                    self.take_up(run.id)
        if left:
            next_look = self.clock.now() + timedelta(seconds=RECONCILE_SECONDS)
            self.clock.call_at(next_look, lambda: self.reconcile(left - 1))


class SiteRuns:
    """Implements ShardRuns for one controller."""

    def __init__(self, world: SitesWorld, controller: Controller) -> None:
        self._world, self._of = world, controller

    def is_served(self, site: str) -> bool:
        return True

    def start(self, run_id: str, site: str, name: str, request: Mapping[str, object]) -> str:
        return self._of.call("prefect", "start a run", lambda: self._world.start_shard(run_id, site, request))

    def look(self, run_id: str, flow_run_id: str, known: Collection[str]) -> ShardView:
        return self._of.call("records", "look at a run", lambda: self._look(run_id, known))

    def _look(self, run_id: str, known: Collection[str]) -> ShardView:
        world = self._world
        run = world.outage.ask(lambda: world.records.runs.get(run_id))
        if run is None:
            return ShardView(end=world.ends.get(run_id, ""))
        new = [o for (of, name), o in world.records.outcomes.items() if of == run_id and name not in known]
        lease, is_dead = (
            world.leases.find_lease(run_id),
            not any(each.run_id == run_id and not each.dead for each in world.controllers),
        )
        end = "its flow run ended Crashed" if is_dead and not run.may_change_machines else ""
        silent = lease.until if lease is not None and not lease.is_held else None
        return ShardView(run, tuple(new), silent_since=silent, end=end)

    def has_begun(self, run_id: str) -> bool:
        return self._of.call("records", "look at a run", lambda: self._look(run_id, ()).run is not None)

    def cancel(self, flow_run_id: str, reason: str) -> None:
        """Do nothing: the process of a plan goes on, as where Prefect does not answer."""

    def read_report(self, run_id: str) -> RunReport:
        history, outage = FakeHistory(self._world.records), self._world.outage
        return self._of.call("records", "report", lambda: outage.ask(lambda: history.read_report(run_id)))

    def find_touched(self, run_id: str) -> frozenset[str]:
        return frozenset()  # no case has hooks

    def request_stop(self, run_id: str, reason: str) -> None:
        leases, outage = self._world.leases, self._world.outage
        self._of.call("leases", "ask", lambda: outage.ask(lambda: leases.request_stop(run_id, "whole", reason)))


def roll_sites(seed: str, number: int) -> Case:
    """Return one case whose machines are of several sites, with faults of sites."""
    case = roll(seed, number, SitesWorld)
    world, dice = case.world, random.Random(f"{seed}/{number}/sites")
    assert isinstance(world, SitesWorld)
    world.described = [replace(machine, site=dice.choice(SITES)) for machine in world.described]
    world.described[0] = replace(world.described[0], site="hamburg")
    world.shard_size = dice.choice([1, 2, 500])
    world.crash_rate = dice.choice([0.0, 0.0, 0.0, 0.2])
    world.worker_delays = {site: dice.choice([1.0, 1.0, 15.0, 200.0, 3000.0]) for site in sorted(set(SITES))}

    _tell_a_story(case, dice)
    _plan_faults(world, dice)
    return case


def _tell_a_story(case: Case, dice: random.Random) -> None:
    """Let some cases have long installations, a failure that spends the budget, or a person who stops the run."""
    world, waves = case.world, case.request.waves
    assert isinstance(world, SitesWorld)
    is_long = dice.random() < 0.3
    if is_long:
        world.shard_size = 500
        sites = ("hamburg", "hamburg", "default", "default")
        world.described = [replace(machine, site=site) for machine, site in zip(world.described, sites, strict=False)]
        window = case.request.window.model_copy(update={"minutes": 240.0})
        case.request = case.request.model_copy(update={"window": window})
        waves = waves.model_copy(update={"size": dice.choice([2, 9]), "at_once": 1})
        for machine in world.machines.values():
            for package in machine.world.packages[:1]:
                package.seconds = 400.0
    if dice.random() < 0.3:
        machine = next(iter(world.machines.values()))
        FROM_THE_START["update fails"](machine, dice)
        world.happened("update fails", None, machine.name)
        waves = waves.model_copy(update={"failure_budget_count": 0})
    case.request = case.request.model_copy(update={"waves": waves})

    def stop() -> None:
        world.leases.stops.setdefault(RUN, world.stop_request())

    if dice.random() < (0.5 if is_long else 0.2):
        world.clock.call_at(world.clock.now() + timedelta(seconds=600 * dice.random()), stop)


def _plan_faults(world: SitesWorld, dice: random.Random) -> None:
    def cut(site: str, seconds: float) -> None:
        world.cut[site] = world.hub.now + timedelta(seconds=seconds)
        world.happened("site cut off", None)

    def silence(seconds: float) -> None:
        world.prefect_away = world.hub.now + timedelta(seconds=seconds)
        world.happened("Prefect away", None)

    def kill(run: str) -> None:
        for controller in world.living():
            if controller.run_id == run or (run == "" and controller.run_id != RUN):
                world.kill(controller, after_the_act=False)
                world.happened("controller killed", controller)
                return

    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        seconds = dice.choice([30.0, 120.0, 600.0, 4000.0])
        act = dice.choice(
            [
                partial(cut, dice.choice(SITES), seconds),
                partial(silence, seconds),
                partial(kill, RUN),
                partial(kill, ""),
            ]
        )
        at = timedelta(seconds=dice.choice([1.0, 10.0, 60.0, 200.0, 700.0, 2500.0]) * dice.random())
        world.clock.call_at(world.clock.now() + at, act)


def play_sites(case: Case) -> World:
    """Play one case to its end, judge it, and return its world."""
    world = case.world
    assert isinstance(world, SitesWorld)
    with engine_in_virtual_time(), patch.object(flows.engine.shard_watch, "POLL_SECONDS", POLL_SECONDS):
        try:
            world.begin(case.request, RUN)
            world.reconcile()
            world.hub.sleep(RECONCILES * RECONCILE_SECONDS)
            world.all_end()
            if RUN not in world.records.runs:  # it died before anything was known of it
                world.begin(case.request, RUN)
                world.all_end()
            world.prefect_away, world.crash_rate = None, 0.0
            world.cut.clear()
            leave_alone(world)
            world.forget_plans()
            after(world)
            publish_left_ends(world)
            judge_ends(world)
            judge_sites(world)
            world.worker_delays.clear()
            begin_next_run(world)
            all_is_installed(world)
        except Endless as error:
            world.complain(str(error))
    return world


def play_site_case(seed: str, number: int) -> World:
    """Play the case of a number to its end, and return its world.

    Where the number's story without sites is one of many runs, another number's is played.
    """
    return play_sites(roll_sites(seed, number if number % ONE_IN != ONE_IN - 1 else number + 10**6 + 1))
