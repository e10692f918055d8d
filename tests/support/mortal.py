"""A controller that dies: from one of its calls on, nothing that it asks for happens any more, as after kill -9."""

import threading
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings

THOROUGH_EXAMPLES = 1000


def choose_calls(last: int, first: int = 1) -> range:
    """Return the calls at which tests interfere: every third for a change, all before a release (tests/conftest.py).

    Three is odd: tests that do something else at every other call still do both. Each change is tested with an
    interference at every call of a run of two machines, and of one with hooks (tests/faults/test_killed_anywhere.py,
    tests/faults/test_hooks_resumed.py).
    """
    return range(first, last + 1, find_stride())


def find_stride() -> int:
    """Return the step from one interference to the next: 1 before a release."""
    return 1 if settings().max_examples >= THOROUGH_EXAMPLES else 3


class Killed(BaseException):
    """The process is gone. Not an Exception: no handler of the engine may live on."""


@dataclass
class Life:
    """How long a controller lives.

    Attributes:
        calls: to machines and records, so far.
        dies_at: number of the call at which it dies; None: it lives.
        after_the_act: whether that call still has its effect.
    """

    calls: int = 0
    dies_at: int | None = None
    after_the_act: bool = False
    dead: bool = False
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def spend(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a call, unless it is the last one or comes after it."""
        with self._turn:
            if self.dead:
                raise Killed
            self.calls += 1
            last = self.calls == self.dies_at
            self.dead = last
        if last and not self.after_the_act:
            raise Killed
        result = call(*args, **kwargs)
        if last:
            raise Killed
        return result


class Mortal:
    """Somebody's calls to a machine or to the records, for as long as its life lasts."""

    def __init__(self, inner: Any, life: Life, names: frozenset[str]) -> None:
        self._inner = inner
        self._life = life
        self._names = names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found
        return lambda *args, **kwargs: self._life.spend(found, *args, **kwargs)


class MortalRecords(Mortal):
    """The same for records; those that a run holds are as mortal."""

    def with_lease(self, *words: Any) -> "MortalRecords":
        return MortalRecords(self._inner.with_lease(*words), self._life, self._names)


def mortal_machine(machine: Any, life: Life) -> Any:
    """Return a transport that dies with the controller; the machine itself lives on."""
    return Mortal(machine, life, frozenset({"run_script", "start_job", "poll_job"}))


def mortal_provider(provider: Any, life: Life) -> Any:
    """Return the provider of a machine that the controller reaches for as long as it lives; None stays None."""
    return provider and Mortal(provider, life, frozenset({"read_machine", "carry_out"}))


def mortal_events(events: Any, life: Life) -> Any:
    """Return scheduled events that the controller reaches for as long as it lives."""
    return Mortal(events, life, frozenset({"announce", "approve", "change", "find", "read_document"}))


def mortal_records(records: Any, life: Life) -> Any:
    """Return records that the controller reaches for as long as it lives, also once it holds them."""
    return MortalRecords(records, life, frozenset({"append_entry", "read_entries", "save", "read_measure"}))
