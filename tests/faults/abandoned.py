"""Many runs whose processes die at once, downloads among them, and what becomes of them: no harness takes them up.

The engine's own recovery finds them, starts a flow run for each and judges it anew (flows/reconcile.py and, in
flows/recovery/, abandoned_runs.py and resume_flow_run.py). Prefect's server and its worker are simulated: places for
flow runs, and processes that die.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, Self, TypeVar
from unittest.mock import patch
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Crashed, Failed, Running, Scheduled

import flows.reconcile
import flows.recovery.reconciliation
import flows.recovery.unfinished_runs
from flows.engine.resume_state import read_resume_state
from flows.execution import open_run
from flows.ports.caller import Caller
from flows.recovery.reconciliation import recover_if_abandoned, recover_run
from flows.recovery.unfinished_runs import find_finalize_reason
from flows.request.patch_request import PatchRequest, UpdatesRequest, WindowRequest
from tasks.domain.model import RunReport
from tasks.domain.states import Classification, OperationState
from tests.faults.controller import Controller, ControllerClock, LeasesLine, Steps
from tests.faults.world import World
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.mortal import Killed

TEN, STAGE_RUN = "ten abandoned runs at once", "a killed download run"
T = TypeVar("T")

KINDS = frozenset({TEN, STAGE_RUN})
"""The kinds of faults that are dealt here."""

MANY = 10
EVERY = 300.0  # seconds between two looks of reconcile-fleet
LEASE = 60.0
STARTING = 30.0  # seconds that the process of a flow run takes at most until it asks
SLACK = 60.0
LOOKS = 140
PEOPLE_LOOK = 3  # at so many looks of reconcile-fleet a person may be there; then nobody is
CLOCK_SECONDS = 5.0  # to that a machine's clock is known


class SimPrefect:
    """A Prefect server, as far as recovery asks it, and a worker that begins what is scheduled.

    Attributes:
        places: how many flow runs the worker carries at once; None: any number.
        dies: how likely a flow run's process dies.
    """

    def __init__(self, world: World, dice: random.Random, places: int | None, dies: float) -> None:
        self.flow_runs: list[FlowRun] = []
        self.places = places
        self.dies = dies
        self._world = world
        self._dice = dice
        self._keys: dict[str, FlowRun] = {}
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def read_flow_runs(self, *, flow_run_filter: Any, sort: Any, limit: int, flow_filter: Any = None) -> list[FlowRun]:
        """See SyncPrefectClient: newest first."""
        tags = set(flow_run_filter.tags.all_)
        found = [each for each in reversed(self.flow_runs) if tags <= set(each.tags)]
        return _asked(self._world, "read", lambda: found[:limit])

    def create_flow_run_from_deployment(
        self, deployment: object, *, name: str, parameters: Any, tags: Sequence[str], idempotency_key: str
    ) -> FlowRun:
        """See SyncPrefectClient: the same key gives the same flow run."""

        def create() -> FlowRun:
            if idempotency_key not in self._keys:
                waiting = [f for f in self.flow_runs if f.name == name and f.state and f.state.is_scheduled()]
                if waiting:
                    self._world.complain(f"two flow runs wait for the same run: {parameters['run_id']}")
                at: State[Any] = Scheduled(timestamp=self._world.hub.now)
                made = FlowRun(flow_id=uuid4(), name=name, parameters=parameters, tags=list(tags), state=at)
                self._keys[idempotency_key] = made
                self.flow_runs.append(made)
                self._begin_some()
            return self._keys[idempotency_key]

        return _asked(self._world, "create", create)

    def _begin_some(self) -> None:
        for each in self.flow_runs:
            if each.state is not None and each.state.is_scheduled() and (not self.places or self._taken < self.places):
                self._taken += 1
                each.state = Running(timestamp=self._world.hub.now)
                self._begin(each)

    def _begin(self, flow_run: FlowRun) -> None:
        """Start the flow run's process, as resume_fleet: it may die at any moment, unseen or not."""
        world, dice = self._world, self._dice
        controller = world._controller(flow_run.parameters["run_id"])
        starting, seen = STARTING * dice.random(), dice.random() < 0.5
        if dice.random() < self.dies:
            after = timedelta(seconds=starting + dice.choice([0.0, 1.0, 20.0, 200.0]))
            world.clock.call_at(world.hub.now + after, partial(_kill, world, controller))

        def body() -> None:
            state = Crashed if seen else Running  # nobody may notice that it died, as when its worker dies as well
            try:
                world.hub.sleep(starting)
                controller.live()
                who = Caller(Steps(controller), controller.control, "sim", records_url="sim")
                recover_if_abandoned(controller.run_id, who, recover_run)
                state = Completed
            except Killed:
                raise
            except BaseException:
                state = Failed
                raise
            finally:
                if state is not Running:
                    flow_run.state = state(timestamp=world.hub.now)
                self._taken -= 1
                self._begin_some()

        world._process(controller, body)


