"""Providers for the contract, each with a machine that has an OS disk and a data disk, and images."""

import hashlib
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inventory.machine import PrivilegeMethod
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ConnectionLost
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.provided_machines import ImageVersion, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.libvirt.provider import LibvirtProvider
from tasks.machines.providers.libvirt.virsh import Virsh
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tests.support.fake_provider import FakeHypervisor, FakeProvider, ProviderFault
from tests.support.mortal import find_stride

IMAGE = "appliance"


class BreakingTransport(PosixShell):
    """A line to the host that breaks behind one of the calls that change something."""

    def __init__(self) -> None:
        clock = SystemClock()
        root = PrivilegeEscalator(PrivilegeMethod.NONE)
        super().__init__(LocalShellChannel(clock), machine="host", privilege=root, clock=clock)
        self.breaks_at = -1
        self.calls = 0
        self.is_away = False

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        if self.is_away:
            raise ConnectionLost("the host does not answer")
        if script.read_only:
            return super().run_script(script, deadline=deadline)
        self.calls += 1
        result = super().run_script(script, deadline=deadline)
        if self.calls - 1 == self.breaks_at:
            raise ConnectionLost("the line broke behind the call")
        return result


@dataclass
class Subject:
    """A machine and its provider.

    Attributes:
        read_source: returns what the disk with a source holds.
        write_source: writes another text to it; the machine is off.
        make_image: returns a version of an image with that text on it.
        set_away: lets the provider answer nothing, or answer again.
        break_at: lets the answer of the provider's n-th change get lost. Returns whether it was.
        open_other: opens the provider of a machine that does not exist.
        stride: how many changes lie between two of those whose answers get lost.
    """

    provider: MachineProvider
    read_source: Callable[[str], str]
    write_source: Callable[[str, str], None]
    make_image: Callable[[str, str], ImageVersion]
    set_away: Callable[[bool], None]
    break_at: Callable[[ProviderAct, int], Callable[[], bool]]
    open_other: Callable[[], MachineProvider]
    stride: int = 1
    seconds: float = 120.0

    @property
    def deadline(self) -> Deadline:
        return Deadline.after(SystemClock(), self.seconds)

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=self.deadline)

    def order(self, act: ProviderAct, order_id: str = "", **more: object) -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id, **more), deadline=self.deadline)  # type: ignore[arg-type]


def build_fake(_place: Path) -> Subject:
    """The provider in memory that other tests use."""
    hypervisor = FakeHypervisor()
    hypervisor.add_machine("web")
    provider = FakeProvider(hypervisor, "web")

    def break_at(act: ProviderAct, number: int) -> Callable[[], bool]:
        if number == 0:
            hypervisor.faults[act] = [ProviderFault.AWAY_AFTER]
        return lambda: number == 0

    def set_away(is_away: bool) -> None:
        hypervisor.is_away = is_away

    return Subject(
        provider,
        lambda source: hypervisor.contents[source],
        hypervisor.contents.__setitem__,
        lambda version, _text: ImageVersion(IMAGE, version, f"/images/{version}", f"sha256:{'0' * 64}"),
        set_away,
        break_at,
        lambda: FakeProvider(hypervisor, "nobody"),
    )


def build_libvirt(place: Path, uri: str) -> Subject:
    """A machine of libvirt, without a system on its disk: what a disk holds is read and written from outside."""
    name = f"contract-{uuid.uuid4().hex[:8]}"
    image = _make_libvirt_image(place, "1", "system")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image.reference, "-F", "qcow2", str(place / "os.qcow2"))
    (place / "data.raw").write_bytes(bytes(1 << 20))
    (place / "halt.rom").write_bytes(_HALT)
    (place / "domain.xml").write_text(_DOMAIN.format(name=name, place=place))
    run("virsh", "-c", uri, "define", str(place / "domain.xml"))
    clock = SystemClock()
    line = BreakingTransport()
    settings = ProviderSettings("rack", ProviderKind.LIBVIRT, host="host", uri=uri)

    def open_provider(machine: str) -> LibvirtProvider:
        return LibvirtProvider(Virsh(HostCommands(line, clock, "host"), settings, machine), shutdown_seconds=0)

    provider = open_provider(name)

    def break_at(_act: ProviderAct, number: int) -> Callable[[], bool]:
        line.breaks_at, line.calls = number, 0
        return lambda: line.calls > number

    def set_away(is_away: bool) -> None:
        line.is_away = is_away

    return Subject(
        provider,
        read_text,
        write_text,
        lambda version, text: _make_libvirt_image(place, version, text),
        set_away,
        break_at,
        lambda: open_provider("nobody"),
        find_stride(),
    )


_HALT = bytes(0xFFF0) + b"\xfa\xf4\xeb\xfd".ljust(16, b"\0")
"""What the machine starts with, in the place of a BIOS that would search for a system: cli; hlt; jump to hlt."""

_DOMAIN = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type>
<loader readonly='yes' type='rom'>{place}/halt.rom</loader></os><features><acpi/></features>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='{place}/os.qcow2'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/><source file='{place}/data.raw'/>
<target dev='vdb' bus='virtio'/></disk><memballoon model='none'/></devices></domain>
"""


def _make_libvirt_image(place: Path, version: str, text: str) -> ImageVersion:
    path = place / f"image-{version}.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M")
    write_text(str(path), text)
    path.chmod(0o444)
    return ImageVersion(IMAGE, version, str(path), f"sha512:{hashlib.sha512(path.read_bytes()).hexdigest()}")


def write_text(path: str, text: str) -> None:
    """Write a text to the beginning of a disk that nothing has open."""
    sector = text.encode().ljust(512, b"\0")
    if path.endswith(".raw"):
        with Path(path).open("r+b") as disk:
            disk.write(sector)
        return
    part = Path(f"{path}.text")
    part.write_bytes(sector)
    run("qemu-io", "-f", "qcow2", "-c", f"write -s {part} 0 512", path)
    part.unlink()


def read_text(path: str) -> str:
    """Return the text at the beginning of a disk."""
    part = Path(path)
    if not path.endswith(".raw"):
        part = Path(f"{path}.part")
        run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, str(part))
    with part.open("rb") as disk:
        text = disk.read(512).rstrip(b"\0").decode()
    if part != Path(path):
        part.unlink()
    return text


def run(*words: str) -> str:
    """Return what a program prints."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
