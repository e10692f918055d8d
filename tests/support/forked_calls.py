"""Functions called in processes of their own, each forked from the one that has this project's modules loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from tests.support.forked import FORK_SERVER, replace_environment

_PATIENCE_SECONDS: Final = 240.0


@dataclass(frozen=True, slots=True)
class ForkedCall:
    """A call in another process."""

    process: ForkServerProcess
    answers: Connection

    def receive(self) -> Any:
        """Return the next thing that the function sends; ``EOFError`` when it ends without."""
        if not self.answers.poll(_PATIENCE_SECONDS):
            raise TimeoutError(f"{self.process.name} says nothing")
        return self.answers.recv()

    def end(self) -> int:
        """Wait for its end, and return its exit code: 1 after an exception, which stderr has."""
        self.process.join(_PATIENCE_SECONDS)
        assert self.process.exitcode is not None, f"{self.process.name} does not end"
        self.answers.close()
        return self.process.exitcode


def begin_call(function: Callable[..., None], *words: Any) -> ForkedCall:
    """Call a module's function as ``function(answers, *words)``; what it sends by ``answers`` is received here."""
    answers, theirs = FORK_SERVER.Pipe(duplex=False)
    asked = (function, dict(os.environ), theirs, *words)
    process = FORK_SERVER.Process(target=_call, args=asked, name=function.__name__, daemon=True)
    process.start()
    theirs.close()
    return ForkedCall(process, answers)


def _call(function: Callable[..., None], environment: dict[str, str], answers: Connection, *words: Any) -> None:
    replace_environment(environment)
    function(answers, *words)


def make_barrier(parties: int) -> Barrier:
    """Return a barrier for so many calls."""
    return FORK_SERVER.Barrier(parties)
