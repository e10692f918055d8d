"""Who calls a flow, and who acts for the audit log: what is proven and what was only said are apart.

The caller of a flow in the same process gives a progress listener and a stop token in addition to the request.

A form or a schedule can only give a request. The command runs the flow in its own process. It also shows progress and
can stop the run. Both reach the flow through this context variable. Without Prefect, the caller is a plain argument.
"""

import os
import platform
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError
from tasks.steps.context.run_control import LoggingListener, ProgressListener, StopToken

OS_SOURCE: Final = "os"
_SUDO_VARIABLE: Final = "SUDO_USER"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a flow, and how it gets progress.

    Attributes:
        source: how ``name`` is known: "pages", "schedule", or "prefect" for somebody whom Prefect does not know; "" for
            the user of this process.
        scope: the scope of the person's role ``run`` at the pages or the API; "": it is not limited.
        run_id: the id of the new run, so that the caller knows it before the run ends; None: a new id.
        report_errors: gets the errors of reports that could not be written, by run id; None: they are logged. The runs
            themselves are complete and recorded.
        ends_without_key: whether a run whose seal can't be checked, because its key is missing here, ends without a
            look at any machine. Only for a person who asks to finalize it: who has the key could do that better.
    """

    listener: ProgressListener = field(default_factory=LoggingListener)
    stop_token: StopToken = field(default_factory=StopToken)
    name: str = ""
    scope: str = ""
    records_url: str | None = None
    run_id: str | None = None
    source: str = ""
    report_errors: dict[str, FleetpatchError] | None = None
    ends_without_key: bool = False


_CURRENT_CALLER: ContextVar[Caller | None] = ContextVar("fleetpatch_caller", default=None)


def current_caller() -> Caller:
    """Return the caller, or a caller without name if none is set."""
    return _CURRENT_CALLER.get() or Caller()


@contextmanager
def use_caller(caller: Caller) -> Iterator[None]:
    """Use this caller for the flows that are called inside the block."""
    token = _CURRENT_CALLER.set(caller)
    try:
        yield
    finally:
        _CURRENT_CALLER.reset(token)


def find_starter_name(caller: Caller) -> str:
    """Return who started a run, for its records."""
    return caller.name or read_login_name()


def read_login_name() -> str:
    """Return the name of this process's user from the user database. A user can set LOGNAME to any value."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user id without an entry
        return f"user {os.getuid()}"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts."""

    who: str  # the proven name; "" for nobody
    source: str  # how it is proven; see AuditEntry
    claimed: str = ""  # the name that was only said
    address: str = ""  # from where


def read_os_actor(claimed: str = "") -> Actor:
    """Return the user of this process, as the operating system says. Without a claimed name it is sudo's variable."""
    address = f"{platform.node()}, uid {os.getuid()}"
    return Actor(read_login_name(), OS_SOURCE, claimed or os.environ.get(_SUDO_VARIABLE, ""), address)


def find_actor(caller: Caller) -> Actor:
    """Return who a caller is. A name that came with no proof is only claimed, by the user of this process."""
    if not caller.source:
        return read_os_actor(caller.name)
    return Actor("" if caller.source == "prefect" else caller.name, caller.source)
