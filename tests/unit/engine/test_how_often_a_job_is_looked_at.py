"""Each look at a job is a session of sudo's on the machine: few while it goes on, and one soon after its end."""

import pytest

from tasks.domain.states import Step
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet


def looks(fleet: SimFleet, *packages: FakePackage, can_wait: bool = False) -> tuple[int, float]:
    """Return how often the machine was looked at while it installed these, and how late the end was noticed."""
    web = fleet.add("web", packages)
    web.can_wait = can_wait
    seen: list[float] = []
    look = web.poll_job

    def noted(job_id: str, **named: object) -> object:
        if "-install-" in job_id:
            answer = look(job_id, **named)  # type: ignore[arg-type]
            seen.append((fleet.clock.now()).timestamp())
            return answer
        return look(job_id, **named)  # type: ignore[arg-type]

    web.poll_job = noted  # type: ignore[method-assign, assignment]
    fleet.patch(stage=False, reboot="Never")
    ended = max(begun.ended_at for begun in web.begun() if begun.work == "install" and begun.ended_at)
    return len(seen), next(at for at in seen if at >= ended.timestamp()) - ended.timestamp()


@pytest.mark.parametrize(("count", "each", "most"), [(300, 0.5, 60), (60, 20.0, 350), (3, 1.0, 8)])
def test_an_install_is_looked_at_seldom_and_its_end_is_seen_soon(
    fleet: SimFleet, count: int, each: float, most: int
) -> None:
    number, late = looks(fleet, *(FakePackage(f"p{index}", seconds=each) for index in range(count)))
    assert number <= most
    assert late < max(1.0, each / 2)


@pytest.mark.parametrize(("count", "each", "most"), [(300, 0.5, 52), (60, 20.0, 260), (3, 1.0, 3)])
def test_a_look_that_waits_on_the_machine_sees_the_end_at_once(
    fleet: SimFleet, count: int, each: float, most: int
) -> None:
    number, late = looks(fleet, *(FakePackage(f"p{index}", seconds=each) for index in range(count)), can_wait=True)
    assert number <= most
    assert late == 0.0


def test_a_machine_that_answers_before_its_time_is_not_asked_without_a_pause(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("p", seconds=60.0)])
    web.can_wait = True
    look, looked = web.poll_job, 0

    def answer_at_once(job_id: str, **named: object) -> object:
        nonlocal looked
        looked += 1
        return look(job_id, **{**named, "wait_seconds": 0.0})  # type: ignore[arg-type]

    web.poll_job = answer_at_once  # type: ignore[method-assign, assignment]
    fleet.patch(stage=False, reboot="Never")
    assert looked <= 30


def test_what_takes_minutes_for_each_update_is_looked_at_twice_a_minute(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeManager, "longest_poll_seconds", WindowsUpdateManager.longest_poll_seconds)
    number, late = looks(fleet, FakePackage("kb", seconds=2400.0))
    assert number <= 100
    assert late <= 30.0


class Told(LoggingListener):
    """Remembers the progress of installations."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        if step is Step.INSTALL and message:
            self.messages.append(message)


def test_a_line_that_is_lost_is_told_with_its_time_until_the_machine_answers_again(fleet: SimFleet) -> None:
    told = Told()
    fleet.watch = told
    web = fleet.add("web", [FakePackage("p", seconds=300.0)])
    web.can_wait = True
    cut_at = ""

    def cut() -> None:
        nonlocal cut_at
        cut_at = f"{fleet.clock.now():%H:%M}"
        told.messages.append("cut")
        web.cut(60)

    web.on_start("install", 100, cut)
    fleet.patch(stage=False, reboot="Never")
    silent = told.messages[told.messages.index("cut") + 1 :]
    assert silent[0] == f"no answer since {cut_at} UTC"
    after = [message for message in silent if not message.startswith("no answer")]
    assert after[0] == "it answers again"
