"""Virtual time: many tasks take turns on one thread, the dice decide whose turn it is, and time passes when all wait.

Every turn comes from one random generator, so a seed replays the very same schedule. Tasks are greenlets: the engine's
own blocking code runs in them unchanged, and gives its turn up only where it waits or calls somebody.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]  # it has no annotations

from tests.support.fake_clock import FakeClock

START = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
TURNS_AT_MOST = 400_000  # in one case; more is a loop that waits for nothing


class Endless(RuntimeError):
    """A case that does not come to its end."""


@dataclass(eq=False)
class Task:
    """Something that goes on by itself, on behalf of ``owner``; its ``line`` is where it stands."""

    owner: object
    over: "Flag"
    line: Any = None
    error: BaseException | None = None
    turn: int = 0  # of its next waking: older ones in the heap are void


class Hub:
    """Lets tasks take turns, in virtual time."""

    def __init__(self, dice: random.Random) -> None:
        self.now = START
        self.turns = 0
        self.current: Task | None = None
        self._dice = dice
        self._order = itertools.count()
        self._heap: list[tuple[datetime, float, int, Task | Callable[[], None], int]] = []
        self._root = getcurrent()

    def spawn(self, owner: object, body: Callable[[], object]) -> Task:
        """Let something go on by itself from now on."""
        task = Task(owner, Flag(self))
        task.line = greenlet(lambda: self._live(task, body), self._root)
        self.wake(task, self.now)
        return task

    def call_at(self, when: datetime, what: Callable[[], None]) -> None:
        """Have something happen at a moment; it must not wait for anything."""
        heapq.heappush(self._heap, (max(when, self.now), -1.0, next(self._order), what, 0))

    def sleep(self, seconds: float) -> None:
        """Let the current task wait; outside of tasks, let everything happen until then."""
        until = self.now + timedelta(seconds=max(0.0, seconds))
        if self.current is None:
            self._let_happen(until)
            return
        self.wake(self.current, until)
        self.park()

    def park(self) -> None:
        """Give the turn up, until somebody wakes the task."""
        self._root.switch()

    def wake(self, task: Task, when: datetime) -> None:
        """Give a task its next turn at that moment, whatever was to wake it before."""
        task.turn += 1
        heapq.heappush(self._heap, (when, self._dice.random(), next(self._order), task, task.turn))

    def hurry(self, owner: object) -> None:
        """Wake all tasks of an owner now: its process has died."""
        waiting = [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3])]
        for task in dict.fromkeys(each for each in waiting if isinstance(each, Task)):
            if task.owner is owner and task is not self.current:
                self.wake(task, self.now)

    def until(self, over: Callable[[], bool]) -> None:
        """From outside of tasks: let things happen until something is so, or nothing is left to happen."""
        while self._heap and not over():
            self._step()

    def _let_happen(self, until: datetime) -> None:
        while self._heap and self._heap[0][0] <= until:
            self._step()
        self.now = max(self.now, until)

    def _step(self) -> None:
        self.turns += 1
        if self.turns > TURNS_AT_MOST:
            raise Endless(f"no end after {TURNS_AT_MOST} turns, at {self.now}")
        when, _, _, what, turn = heapq.heappop(self._heap)
        if not isinstance(what, Task):
            self.now = max(self.now, when)
            what()
        elif turn == what.turn and not what.over.is_set():
            self.now = max(self.now, when)
            self.current = what
            what.line.switch()
            self.current = None

    def _live(self, task: Task, body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the task is told
            task.error = error
        task.over.set()


class Flag:
    """A threading.Event in virtual time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._set = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake who waits for that."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._hub.wake(task, self._hub.now)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, at most so long; return whether it was set."""
        me = self._hub.current
        if me is None:
            self._hub.until(self.is_set)
        while me is not None and not self._set:
            self._waiting.append(me)
            if seconds is not None:
                self._hub.wake(me, self._hub.now + timedelta(seconds=seconds))
            self._hub.park()
            if me in self._waiting:
                self._waiting.remove(me)
            if seconds is not None:
                break
        return self._set


class Turnstile:
    """A threading.Lock in virtual time: one task at a time is in its block, and tasks wait while it waits there."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._taken: Flag | None = None

    def __enter__(self) -> None:
        while self._taken is not None:
            self._taken.wait()
        self._taken = Flag(self._hub)

    def __exit__(self, *_: object) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.set()


class Notice(Turnstile):
    """A threading.Condition in virtual time."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._news = Flag(hub)

    def wait(self, seconds: float | None) -> None:
        """Leave the block until there is news, at most so long, and enter it again."""
        news = self._news
        self.__exit__()
        news.wait(seconds)
        self.__enter__()

    def notify_all(self) -> None:
        """Wake all that wait."""
        news, self._news = self._news, Flag(self._hub)
        news.set()


class HubClock(FakeClock):
    """The true time of a hub. Machines and the store of the records live by it."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.hub = hub

    def now(self) -> datetime:
        """Return the present moment."""
        return self.hub.now

    def sleep(self, seconds: float) -> None:
        """Let the current task wait."""
        self.hub.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what is due."""
        self.hub.sleep(seconds)

    def call_at(self, when: datetime, what: Callable[[], None]) -> None:
        """Have something happen at a moment."""
        self.hub.call_at(when, what)


class Promise:
    """A Future in virtual time."""

    def __init__(self, hub: Hub, call: Callable[[], Any]) -> None:
        self._call = call
        self._over = Flag(hub)
        self._result: Any = None
        self._error: BaseException | None = None

    def keep(self) -> None:
        """Do it."""
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result is told
            self._error = error
        self._over.set()

    def result(self) -> Any:
        """Wait for it; raise what it raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Pool:
    """A ThreadPoolExecutor whose threads are tasks: what the engine does side by side is replayed the same way."""

    def __init__(self, hub: Hub, workers: int) -> None:
        self._hub = hub
        self._workers = workers
        self._queue: list[Promise] = []
        self._tasks: list[Task] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.over.wait()

    def submit(self, call: Callable[..., Any], *args: Any) -> Promise:
        """Have something called by one of the workers."""
        promise = Promise(self._hub, lambda: call(*args))
        self._queue.append(promise)
        if sum(not task.over.is_set() for task in self._tasks) < self._workers:
            owner = self._hub.current.owner if self._hub.current else None
            self._tasks.append(self._hub.spawn(owner, self._work))
        return promise

    def _work(self) -> None:
        while self._queue:
            self._queue.pop(0).keep()
