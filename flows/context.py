"""What the caller of a flow in this process may hand it besides the request: someone who watches, a way to stop it.

A request is all that a form or a schedule can give. The command, which runs the flow in its own process, also wants to
draw progress and to stop it; both reach the flow through this context variable.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tasks.errors import FleetpatchError
from tasks.steps.context import Control, SilentWatcher, Watcher


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and how it is kept informed.

    Attributes:
        run_id: the id that the run gets, so that its caller can speak of it before it has ended; None: a new one.
        unwritten: filled with why reports could not be written, by run; None: that is logged. The runs themselves are
            whole, and recorded.
    """

    watch: Watcher = field(default_factory=SilentWatcher)
    control: Control = field(default_factory=Control)
    name: str = ""
    records_url: str | None = None
    run_id: str | None = None
    unwritten: dict[str, FleetpatchError] | None = None


_CALLER: ContextVar[Caller | None] = ContextVar("fleetpatch_caller", default=None)


def caller() -> Caller:
    """Return who called, or a silent nobody."""
    return _CALLER.get() or Caller()


@contextmanager
def called_by(who: Caller) -> Iterator[None]:
    """Call flows as this caller."""
    token = _CALLER.set(who)
    try:
        yield
    finally:
        _CALLER.reset(token)
