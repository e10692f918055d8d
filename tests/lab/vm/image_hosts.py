"""Virtual machines in a group of images.yaml, for tests that give them new OS disks."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.lab.engine import Fleet
from tests.lab.killing import Controller, Controllers
from tests.lab.vm.hypervisor import run
from tests.lab.vm.machines import Vm, VmLab

VERSION_FILE = "/etc/image-version"
IDENTITY = "hostname; cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id; ip -4 -o addr show eth0 | cut -c1-60"
FAULT = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
PATIENCE = 900.0  # seconds for the upgrade of a machine, with a first boot, on cores that others use


class ImageHosts:
    """Virtual machines of a group in images.yaml; this machine is their hypervisor. Version 3 fails its health."""

    def __init__(
        self,
        lab: VmLab,
        vms: Sequence[Vm],
        place: Path,
        base: Path | None = None,
        files: dict[str, str] | None = None,
        **machine: Any,
    ) -> None:
        """The images are made of the disk ``base``, with these files; ``machine`` are keys of each inventory entry."""
        self.lab, self.vms, self.place = lab, vms, place
        self.images = {
            version: lab.make_image(f"v{version}", {VERSION_FILE: f"{version}\n", **(files or {})}, base)
            for version in "23"
        }
        self.digests = {version: digest(image) for version, image in self.images.items()}
        self.fleet = Fleet(vms, place)
        probe = {"name": "app", "kind": "command", "target": f"! grep -qx 3 {VERSION_FILE}"}
        self.fleet.describe(every={"provider": "rack", "probes": [probe], **machine})
        inventory = yaml.safe_load(self.fleet.inventory.read_text())
        here = {"name": "hypervisor", "address": "127.0.0.1", "transport": "local", "owner": "manual"}
        inventory["machines"].append(here)
        self.fleet.inventory.write_text(yaml.safe_dump(inventory))
        self.limit_orders(minutes=15)
        (place / "join.sh").write_text("echo joined >>/var/log/joined\n")
        self.controllers = Controllers(self.fleet)

    def limit_orders(self, minutes: int) -> None:
        """Write providers.yaml: how long an order may take."""
        rack = {"name": "rack", "kind": "libvirt", "host": "hypervisor", "uri": self.lab.hypervisor.uri}
        providers = {"providers": [{**rack, "timeout_minutes": minutes}]}
        (self.place / "providers.yaml").write_text(yaml.safe_dump(providers))

    def describe(self, *versions: str, **group: Any) -> None:
        """Write images.yaml with these versions, and keys of its group."""
        listed = [
            {"version": one, "reference": str(self.images[one]), "digest": f"sha256:{self.digests[one]}"}
            for one in versions
        ]
        web = {"name": "web", "image": "debian/12/lab", "scope": "group=web", "scripts": ["join.sh"]}
        file = {
            "images": [{"name": "debian/12/lab", "versions": listed}],
            "groups": [{**web, "health_minutes": 1, "soak_minutes": 0.1, "canary_pause_minutes": 0, **group}],
        }
        (self.place / "images.yaml").write_text(yaml.safe_dump(file))

    def upgrade(self, *words: str) -> Controller:
        return self.controllers.start("images", "upgrade", *words, "--yes", "--no-prefect", "--json")

    def read_history(self) -> list[dict[str, Any]]:
        """Return the upgrades of the group, the newest first."""
        told = self.controllers.start("images", "history", "web", "--json").end()
        upgrades: list[dict[str, Any]] = json.loads(told.out)["upgrades"]
        return upgrades

    def ask(self, command: str) -> list[str]:
        return [vm.sh(command, root=True).strip() for vm in self.vms]

    def read_versions(self) -> list[str]:
        return self.ask(f"cat {VERSION_FILE} 2>/dev/null || echo first")

    def fill_data_disks(self) -> list[str]:
        """Write onto the data disks, and return their digests."""
        for vm in self.vms:
            vm.sh(
                f"mkfs.ext4 -q /dev/vdb; mount /dev/vdb /mnt; cp -r /etc/ssl /mnt; echo {vm.name} >/mnt/name", root=True
            )
            vm.sh("umount /mnt; sync", root=True)
        return self.read_data()

    def read_data(self) -> list[str]:
        return self.ask("sha256sum </dev/vdb")

    def get_os_files(self) -> dict[str, str]:
        """Return the file of each machine's OS disk; each machine has its three disks, and every file is there."""
        files = {}
        names = self.lab.hypervisor.virsh("list", "--all", "--name").split()
        assert sorted(names) == sorted(vm.name for vm in self.vms), "none is lost, and none doubled"
        for vm in self.vms:
            rows = self.lab.hypervisor.virsh("domblklist", "--inactive", vm.name).splitlines()
            disks = dict(row.split(maxsplit=1) for row in rows)
            assert {"vda", "vdb", "vdc"} <= set(disks), disks
            assert (disks["vdb"], disks["vdc"]) == (f"{vm.folder}/data.raw", f"{vm.folder}/seed.tar")
            run(["qemu-img", "info", "-U", "--backing-chain", disks["vda"]])
            files[vm.name] = disks["vda"]
        assert len(set(files.values())) == len(self.vms), files
        return files

    def get_os_file(self, vm: Vm) -> str:
        """Return the file of a machine's OS disk at its next start."""
        rows = self.lab.hypervisor.virsh("domblklist", "--inactive", vm.name).splitlines()
        return dict(row.split(maxsplit=1) for row in rows)["vda"]

    def assert_whole(self) -> None:
        """Each machine runs once, from its own disk, and nothing wrote to an image."""
        self.get_os_files()
        for vm in self.vms:
            assert vm.power() == "running"
            assert len(list(find_processes(vm))) == 1, vm.name
        self.assert_images()
        assert digest(self.lab.image) == self.lab.image.with_name("disk.raw.sha256").read_text().split()[0]

    def assert_images(self) -> None:
        """Nothing wrote to an image."""
        for version, image in self.images.items():
            assert image.stat().st_mode & 0o777 == 0o444, version
            assert digest(image) == self.digests[version], version


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_processes(vm: Vm) -> Iterator[Path]:
    """Yield the folders in /proc of the QEMUs that have a machine's data disk."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            text = words.read_bytes()
            if text.startswith(b"/usr/bin/qemu-system") and str(vm.folder / "data.raw").encode() in text:
                yield words.parent


def find_writers(image: Path) -> list[str]:
    """Return the open files in /proc that processes may write to an image with."""
    writers = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            is_open = link.readlink() == image
            flags = (link.parents[1] / "fdinfo" / link.name).read_text() if is_open else "flags: 0"
            if int(flags.split("flags:")[1].split()[0], 8) & os.O_ACCMODE != os.O_RDONLY:
                writers.append(str(link))
    return writers
