"""What the caller of a flow in this process may hand it besides the request: someone who watches, a way to stop it.

A request is all that a form or a schedule can give. The command, which runs the flow in its own process, also wants to
draw progress and to stop it; both reach the flow through this context variable.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tasks.errors import FleetpatchError
from tasks.steps.context.progress_listener import LoggingListener, ProgressListener
from tasks.steps.context.stop_token import StopToken


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and how it is kept informed.

    Attributes:
        run_id: the id that the run gets, so that its caller can speak of it before it has ended; None: a new one.
        report_errors: filled with why reports could not be written, by run; None: that is logged. The runs themselves
            are whole, and recorded.
    """

    listener: ProgressListener = field(default_factory=LoggingListener)
    stop_token: StopToken = field(default_factory=StopToken)
    name: str = ""
    records_url: str | None = None
    run_id: str | None = None
    report_errors: dict[str, FleetpatchError] | None = None


_CURRENT_CALLER: ContextVar[Caller | None] = ContextVar("fleetpatch_caller", default=None)


def current_caller() -> Caller:
    """Return who called, or a silent nobody."""
    return _CURRENT_CALLER.get() or Caller()


@contextmanager
def use_caller(caller: Caller) -> Iterator[None]:
    """Call flows as this caller."""
    token = _CURRENT_CALLER.set(caller)
    try:
        yield
    finally:
        _CURRENT_CALLER.reset(token)


def find_starter_name(caller: Caller) -> str:
    """Return who started a run, for its records."""
    return caller.name or read_login_name()


def read_login_name() -> str:
    """Return the name of this process's user by the system's list of users: in LOGNAME stands whatever one likes."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up user
        return f"user {os.getuid()}"
