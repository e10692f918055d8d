"""Virtual machines for tests: Debian with its own kernel, boot loader and disks, under libvirt.

They are hosts of a lab of their own (see ``lab.sh``): its bridge, its network, its key and its repository are theirs.
"""

import shutil
import struct
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.lab.fleet import PATIENCE, Lab, LabError, LabHost
from tests.lab.vm.hypervisor import TOOLS, Hypervisor, run, wait_until
from tests.lab.vm.seed import Identity, write_seed
from tests.lab.vm.warm import WarmGuest

DATA_MIB = 64
# tb-cache: how much translated code QEMU keeps, also over a reboot. With its own 1024 MiB, GRUB and the kernel, which
# write over the memory of the code before, took up to four minutes; with these, a reboot takes half a minute.
DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>512</memory><vcpu>1</vcpu><cpu mode='maximum'/>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>128</tb-cache></tcg></features><clock offset='utc'/>
  <on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='{folder}/os.qcow2'/>
      <target dev='vda' bus='virtio'/><serial>os</serial></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/><source file='{folder}/data.raw'/>
      <target dev='vdb' bus='virtio'/><serial>data</serial></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{folder}/seed.tar'/>
      <target dev='vdc' bus='virtio'/><serial>seed</serial><readonly/></disk>
    <interface type='bridge'><source bridge='{bridge}'/><mac address='{mac}'/><model type='virtio'/>
      <target dev='{tap}'/></interface>
    <serial type='file'><source path='{folder}/console.log' append='on'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""

_OWN_UUID = "echo {uuid} >/run/lab-uuid; mount --bind /run/lab-uuid /sys/class/dmi/id/product_uuid"
"""A machine that continues from another one's memory shows that one's UUID, until it boots."""


class VmLab(Lab):
    """A lab of virtual machines. Its folder is that of a lab of ``lab.sh``; no containers are in it."""

    def __init__(self, name: str = "") -> None:
        super().__init__(f"vm{name}")

    def reason_it_cannot_run(self) -> str | None:
        """Return why virtual machines cannot run here; None when they can."""
        lacking = sorted({package for program, package in TOOLS.items() if not shutil.which(program)})
        if lacking:
            return f"lacks packages: {' '.join(lacking)} (deployments/bootstrap/packages.sh vm)"
        if not Path("/dev/net/tun").exists():
            return "no /dev/net/tun"
        return super().reason_it_cannot_run()

    @property
    def folder(self) -> Path:
        """Of this lab's virtual machines and their hypervisor."""
        return Path(self.script("place").split()[0]) / "vm"

    def is_up(self) -> bool:
        """Return whether it has been up since it was down."""
        try:
            return self.folder.exists()
        except LabError:
            return False

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisor; it runs after ``up``."""
        return Hypervisor(self.folder / "libvirt")

    @property
    def image(self) -> Path:
        """The base disk: read-only, with its digest beside it (``disk.raw.sha256``)."""
        return Path((self.folder.parent / "image-vm").read_text().strip()) / "base/disk.raw"

    def machines(self) -> list["Vm"]:
        """Return the machines that there are."""
        state, _, net = self.script("place").split()
        numbers = sorted(int(path.name) for path in Path(state, "vm").glob("[0-9]*"))
        return [
            Vm(self, number, f"vm-{number}", f"{net}.{10 + number}", Path(state, "vm", str(number), "disk"))
            for number in numbers
        ]

    def boot(
        self, count: int = 1, *, cold: bool = False, data_mib: int = DATA_MIB, image: Path | None = None
    ) -> list["Vm"]:
        """Make that many more machines, and return when a login on each works.

        They continue from the memory of a machine that had booted, unless ``cold`` is true, or another disk than the
        lab's is the base (``image``: raw).
        """
        self.script("up", "0", "vm")
        hypervisor = self.hypervisor
        hypervisor.start()
        warm = None if cold or image else WarmGuest.of(self.image, DOMAIN)
        if warm and count and not warm.exists():
            warm.make(hypervisor, self.script("place").split()[1])
        first = max([0, *(vm.number for vm in self.machines())]) + 1
        for number in range(first, first + count):
            (self.folder / str(number)).mkdir(mode=0o700)
        new = self.machines()[-count:] if count else []
        for vm in new:
            vm.make(warm.disk if warm else image or self.image, data_mib)
        self.pin()
        for vm in new:
            if warm:
                warm.restore(hypervisor, vm.name, vm.folder, vm.definition())
            else:
                hypervisor.virsh("start", vm.name)
        for vm in new:
            if warm:
                hypervisor.run_in_guest(vm.name, ["/usr/local/sbin/lab-identity", f"{time.time():.3f}"])
                hypervisor.run_in_guest(vm.name, ["/bin/sh", "-c", _OWN_UUID.format(**vm.definition())])
            vm.wait_login()
        return new

    def pin(self) -> None:
        """Write the machines' host keys to the lab's known_hosts."""
        rows = []
        for vm in self.machines():
            key = " ".join((vm.folder / "host_key.pub").read_text().split()[:2])
            rows.append(f"{vm.address} {key}\n")
        (self.folder.parent / "known_hosts").write_text("".join(rows))

    def make_image(self, name: str, files: dict[str, str], base: Path | None = None) -> Path:
        """Return a new base disk: the lab's or another one, with some files (path in the root file system: text)."""
        disk = self.folder / "images" / f"{name}.raw"
        disk.parent.mkdir(exist_ok=True, parents=True)
        run(["cp", "--sparse=always", str(base or self.image), str(disk)])
        disk.chmod(0o644)
        with disk.open("rb") as table:  # the second entry of the table of partitions: where the root file system begins
            offset = 512 * struct.unpack("<I", table.read(512)[446 + 16 + 8 :][:4])[0]
        for path, text in files.items():
            part = disk.with_suffix(".part")
            part.write_text(text)
            for order in (f"rm {path}", f"write {part} {path}"):
                run(["debugfs", "-w", "-R", order, f"{disk}?offset={offset}"])
            part.unlink()
        disk.chmod(0o444)
        return disk

    def down(self) -> None:
        """End all machines and libvirtd, and remove them."""
        if self.is_up():
            self.hypervisor.stop()
        super().down()

    def status(self) -> str:
        """Return a line for each machine."""
        hypervisor = self.hypervisor
        return (
            "".join(f"{vm.number} {vm.name} {vm.address} {vm.power()}\n" for vm in self.machines())
            + f"{hypervisor.uri}\n"
        )

    def inventory_text(self) -> str:
        """Return the machines as a fleetpatch inventory."""
        rows = ["machines:"]
        for vm in self.machines():
            rows += [
                f"  - name: {vm.name}",
                f"    address: {vm.address}",
                "    user: patch",
                f"    credential: key:{vm.key}",
            ]
            rows += ["    environment: lab", "    groups: [web]"]
        rows += ["host_keys:", "  policy: pinned", f"  known_hosts: {self.folder.parent}/known_hosts", ""]
        return "\n".join(rows)


