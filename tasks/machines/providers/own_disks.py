"""What providers share that are asked on the machine itself: a script takes, reverts to and deletes snapshots there.

A revert takes effect with a boot: it reboots the machine, and waits until it answers again. It uses the snapshot up.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Self

from inventory.machine import Machine, TransportKind
from inventory.machine_providers import find_provider_machine_id
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.provided_machines import ProviderAct, ProviderOrder
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.registry import ProviderPorts

_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_WORKS: Final[Mapping[ProviderAct, str]] = {
    ProviderAct.TAKE_SNAPSHOT: "take",
    ProviderAct.REVERT: "revert",
    ProviderAct.DELETE_SNAPSHOT: "delete",
}
_POLL_SECONDS: Final = 10.0
"""A machine that boots refuses logins, and accounts could be locked."""


class OwnDisksProvider:
    """A machine that takes the snapshots of its operating system itself."""

    kind: ClassVar[str]  # the kind of provider
    # The name of its script. It has the parameters work and id, and the records that own_disks.sh tells.
    script: ClassVar[str]

    def __init__(self, host: HostCommands, machine_id: str, *, can_reboot: bool = True) -> None:
        """``can_reboot`` is false for the controller's own machine: the revert would end with it."""
        self._host, self._id = host, machine_id
        self.acts = frozenset(_WORKS) if can_reboot else frozenset(_WORKS) - {ProviderAct.REVERT}

    @classmethod
    def open(cls, machine: Machine, ports: ProviderPorts) -> Self:
        """Return the provider of a machine."""
        host = HostCommands(ports.connect(machine.name), ports.clock, machine.name)
        can_reboot = machine.transport is not TransportKind.LOCAL
        return cls(host, find_provider_machine_id(machine), can_reboot=can_reboot)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act not in self.acts:
            hint = "Only snapshots of the system are taken, reverted to and deleted there."
            raise ProviderError(f"{self._id}: the provider {self.kind} can't do {order.act}", hint=hint)
        if not _ID_PATTERN.fullmatch(order.id):
            hint = "Use letters, digits, and . _ - in it, at most 80."
            raise ProviderError(f"{self._id}: {order.id!r} can't be the id of an order", hint=hint)
        if order.act is ProviderAct.REVERT and order.with_data_disks:
            hint = "Order the revert without data disks."
            raise ProviderError(f"{self._id}: its snapshots have no data disks", hint=hint)
        result = self._run(_WORKS[order.act], order.id, deadline)
        if result.find_records("rebooting"):
            return self._complete_revert(order.id, _get_boot(result), deadline)
        if result.find_records("merging"):
            return self._complete_revert(order.id, "", deadline)
        return "; ".join(str(record["text"]) for record in result.find_records("note"))

    def _complete_revert(self, snapshot_id: str, boot: str, deadline: Deadline) -> str:
        """Wait until the machine is in another boot than the given one, and the revert has ended."""
        clock, reason = self._host.clock, "it has not gone down yet"
        while not deadline.has_passed(clock):
            clock.sleep(_POLL_SECONDS)
            try:
                if boot == _get_boot(self._run("read", "", deadline)):
                    continue
                result = self._run("revert", snapshot_id, deadline)
            except ProviderError as error:  # it boots, and may refuse logins for a while
                reason = error.message
                continue
            if not result.find_records("merging"):
                return "the snapshot is used up by the revert"
            reason = "the merge goes on, and the machine works with its state of before already"
        raise ProviderUnavailable(f"{self._id}: the revert has not ended in time: {reason}; order it again")

    def _run(self, work: str, order_id: str, deadline: Deadline) -> ScriptResult:
        parameters = {"work": work, "id": order_id}
        result = self._host.run_script(self.script, parameters, deadline=deadline, read_only=work == "read")
        if failed := result.find_records("failed"):
            raise ProviderError(f"{self._id}: {failed[0]['why']}", hint=str(failed[0]["hint"]))
        if not result.find_records("ended"):
            raise ProviderError(f"{self._id}: the answer is incomplete: {result.unframed_output[-300:]}")
        return result


def _get_boot(result: ScriptResult) -> str:
    return str(result.find_records("boot")[0]["id"])
