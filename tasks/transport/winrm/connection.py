"""Opens a WinRM connection to one machine."""

from inventory.machine import Machine
from tasks.protocols.clock import Deadline
from tasks.transport.winrm.channel import WinrmChannel
from tasks.transport.winrm.faults import WsmanFault, build_fault_error
from tasks.transport.winrm.login import WinrmEnvironment, open_client
from tasks.transport.winrm.messages import WsmanClient


def connect(machine: Machine, environment: WinrmEnvironment, *, deadline: Deadline) -> WinrmChannel:
    """Open a connection, log in and open a shell.

    Raises:
        TransportError: see ``open_client``, and ``build_fault_error`` for a machine that opens no shell.
    """

    def open_another(until: Deadline) -> tuple[WsmanClient, str]:
        return open_client(machine, environment, deadline=until)

    try:
        client, shell_id = open_another(deadline)
    except WsmanFault as fault:
        error = build_fault_error(fault)
        error.machine = machine.name
        raise error from fault
    return WinrmChannel(client, shell_id, open_another, environment.clock)