class Many:
    """One story: the fleet's runs begin, all their processes die at once, and recovery looks again and again.

    Args:
        world: with nothing in it yet.
        dice: of the story.
    """

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self._requests: dict[str, PatchRequest] = {}
        self._died: datetime | None = None
        self._first_look_dies = dice.random() < 0.4
        places = dice.choice([None, None, 1, 3])
        self._prefect = SimPrefect(world, dice, places, dice.choice([0.0, 0.0, 0.3]))
        self._dies_after = dice.choice([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 40.0])
        slow = dice.randrange(MANY)
        for number in range(MANY):
            name = f"m{number}"
            world.add(name, _packages(dice, slow=number == slow))
            self._requests[f"20260310-010000-{number:06}"] = _request(dice, name, staged=dice.random() < 0.4)
        self.planned = [
            f"all processes die after {self._dies_after:g} s; places: {places}",
            f"the first reconcile dies: {self._first_look_dies}",
        ]

    def play(self) -> None:
        """Play it, and complain of what must not be."""
        world = self._world
        for run_id, request in self._requests.items():
            world.begin(request, run_id)
        world.hub.sleep(self._dies_after)
        left = self._all_die()
        with recovery_in_virtual_time(world, self._prefect):
            for look in range(LOOKS):
                self._look(look, left)
                world.hub.sleep(EVERY)
                self._check_locks()
                if not any(self._is_left(run_id) for run_id in self._requests):
                    break
        world.all_end()
        for run_id in left:
            if self._is_left(run_id):
                world.complain(f"run {run_id} was never found: it is still {world.records.runs[run_id].state}")
            elif self._prefect.places is None:
                self._in_time(run_id)

    def _all_die(self) -> list[str]:
        """Let all processes die now; return the runs that they leave."""
        world = self._world
        self._died = world.hub.now
        for controller in world.living():
            _kill(world, controller)
        world.hub.sleep(0.1)
        left = [run_id for run_id in self._requests if self._is_left(run_id)]
        if len(left) > 1:
            world.happened(TEN, None)
        for run_id in left:
            if self._requests[run_id].download_only:
                world.happened(STAGE_RUN, None, self._requests[run_id].scope)
        return left

    def _look(self, look: int, left: Sequence[str]) -> None:
        """Have reconcile-fleet look once; perhaps twice at the same time, perhaps with a person beside it."""
        dice, world = self._dice, self._world
        for _ in range(dice.choice([1, 1, 1, 2])):
            controller = self._reconcile()
            if look == 0 and self._first_look_dies:
                world.clock.call_at(
                    world.hub.now + timedelta(seconds=dice.uniform(0.0, 2.5)), partial(_kill, world, controller)
                )
        open_ones = [run_id for run_id in left if self._is_left(run_id)]
        if look < PEOPLE_LOOK and open_ones and dice.random() < 0.4:
            world.take_up_too_early(dice.choice(open_ones))
        if open_ones and dice.random() < 0.1:
            run_id = dice.choice(open_ones)
            world.leases.stops.setdefault(run_id, world.stop_request())

    def _reconcile(self) -> Controller:
        world = self._world
        controller = world._controller("")
        who = Caller(Steps(controller), controller.control, "sim", records_url="sim")

        def body() -> None:
            flows.reconcile._start_resume_flow_runs(flows.recovery.unfinished_runs.find_abandoned_runs("sim"), who)

        world._process(controller, body)
        return controller

    def _in_time(self, run_id: str) -> None:
        """A run that was left is taken up at the next look, whatever becomes of the others."""
        assert self._died is not None
        since = [c.since for c in self._world.controllers if c.run_id == run_id and c.since > self._died]
        looks = 2 + self._first_look_dies
        latest = self._died + timedelta(seconds=LEASE + looks * EVERY + STARTING + SLACK)
        if self._prefect.dies == 0.0 and (not since or min(since) > latest):
            when = f"was resumed only at {min(since):%H:%M:%S}" if since else "was never resumed"
            self._world.complain(f"run {run_id} was abandoned at {self._died:%H:%M:%S} and {when}")

    def _is_left(self, run_id: str) -> bool:
        run = self._world.records.runs.get(run_id)
        return run is not None and run.state in (OperationState.IN_PROGRESS, OperationState.UNKNOWN)

    def _check_locks(self) -> None:
        """No download's lock lasts into the window of the run to come."""
        for machine in self._world.machines.values():
            run_id, _, until = machine.locked_by or ("", "", 0.0)
            run = self._world.records.runs.get(run_id)
            if run is None or run.kind != "stage" or run.window is None:
                continue
            if until > run.window.end.timestamp() + machine.world.skew_seconds + CLOCK_SECONDS:
                self._world.complain(f"{machine.name}: the lock of download {run_id} lasts longer than its window")


