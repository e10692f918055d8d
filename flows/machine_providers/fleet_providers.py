"""Opens the provider of a machine, for the ports of a run."""

from collections.abc import Callable

from flows.machine_providers.provider_file import load_providers
from inventory.credentials import Credential
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine
from inventory.machine_providers import find_provider_name
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.transport import Transport
from tasks.machines.providers.registry import ProviderPorts, open_provider


def open_machine_provider(
    inventory: Inventory,
    clock: Clock,
    connect: Callable[[Machine], Transport],
    resolve_credential: Callable[[str], Credential],
    machine: Machine,
) -> MachineProvider | None:
    """Return the provider of a machine; None: its inventory entry names none.

    Args:
        inventory: with the hosts on which providers are asked. The file of providers is beside it.
        clock: of the run.
        connect: connects to a machine.
        resolve_credential: returns the secret of a reference.
        machine: whose disks are asked for.

    Raises:
        InvalidProviders: the file has problems.
        ProviderError: the provider can't be opened.
        RequestError: the file does not have the provider.
    """
    name = find_provider_name(machine)
    if not name:
        return None
    providers = load_providers(inventory)
    settings = providers.get(name)
    if settings is None:
        hint = f"{did_you_mean(name, providers)}Give it in providers.yaml beside the inventory."
        raise RequestError(f"{machine.name}: there is no provider {name!r}", hint=hint)
    ports = ProviderPorts(clock, lambda host: connect(inventory.find_machine(host)), resolve_credential)
    return open_provider(settings, machine, ports)
