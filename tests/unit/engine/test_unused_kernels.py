"""Unused kernels are removed after a good validation, once, in the window, and only if the request says so."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.errors import ConnectionLost, RequestError
from tasks.domain.model import Outcome, Update
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.protocols.transport import Script
from tasks.domain.states import Classification, FindingLevel, OperationState, RebootPolicy
from tasks.steps.unused_kernels import UNUSED_KERNELS_CHECK
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, resume

OLD, NEW = ["linux-1", "linux-2"], ["linux-3", "linux-4"]


def a_kernel(number: int, running: int) -> KernelPackage:
    name, version = f"linux-{number}", f"{number}.0"
    update = Update(name, name, "all", version, version, Classification.OTHER)
    is_running = number == running
    return KernelPackage(update, version, "", number, is_image=True, is_running=is_running, is_removable=True)


def kernels(*numbers: int, running: int = 4) -> InstalledKernels:
    return InstalledKernels(f"{running}.0", tuple(a_kernel(number, running) for number in numbers))


def one() -> SimFleet:
    fleet = SimFleet()
    machine = fleet.add("web", [FakePackage("tzdata")])
    machine.world.shelf.kernels = kernels(1, 2, 3, 4)
    return fleet


@pytest.fixture
def fleet() -> SimFleet:
    return one()


@pytest.fixture
def web(fleet: SimFleet) -> SimMachine:
    return fleet.machines["web"]


def left(machine: SimMachine) -> list[str]:
    return [each.package.id for each in machine.world.kernels().packages]


def patch(fleet: SimFleet, **fields: Any) -> Outcome:
    return outcome_of(fleet.patch(remove_unused_kernels=True, **fields), "web")


def told(outcome: Outcome) -> list[tuple[FindingLevel, str]]:
    return [(each.level, each.message) for each in outcome.findings if each.check == UNUSED_KERNELS_CHECK]


def test_old_kernels_are_removed_and_named(fleet: SimFleet, web: SimMachine) -> None:
    outcome = patch(fleet)
    assert outcome.state is OperationState.SUCCEEDED
    assert told(outcome) == [(FindingLevel.GOOD, "removed: linux-1, linux-2")]
    assert left(web) == NEW


def test_without_the_option_they_stay(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(), "web")
    assert told(outcome) == []
    assert left(web) == OLD + NEW


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (kernels(1, 2, 3, 4, running=3), "none removed: kernel 4.0 is installed, 3.0 is running"),
        (kernels(1, 2, 3, 4, running=5), "none removed: the running kernel 5.0 is none of those installed"),
        (InstalledKernels(obstacle="not supported on this machine"), "none removed: not supported on this machine"),
    ],
)
def test_what_prevents_it_is_told_and_is_no_failure(
    fleet: SimFleet, web: SimMachine, installed: InstalledKernels, words: str
) -> None:
    web.world.shelf.kernels = installed
    outcome = patch(fleet)
    assert outcome.state is OperationState.SUCCEEDED
    assert told(outcome) == [(FindingLevel.GOOD, words)]
    assert web.world.kernels() == installed


def test_a_machine_with_two_kernels_says_nothing(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf.kernels = kernels(3, 4)
    assert told(patch(fleet)) == []


def test_a_removal_that_failed_is_a_warning_in_the_words_of_the_tool(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf.stuck_kernels = "%preun(linux-1) scriptlet failed"
    outcome = patch(fleet)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    ((level, message),) = told(outcome)
    assert level is FindingLevel.WARN
    assert message == "could not be removed: linux-1, linux-2: %preun(linux-1) scriptlet failed"
    assert left(web) == OLD + NEW


def test_a_kernel_that_is_needed_stays_and_the_others_go(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf.needed_kernels = {"linux-1": "linux-1 is needed by (installed) driver"}
    outcome = patch(fleet)
    assert outcome.state is OperationState.SUCCEEDED
    assert told(outcome) == [
        (FindingLevel.GOOD, "removed: linux-2"),
        (FindingLevel.GOOD, "not removed: linux-1: rpm refuses it: linux-1 is needed by (installed) driver"),
    ]
    assert left(web) == ["linux-1", *NEW]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (
            InstalledKernels("4.0", obstacle="apt can't tell"),
            "whether they were removed is not known: {}: apt can't tell",
        ),
        (
            replace(kernels(3, 4), unfinished=("linux-1", "linux-2")),
            "could not be removed: {}: the job reported no error",
        ),
    ],
)
def test_what_is_not_seen_to_be_gone_does_not_count_as_removed(
    fleet: SimFleet, web: SimMachine, after: InstalledKernels, words: str
) -> None:
    def is_removal_begun() -> bool:
        return any(job.script.params["work"] == "remove" for job in web.jobs())

    web.answer(
        "fake_kernels", lambda _: {"kind": "answer", "answer": after if is_removal_begun() else kernels(1, 2, 3, 4)}
    )
    outcome = patch(fleet)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert told(outcome) == [(FindingLevel.WARN, words.format("linux-1, linux-2"))]


def test_a_machine_that_is_lost_during_the_removal_is_a_failure(fleet: SimFleet, web: SimMachine) -> None:
    web.on_start("remove", 1, lambda: web.cut(86400))
    outcome = patch(fleet)
    assert outcome.state is OperationState.FAILED
    assert "connection lost while job" in outcome.reason
    assert not any(message.startswith("removed: ") for _, message in told(outcome))


def test_a_machine_that_is_lost_after_the_removal_is_a_failure(fleet: SimFleet, web: SimMachine) -> None:
    def answer(_: Script) -> Any:
        if any(job.script.params["work"] == "remove" for job in web.jobs()):
            raise ConnectionLost("the cable is out")
        return {"kind": "answer", "answer": web.world.kernels()}

    web.answer("fake_kernels", answer)
    outcome = patch(fleet)
    assert outcome.state is OperationState.FAILED
    assert "the cable is out" in outcome.reason


def test_a_removal_that_costs_the_next_boot_its_files_is_a_failure(fleet: SimFleet, web: SimMachine) -> None:
    web.on_start("remove", 0, lambda: setattr(web.world, "unbootable", "/boot/vmlinuz-4.0 is missing"))
    outcome = patch(fleet)
    assert outcome.state is OperationState.FAILED
    assert "validation next boot: /boot/vmlinuz-4.0 is missing" in outcome.reason
    assert told(outcome) == [(FindingLevel.GOOD, "removed: linux-1, linux-2")]


def test_a_removal_that_passes_the_end_of_the_window_is_told(fleet: SimFleet, web: SimMachine) -> None:
    web.on_start("install", 0, lambda: setattr(web.world, "start_seconds", 7300))
    outcome = patch(fleet)
    assert outcome.window_exceeded_seconds > 0
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_no_hooks_are_run_for_kernels_alone(fleet: SimFleet, web: SimMachine) -> None:
    hook = {"name": "drain", "kind": "machine-command", "target": "drain"}
    outcome = patch(fleet, hooks={"before_machine": [hook]}, minutes=16)
    assert told(outcome) == [
        (FindingLevel.GOOD, "not removed: linux-1, linux-2: the hooks before the machine have not run")
    ]
    assert left(web) == OLD + NEW


def test_nothing_is_removed_after_a_bad_validation(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf["tzdata"].fails = "disk on fire"
    outcome = patch(fleet)
    assert outcome.state is OperationState.FAILED
    assert left(web) == OLD + NEW


def test_nothing_is_removed_when_no_time_is_left(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf["tzdata"].seconds = 900.0
    outcome = patch(fleet, minutes=16, reboot=RebootPolicy.NEVER)
    assert outcome.state is OperationState.SUCCEEDED
    ((level, message),) = told(outcome)
    assert level is FindingLevel.GOOD
    assert message.startswith("not removed: linux-1, linux-2: ")
    assert left(web) == OLD + NEW


def test_nothing_is_removed_in_a_run_that_is_to_stop(fleet: SimFleet, web: SimMachine) -> None:
    web.on_start("install", 1, lambda: fleet.control.request_stop("enough"))
    outcome = patch(fleet)
    assert told(outcome)[0][1].endswith("the run was asked to stop: enough")
    assert left(web) == OLD + NEW


def test_a_machine_that_does_not_answer_keeps_its_kernels(fleet: SimFleet, web: SimMachine) -> None:
    def lose(_: Script) -> Any:
        raise ConnectionLost("the cable is out")

    web.answer("fake_kernels", lose)
    outcome = patch(fleet)
    assert outcome.state is OperationState.SUCCEEDED
    assert told(outcome) == [(FindingLevel.GOOD, "not looked for: the cable is out")]
    assert left(web) == OLD + NEW


def test_what_the_request_excludes_stays(fleet: SimFleet, web: SimMachine) -> None:
    assert told(patch(fleet, updates={"exclude": ["linux-*"]})) == []
    assert left(web) == OLD + NEW


def test_a_removal_that_is_not_wanted_any_more_when_the_run_is_resumed_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = one()
    web, life = fleet.machines["web"], Life()

    def die(_: Any) -> Any:
        monkeypatch.undo()
        raise Killed

    monkeypatch.setattr(
        web, "start_job", lambda job, **more: die(job) if "remove" in job.id else SimMachine.start_job(web, job, **more)
    )
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(remove_unused_kernels=True), life)
    web.world.shelf.kernels = kernels(1, 2, 3, 4, running=3)
    outcome = outcome_of(resume(fleet), "web")
    assert told(outcome) == [
        (FindingLevel.GOOD, "not removed: linux-1, linux-2: kernel 4.0 is installed, 3.0 is running")
    ]
    assert left(web) == OLD + NEW


def calls() -> int:
    life, fleet = Life(), one()
    begin(fleet, fleet.request(remove_unused_kernels=True), life)
    return life.calls


@pytest.mark.parametrize("later", [60.0, 6 * 3600.0])
@pytest.mark.parametrize("dies_at", choose_calls(calls()))
def test_killed_at_any_call_what_is_removed_is_told(dies_at: int, later: float) -> None:
    fleet = one()
    web = fleet.machines["web"]
    with contextlib.suppress(Killed):
        request = fleet.request(remove_unused_kernels=True)
        begin(fleet, request, Life(dies_at=dies_at, after_the_act=bool(dies_at % 2)))
    fleet.clock.advance(later)
    assert left(web) in (OLD + NEW, NEW)
    if RUN not in fleet.records.runs:
        return
    with contextlib.suppress(RequestError):  # it was over
        outcome = outcome_of(resume(fleet), "web")
        assert ((FindingLevel.GOOD, "removed: linux-1, linux-2") in told(outcome)) == (left(web) == NEW)
        assert sum(message.startswith("removed: ") for _, message in told(outcome)) <= 1
    assert later > 3600 or left(web) == NEW
    assert replace(web.world.kernels(), packages=()) == replace(kernels(), packages=())
