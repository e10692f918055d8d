"""A transport to a machine to which no connection can be tried. Every script and every job raises the reason."""

from collections.abc import Callable
from typing import NoReturn

from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, Script, Transport


class UnavailableTransport:
    """A Transport that raises the given error in every operation."""

    def __init__(self, error: FleetpatchError) -> None:
        self._error = error

    def run_script(self, script: Script, *, deadline: Deadline) -> NoReturn:  # noqa: ARG002 - the protocol's
        """Raise the error."""
        raise self._error

    def start_job(self, job: Job, *, deadline: Deadline) -> NoReturn:  # noqa: ARG002 - the protocol's
        """Raise the error."""
        raise self._error

    def poll_job(self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0) -> NoReturn:  # noqa: ARG002
        """Raise the error."""
        raise self._error

    def close(self) -> None:
        """Do nothing: there is no connection."""


def connect_or_explain(connect: Callable[[Machine], Transport], machine: Machine) -> Transport:
    """Return the connection to a machine. If none can be tried, only this machine fails."""
    try:
        return connect(machine)
    except FleetpatchError as error:
        return UnavailableTransport(error)
