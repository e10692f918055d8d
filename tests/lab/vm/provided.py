"""A fleet of one virtual machine whose provider is the hypervisor of the lab, on this machine."""

from pathlib import Path
from typing import Any

import yaml

from tests.lab.engine import Fleet
from tests.lab.vm.machines import Vm, VmLab


class ProvidedFleet(Fleet):
    """The machine, and the hypervisor's host, which is this machine."""

    def __init__(self, lab: VmLab, vm: Vm, place: Path, **machine: Any) -> None:
        """``machine`` are keys of its inventory entry."""
        super().__init__([vm], place)
        self.vm = vm
        self.net = vm.address.rpartition(".")[0]
        self.describe(**{vm.name.replace("-", "_"): {"provider": f"rack/{vm.name}", **machine}})
        data = yaml.safe_load(self.inventory.read_text())
        data["machines"].append({"name": "rack-host", "address": "127.0.0.1", "transport": "local", "owner": "manual"})
        self.inventory.write_text(yaml.safe_dump(data))
        self._uri = lab.hypervisor.uri
        self.let_copies_reach(f"{self.net}.1:8099")

    def let_copies_reach(self, *repositories: str) -> None:
        """Write that copies reach these: HOST:PORT."""
        provider = {"name": "rack", "kind": "libvirt", "host": "rack-host", "uri": self._uri}
        providers = {"providers": [{**provider, "repositories": list(repositories)}]}
        (self.inventory.parent / "providers.yaml").write_text(yaml.safe_dump(providers))