@contextmanager
def recovery_in_virtual_time(world: World, prefect: SimPrefect) -> Iterator[None]:
    """Have the engine's recovery see the simulated records, leases, clocks and Prefect."""

    def owner() -> Controller:
        task = world.hub.current
        assert task is not None
        assert isinstance(task.owner, Controller)
        return task.owner

    class Leases(LeasesLine):
        def find_lease(self, run_id: str) -> Any:
            return self._ask("lease", lambda: world.leases.find_lease(run_id))

    @contextmanager
    def opened(_url: str | None) -> Iterator[Any]:
        yield SimpleNamespace(leases=Leases(owner(), world.leases, world.outage))

    def take_up(run_id: str, who: Caller, _make_runner: object, **_more: object) -> RunReport:
        controller = owner()
        settle = find_finalize_reason(world.records.runs[run_id], world.leases.find_lease(run_id), world.hub.now)
        if settle and not who.stop_token.is_stopping:
            world.complain(f"run {run_id} was resumed, and it was only to be finalized: {settle}")
        history: Any = FakeHistory(world.records)
        request = PatchRequest.model_validate(dict(world.records.runs[run_id].request))
        past = partial(controller.call, "records", "past", lambda: read_resume_state(history, run_id))
        ports = world._ports(controller)
        with open_run(request, who, world._waves(controller), ports, run_id, read_state=past, is_resumed=True) as run:
            return run.execute()

    resume = SimpleNamespace(id=uuid4(), flow_id=uuid4(), tags=["fleetpatch"])
    with ExitStack() as stack:
        for where, name, what in (
            (flows.recovery.unfinished_runs, "open_records", opened),
            (flows.recovery.unfinished_runs, "History", lambda _records: FakeHistory(world.records)),
            (flows.recovery.unfinished_runs, "SystemClock", lambda: ControllerClock(owner())),
            (flows.recovery.reconciliation, "execute_run", take_up),
            (flows.reconcile, "SystemClock", lambda: ControllerClock(owner())),
            (flows.reconcile, "get_client", lambda **_: prefect),
            (flows.reconcile, "find_resume_deployment", lambda _client, _site: resume),
        ):
            stack.enter_context(patch.object(where, name, what))
        yield


def _asked(world: World, name: str, act: Callable[[], T]) -> T:
    task = world.hub.current
    assert task is not None
    assert isinstance(task.owner, Controller)
    return task.owner.call("prefect", name, act)


def _kill(world: World, controller: Controller) -> None:
    if not controller.dead:
        world.kill(controller, after_the_act=False)


def _packages(dice: random.Random, *, slow: bool) -> list[FakePackage]:
    """Return a machine's packages; the slow one's take the better part of an hour."""
    return [
        FakePackage(
            f"p{number}",
            classification=Classification.SECURITY,
            seconds=1500.0 if slow else dice.choice([0.5, 20.0, 60.0]),
            asks_reboot=dice.random() < 0.2,
        )
        for number in range(2 if slow else dice.choice([1, 2, 3]))
    ]


def _request(dice: random.Random, machine: str, *, staged: bool) -> PatchRequest:
    return PatchRequest(
        scope=machine,
        window=WindowRequest(minutes=dice.choice([20, 60, 240])),
        updates=UpdatesRequest(classifications=[], include=["*"]),
        settle_seconds=0,
        come_back_seconds=10,
        download_only=staged,
    )
