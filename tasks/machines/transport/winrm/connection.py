"""Opens a WinRM connection to one machine."""

from inventory.machine import Machine
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.winrm.channel import CLEANUP_SECONDS, WinrmChannel
from tasks.machines.transport.winrm.faults import WsmanFault, build_fault_error
from tasks.machines.transport.winrm.login import WinrmEnvironment, open_client
from tasks.machines.transport.winrm.messages import LoginRefused, MessageLost, WsmanClient


def connect(
    machine: Machine,
    environment: WinrmEnvironment,
    *,
    deadline: Deadline,
    shells_to_delete: list[str] | None = None,
    is_first: bool = False,
) -> WinrmChannel:
    """Open a connection, log in and open a shell.

    Args:
        machine: the machine.
        environment: what all connections share.
        deadline: of the login.
        shells_to_delete: shells that earlier connections left: they are deleted. The connection adds its own to it.
        is_first: whether the machine was never reached before.

    Raises:
        TransportError: see ``open_client``, and ``build_fault_error`` for a machine that opens no shell.
    """

    def open_another(until: Deadline) -> tuple[WsmanClient, str]:
        return open_client(machine, environment, deadline=until)

    try:
        client, shell_id = open_client(machine, environment, deadline=deadline, is_first=is_first)
    except WsmanFault as fault:
        error = build_fault_error(fault)
        error.machine = machine.name
        raise error from fault
    shells = shells_to_delete if shells_to_delete is not None else []
    _delete_shells(client, shells)
    return WinrmChannel(client, shell_id, open_another, environment.clock, shells)


def _delete_shells(client: WsmanClient, shells: list[str]) -> None:
    """Delete shells of broken connections: a login may have 30, and they would end by themselves after two hours."""
    while shells:
        try:
            client.delete_shell(shells[-1], CLEANUP_SECONDS)
        except WsmanFault:
            pass  # it is gone already
        except (MessageLost, LoginRefused):
            return  # the first command finds that the connection is broken, and replaces it
        shells.pop()