@dataclass(frozen=True)
class Vm(LabHost):
    """One virtual machine; ``root`` is of no use here, as its file system is in its disk."""

    lab: VmLab

    @property
    def folder(self) -> Path:
        """Of its disks (``os.qcow2``, ``data.raw``), its seed and its console."""
        return self.root.parent

    @property
    def console(self) -> str:
        """What its serial console has shown."""
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def definition(self) -> dict[str, str]:
        """Return what its domain has that no other one has."""
        octets = [int(octet) for octet in self.address.split(".")]
        tag = self.folder.parent.parent.name
        return {
            "name": self.name,
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, str(self.folder))),
            "folder": str(self.folder),
            "bridge": f"fp{tag}",
            "tap": f"vm{tag}-{self.number}",
            "mac": "52:54:" + ":".join(f"{octet:02x}" for octet in octets),
        }

    def make(self, base: Path, data_mib: int) -> None:
        """Make its disks and its seed, and define it."""
        form = "raw" if base.suffix == ".raw" else "qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", form, str(self.folder / "os.qcow2")])
        run(["truncate", "-s", f"{data_mib}M", str(self.folder / "data.raw")])
        key = self.folder / "host_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(key)])
        definition = self.definition()
        repository = f"http://{self.address.rpartition('.')[0]}.1:8099/vm"
        who = Identity(self.name, definition["uuid"], self.address, definition["mac"], repository)
        write_seed(self.folder / "seed.tar", who, key, self.key.with_suffix(".pub"))
        domain = self.folder / "domain.xml"
        domain.write_text(DOMAIN.format(**definition))
        self.lab.hypervisor.virsh("define", str(domain))

    def power(self) -> str:
        """Return libvirt's word: ``running``, ``shut off``, …"""
        return self.lab.hypervisor.virsh("domstate", self.name).strip()

    def wait_login(self, timeout: float = PATIENCE) -> None:
        """Wait until a login works."""

        def answers() -> bool:
            if self.power() != "running":
                raise LabError(f"{self.name} is {self.power()}", 1, self.console[-2000:])
            return bool(self.sh("echo yes", timeout=20))

        try:
            wait_until(answers, timeout, f"no login on {self.name}")
        except LabError as error:
            raise LabError(f"{error}; its console", 1, self.console[-2000:]) from error

    def _welcomes(self) -> bool:
        return True  # its files are in its disk

    def dpkg_log(self) -> str:
        """Return dpkg's log."""
        return self.sh("cat /var/log/dpkg.log")

    def off(self) -> None:
        """Cut its power and leave it off."""
        self.lab.hypervisor.virsh("destroy", self.name)

    def on(self) -> None:
        """Power it on: it boots from its disk."""
        self.lab.hypervisor.virsh("start", self.name)

    def crash(self) -> None:
        """Cut its power; it boots again."""
        self.off()
        self.on()

    def cut(self) -> None:
        """Take its network away."""
        self.lab.hypervisor.virsh("domif-setlink", self.name, self.definition()["tap"], "down")

    def mend(self) -> None:
        """Give it back."""
        self.lab.hypervisor.virsh("domif-setlink", self.name, self.definition()["tap"], "up")

    def drop(self) -> None:
        """Destroy this machine alone."""
        hypervisor = self.lab.hypervisor
        if self.power() != "shut off":
            self.off()
        hypervisor.virsh("undefine", self.name, "--snapshots-metadata")
        shutil.rmtree(self.folder)
        self.lab.pin()
