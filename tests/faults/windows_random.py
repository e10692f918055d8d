"""Random faults on Windows machines: each seed and number is one run, which strikes hit at random moments.

Moments are counted in the machine's WS-Management operations: a run of three updates has some hundreds. What is judged
is the same as of the named cases; and the next run, undisturbed, heals the machine.
"""
# ruff: noqa: T201 - a program that prints

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.faults.controllers import RUN, Broken
from tests.faults.on_machines import (
    WINDOWS_SIDE_BY_SIDE,
    Play,
    Played,
    play_all,
    reason_windows_cannot_run,
    table,
    tell,
)
from tests.faults.windows_case import WindowsCase
from tests.faults.windows_cases import CUT_SECONDS
from tests.faults.windows_stage import BOOTS, PLAIN, SLOW, WindowsStage
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.patching import cumulative, offer

OPERATIONS: Final = 300
"""About as many as an undisturbed run has."""
KILLED_ONE_IN: Final = 4
"""One of so many runs is carried by a process that is killed."""

_ANSWERS: Final = (
    What.TIMED_OUT,
    What.SHELL_LOST,
    What.QUOTA_SHELLS,
    What.QUOTA_OPERATIONS,
    What.ABORTED,
    What.STALE_PROFILE,
    What.EMPTY_500,
    What.UNAVAILABLE,
    What.BAD_XML,
    What.OTHER_ANSWER,
    What.BAD_SEAL,
    What.SLOW,
    What.RESET,
    What.CUT,
    What.CLOSE,
)
"""What can happen to one answer."""


def _spoil(stage: WindowsStage, what: What, times: int, acts: bool) -> None:
    stage.host.served.host.add_faults([Fault("any", what, times=times, acts=acts, seconds=2.0)])


def _cut(stage: WindowsStage, seconds: float) -> None:
    stage.host.cut()
    threading.Timer(seconds, stage.host.mend).start()


def _kill_job(stage: WindowsStage) -> None:
    if any(not (job / "rc").exists() for job in stage.jobs()):
        stage.host.kill_job()


Strike = Callable[[WindowsStage], object]
STRIKES: Final[Mapping[str, Callable[[random.Random], Strike]]] = {
    "an answer is spoilt": lambda dice: partial(
        _spoil, what=dice.choice(_ANSWERS), times=dice.choice([1, 1, 1, 2, 4]), acts=dice.random() < 0.5
    ),
    "connection lost": lambda dice: partial(_cut, seconds=dice.choice([0.2, CUT_SECONDS, 20.0])),
    "WinRM restarted": lambda _: lambda stage: stage.host.served.host.restart_service(),
    "power cut": lambda _: lambda stage: stage.host.crash(),
    "rebooted by a person": lambda _: lambda stage: stage.host.reboot_by_person(),
    "job killed": lambda _: _kill_job,
    "jobs deleted": lambda _: lambda stage: stage.host.delete_jobs(),
    "another updater": lambda dice: lambda stage: stage.host.other_updater(dice.choice([2, 8, 30])),
    "clock set": lambda dice: partial(
        lambda stage, ahead: stage.host.set_clock(ahead), ahead=dice.choice([-3600, 3600, 86400 * 1800, -86400 * 1800])
    ),
    "stop requested": lambda _: lambda stage: stage.control.request_stop("tested"),
}


@dataclass
class _Rolled:
    """What strikes, and when."""

    strikes: list[tuple[int, str, Strike]]
    killed_at: int | None
    struck: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        planned = ", ".join(f"{name} at {at}" for at, name, _ in self.strikes)
        killed = f"; controller killed at {self.killed_at}" if self.killed_at else ""
        return f"{planned}{killed}"


def roll(seed: str, number: int) -> _Rolled:
    """Return what strikes one run."""
    dice = random.Random(f"{seed}/{number}/windows")
    killed = int(dice.random() * OPERATIONS) + 1 if dice.random() * KILLED_ONE_IN < 1 else None
    strikes = []
    for _ in range(dice.choice([1, 1, 2, 2, 3])):
        name = dice.choice(list(STRIKES))
        if killed and name == "stop requested":  # this process does not carry the run
            name = "WinRM restarted"
        strikes.append((int(dice.random() * OPERATIONS) + 1, name, STRIKES[name](dice)))
    return _Rolled(sorted(strikes, key=lambda strike: strike[0]), killed)


def _play(rolled: _Rolled, stage: WindowsStage) -> None:
    over = threading.Event()
    striker = threading.Thread(target=_strike, args=(rolled, stage, over), daemon=True)
    striker.start()
    try:
        if rolled.killed_at is None:
            stage.patch()
        else:
            stage.describe_request()
            process = stage.controller("begin")
            while process.poll() is None and _count(stage) < rolled.killed_at:
                time.sleep(0.01)
            is_over = process.poll() is not None  # it failed before
            process.kill()
            process.wait(60)
            if not is_over:
                stage.taken_up()
    finally:
        over.set()
        striker.join(60)
    stage.host.mend()
    stage.host.wait_login()
    try:
        stage.judge(RUN)
    except AssertionError as error:
        raise Broken(f"{rolled}; struck: {rolled.struck}: {error}") from error


def _count(stage: WindowsStage) -> int:
    return stage.host.served.host.schedule.counts.get("any", 0)


def _strike(rolled: _Rolled, stage: WindowsStage, over: threading.Event) -> None:
    for at, name, act in rolled.strikes:
        while _count(stage) < at:
            if over.wait(0.01):
                return
        stage.host.wait_login()
        with suppress(OSError):  # it went down just now
            act(stage)
            rolled.struck.append(f"{name} at {_count(stage)}")
        said = stage.fleet.watch.messages  # of a run that another process carries, there is nothing
        stage.may_keep_lock |= rolled.killed_at is not None or any(each.startswith("validate") for each in said)


def random_cases(seed: str, numbers: range) -> Iterator[tuple[str, WindowsCase]]:
    """Return cases by name."""
    updates = (
        offer(SLOW, install_seconds=3.0),
        offer(PLAIN, install_seconds=1.0),
        cumulative(BOOTS, install_seconds=2.0),
    )
    for number in numbers:
        rolled = roll(seed, number)
        yield f"case {number} of seed {seed} ({rolled})", WindowsCase(partial(_play, rolled), {"updates": updates})


def main(seed: str, cases: int, minutes: float) -> int:
    """Play so many, or for so many minutes; return the exit code."""
    reason = reason_windows_cannot_run()
    if reason:
        print(f"random faults on Windows machines can't be played: {reason}")
        return 1
    began, played, number = time.monotonic(), list[Played](), 0
    while number < cases and time.monotonic() - began < minutes * 60:
        numbers = range(number, min(cases, number + WINDOWS_SIDE_BY_SIDE))
        played += play_all(None, [Play(name, case, "windows") for name, case in random_cases(seed, numbers)], tell)
        number = numbers.stop
    print(table(played, time.monotonic() - began))
    return 1 if any(one.fault for one in played) else 0
