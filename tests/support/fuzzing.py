"""What fuzz tests of readers share: odd values, files that were damaged, and limits of time and memory for each input.

How many inputs a test tries follows from HYPOTHESIS_PROFILE; FLEETPATCH_FUZZ=12000 names the number, for a run by hand.
"""

import math
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from inventory.errors import FleetpatchError, InventoryError
from tasks.domain.errors import InternalError

MOST_SHOWN = 4000
"""Characters of one fault; more than that nobody reads."""

PROCESSOR_SECONDS = 5.0
MEMORY_BYTES = 768 * 1024**2

NUMBERS = ("9" * 10_000, "-" + "9" * 10_000, "0x" + "f" * 5000, "1e400", "-1e400", "nan", "inf", "²", "٣", "--5", "1_0")
SIGNS = (
    "\x00",
    "\ud800",
    "\udcff",
    "\u202e",
    "\ufeff",
    "\x1b[2J",
    "\x85",
    "\u2028",
    "\r",
    "é",
    "\U0001f600",
    "\\",
    "'",
)
LONG = ("a" * 5000, "/" + "a/" * 2500, "../" * 1700, "~nobody-at-all/x", "%" * 300, "*" * 2000, "a," * 3000)
DEEP = ("[" * 3000, "{" * 3000, "[" * 200 + "]" * 200, "(" * 500, "- " * 400, '{"a":' * 500, "{a: " * 150)
WORDS = (
    "",
    " ",
    "null",
    "~",
    "true",
    "0",
    "-1",
    "0001-01-01",
    "9999-12-31",
    "24:00",
    "*",
    "!",
    "&a",
    "*a",
    "<<",
    "{{x}}",
)
ODD_TEXTS = (*NUMBERS, *SIGNS, *LONG, *DEEP, *WORDS)

ODD = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
"""Values to put in the place of a right one."""

Step = TypeVar("Step", bound=Callable[..., None])
Path_ = tuple[str | int, ...]


class TooSlow(BaseException):
    """An input took longer than its share. No reader's own ``except Exception`` may catch this."""


@dataclass
class Limits:
    """What one input may take.

    Attributes:
        processor_seconds: of this process: busy cores make no difference. Whoever waits is ended by pytest's timeout.
        memory_bytes: beyond what the process has already.
    """

    processor_seconds: float = PROCESSOR_SECONDS
    memory_bytes: int = MEMORY_BYTES


@contextmanager
def bounded(limits: Limits | None = None) -> Iterator[None]:
    """End what takes too long with TooSlow, and let what wants too much memory have a MemoryError. Main thread only."""
    limits = limits or Limits()

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {limits.processor_seconds:g} s of work")

    handler = signal.signal(signal.SIGPROF, end)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + limits.memory_bytes, hard))
    signal.setitimer(signal.ITIMER_PROF, limits.processor_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, handler)


def fuzzed(share: float = 1.0) -> Callable[[Step], Step]:
    """Return the settings of a fuzz test; ``share`` of the profile's number of inputs, for readers that are slow."""
    asked = int(os.environ.get("FLEETPATCH_FUZZ", "0"))
    number = asked or max(10, math.ceil(settings().max_examples * share))
    found: Callable[[Step], Step] = settings(
        max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    return found


@dataclass(frozen=True, slots=True)
class Edit:
    """One damage done to a text: so many characters taken away somewhere, and something put there."""

    at: float
    taken: int
    put: str

    def on(self, text: str) -> str:
        """Return the damaged text."""
        where = int(self.at * len(text))
        return text[:where] + self.put + text[where + self.taken :]


def damaged(texts: Sequence[str], words: Sequence[str] = (), most: int = 4) -> st.SearchStrategy[str]:
    """Return real texts with a few places changed: parts removed, repeated, exchanged, or odd ones put in.

    Args:
        texts: real files.
        words: what means something to the reader: keys, signs, values.
        most: edits in one text.
    """
    pieces = tuple(line + "\n" for text in texts for line in text.splitlines())
    put = st.one_of(st.just(""), st.sampled_from((*words, *ODD_TEXTS)), st.sampled_from(pieces), st.text(max_size=8))
    edit = st.builds(Edit, st.floats(0, 1, exclude_max=True), st.sampled_from((0, 0, 1, 1, 2, 5, 20, 200)), put)

    def all_on(text: str, edits: list[Edit]) -> str:
        for each in edits:
            text = each.on(text)
        return text

    return st.builds(all_on, st.sampled_from(tuple(texts)), st.lists(edit, min_size=1, max_size=most))


def paths(value: Any, path: Path_ = ()) -> list[Path_]:
    """Return the path of every part of a tree of maps and lists, its own first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, each in inner for deeper in paths(each, (*path, key)))]


def put(tree: Any, path: Path_, value: Any) -> Any:
    """Return a copy of a tree with another value at a path. A path that is gone changes nothing."""
    if not path:
        return value
    first, *rest = path
    if isinstance(tree, dict) and first in tree:
        return {**tree, first: put(tree[first], tuple(rest), value)}
    if isinstance(tree, list) and isinstance(first, int) and first < len(tree):
        return [*tree[:first], put(tree[first], tuple(rest), value), *tree[first + 1 :]]
    return tree


def judge(error: FleetpatchError, *places: str) -> None:
    """Assert that a refusal says where, what and the remedy, in a length that people read.

    Args:
        error: what a reader raised; of several faults, each is judged.
        places: one of these stands in each message, such as the file's name; none: nothing needs to.
    """
    assert not isinstance(error, InternalError), repr(error)
    for each in getattr(error, "problems", None) or (error,):
        assert isinstance(each, FleetpatchError)
        assert each.message.strip(), repr(each)
        assert each.hint.strip(), repr(each)
        assert len(each.message) + len(each.hint) < MOST_SHOWN, len(each.message)
        assert "fault in fleetpatch" not in each.message
        if places:
            named = f"{each.message} {each.file if isinstance(each, InventoryError) else ''}"
            assert any(place in named for place in places), each.message
