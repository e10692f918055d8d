"""Opens the providers of machines, for the ports of a run."""

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine
from inventory.machine_providers import ProviderSettings, find_provider_name
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.transport import Transport

if TYPE_CHECKING:
    from tasks.machines.providers.identity import ProviderRecords


class FleetProviders:
    """The providers of one run. The file of providers is read once, so a change of it is for the next run.

    Args:
        inventory: with the hosts on which providers are asked. The file of providers is beside it.
        clock: of the run.
        connect: connects to a machine.
        records: where it is kept what machines were at their providers.
    """

    def __init__(
        self,
        inventory: Inventory,
        clock: Clock,
        connect: Callable[[Machine], Transport],
        records: "ProviderRecords",
    ) -> None:
        self._inventory, self._clock, self._connect, self._records = inventory, clock, connect, records
        self._settings: dict[str, ProviderSettings] | None = None
        self._lock = Lock()

    def open(self, machine: Machine) -> MachineProvider | None:
        """Return the provider of a machine; None: its inventory entry names none.

        Raises:
            InventoryError: the file has problems (InvalidProviders), or is not where the environment says.
            RequestError: the file does not have the provider.
        """
        name = find_provider_name(machine)
        if not name:
            return None
        from tasks.machines.providers.registry import ProviderPorts, open_provider  # noqa: PLC0415 - see _read_file

        providers = self._read_file()
        settings = providers.get(name)
        if settings is None:
            hint = f"{did_you_mean(name, providers)}Give it in providers.yaml beside the inventory."
            raise RequestError(f"{machine.name}: there is no provider {name!r}", hint=hint)
        find_machine = self._inventory.find_machine
        ports = ProviderPorts(self._clock, lambda host: self._connect(find_machine(host)), self._records)
        return open_provider(settings, machine, ports)

    def _read_file(self) -> dict[str, ProviderSettings]:
        from flows.machine_providers.provider_file import load_providers  # noqa: PLC0415 - few machines have one

        with self._lock:
            if self._settings is None:
                self._settings = load_providers(self._inventory)
            return self._settings
