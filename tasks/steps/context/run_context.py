"""The ports and options of one run. All its machines share them. It notices a machine that has two names."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from inventory.machine import Machine
from tasks.domain.errors import RequestError
from tasks.domain.model import (
    Facts,
    Hook,
    HookResult,
    RunInfo,
    Window,
)
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.package_manager import PackageManager
from tasks.domain.protocols.records import Records
from tasks.domain.protocols.transport import Transport
from tasks.steps.context.patch_options import PatchOptions
from tasks.steps.context.progress_listener import LoggingListener, ProgressListener
from tasks.steps.context.stop_token import StopToken


class MachineInstances:
    """The machines that a run has met, each with the name under which it met it first. Safe for use by many threads.

    The machine's own lock has the last word: it is of a run and a name, also for a second process of the run.

    Args:
        known: the names and the facts of the machines that an earlier process of the run has met.
    """

    def __init__(self, known: Iterable[tuple[str, Facts | None]] = ()) -> None:
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        for name, facts in known:
            self.meet(facts, name)

    def meet(self, facts: Facts | None, name: str) -> str:
        """Return the other name under which the run has met this machine before, or "".

        Args:
            facts: of the machine. Without them, or without an id of the instance, nothing is said.
            name: the name under which it answered now.
        """
        if facts is None or not facts.instance_id:
            return ""
        with self._lock:
            first = self._names.setdefault(facts.instance_id, name)
        return "" if first == name else first


def _refuse_hook(hook: Hook, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - the call's parameters
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


def _refuse_magic_packet(mac: str, broadcast: str, port: int) -> NoReturn:  # noqa: ARG001 - the call's parameters
    raise RequestError(f"no magic packet for {mac} can be sent here")


@dataclass(frozen=True, slots=True)
class RunContext:
    """The ports and options of one run, the same for all its machines.

    Attributes:
        call_hook: runs a hook that is not a command on a machine, with its subject and deadline.
        check_failure_budget: returns why no further machine may begin after too many failures, or "".
        instances: the machines that the run has met.
        send_magic_packet: powers a machine on by Wake-on-LAN: hardware address, IPv4 address, port.
    """

    run: RunInfo
    options: PatchOptions
    clock: Clock
    records: Records
    connect: Callable[[Machine], Transport]
    find_manager: Callable[[Facts], PackageManager]
    listener: ProgressListener = field(default_factory=LoggingListener)
    stop_token: StopToken = field(default_factory=StopToken)
    call_hook: Callable[[Hook, str, Deadline], HookResult] = _refuse_hook
    check_failure_budget: Callable[[], str] = lambda: ""
    instances: MachineInstances = field(default_factory=MachineInstances)
    send_magic_packet: Callable[[str, str, int], None] = _refuse_magic_packet

    @property
    def window(self) -> Window:
        """The window of a run that changes machines."""
        if self.run.window is None:
            raise ValueError(f"run {self.run.id} has no window")
        return self.run.window
