"""A download of another window meets a run in its own window, at every moment of it, with both engines at work."""

import random
from functools import partial

import pytest

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, UpdateState
from tests.faults.checks import after, outcome_is_true
from tests.faults.simulated import RIVAL, RUN, SIX_HOURS
from tests.faults.world import World, engine_in_virtual_time
from tests.support.fake_packages import FakePackage
from tests.support.fleet import result_of

DOWNLOAD, PATCH = RUN, RIVAL
DOWNLOAD_SECONDS = 3600.0


def a_world(bytes_per_second: float) -> World:
    """Return one machine whose download takes an hour for one run, until the mirror is fast."""
    world = World(random.Random(0), outcome_is_true)
    machine = world.add("web", [FakePackage("a", size_bytes=1_000_000)])
    machine.world.bytes_per_second = bytes_per_second
    world.records.teach("web", "transaction_seconds", 10.0, world.clock.now())
    return world


def request(*, download_only: bool, minutes: float = 240) -> PatchRequest:
    return PatchRequest(
        scope="*",
        download_only=download_only,
        window=WindowRequest(minutes=minutes),
        waves=WavesRequest(percent=100),
        updates=UpdatesRequest(classifications=[], include=["*"]),
        settle_seconds=0,
        come_back_seconds=1,
    )


def outcome(world: World, run_id: str) -> Outcome:
    (found,) = world.report(run_id).outcomes
    return found


def is_patched(world: World) -> None:
    assert outcome(world, PATCH).state is OperationState.SUCCEEDED, outcome(world, PATCH).reason
    assert outcome(world, PATCH).install is not None
    (handed,) = [each for each in world.machines["web"].orders.jobs if each.job.script.params["work"] == "install"]
    assert handed.run_id == PATCH
    assert world.complaints == []


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0, 1800.0])
def test_the_machine_is_patched_whenever_the_download_began(seconds: float) -> None:
    world = a_world(1_000_000 / DOWNLOAD_SECONDS)
    with engine_in_virtual_time():
        machine = world.machines["web"]
        machine.on_start("install", 0.0, partial(setattr, machine.world, "bytes_per_second", 1e9))
        world.begin(request(download_only=True), DOWNLOAD)
        world.hub.sleep(seconds)
        world.begin(request(download_only=False), PATCH)
        world.all_end()
        after(world)

    is_patched(world)
    downloaded = outcome(world, DOWNLOAD)
    result = result_of(downloaded, "a")
    assert PATCH in (result.reason if downloaded.state is not OperationState.NOT_STARTED else downloaded.reason)
    assert result.state is UpdateState.NOT_ATTEMPTED or "installed by others" in result.reason
    stages = [each.run_id for each in machine.orders.jobs if each.job.script.params["work"] == "stage"]
    assert stages.count(DOWNLOAD) <= 1


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("resumed_after", [0.0, 0.7, 1.5, 3.0, 30.0, SIX_HOURS])
def test_the_machine_is_patched_when_the_process_of_the_download_died(resumed_after: float, *, ended: bool) -> None:
    """Its job may have ended since; a process that resumes it finds out, and begins no second download."""
    world = a_world(1_000_000 / (1.0 if ended else DOWNLOAD_SECONDS))
    with engine_in_virtual_time():
        machine = world.machines["web"]
        machine.on_start("stage", 0.5, lambda: world.kill(world.controllers[0], after_the_act=False))
        world.begin(request(download_only=True), DOWNLOAD)
        world.hub.sleep(120)
        world.begin(request(download_only=False), PATCH)
        world.hub.sleep(resumed_after)
        world.take_up(DOWNLOAD)
        world.all_end()
        after(world)

    is_patched(world)
    stages = [each.run_id for each in machine.orders.jobs if each.job.script.params["work"] == "stage"]
    assert stages.count(DOWNLOAD) == 1
    assert outcome(world, DOWNLOAD).state in (OperationState.COMPLETED_WITH_WARNINGS, OperationState.SUCCEEDED)
