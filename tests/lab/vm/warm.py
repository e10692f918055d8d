"""The memory of a machine that has booted: others continue from it, which takes seconds instead of half a minute.

libvirt's file with a machine's memory begins with a header and the machine's definition; a copy with another definition
(name, disks, network) is another machine's. Such a machine then takes its own name and addresses from its seed.
"""

import fcntl
import hashlib
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.lab.vm.hypervisor import Hypervisor, run, wait_until

_HEADER = struct.Struct("<16s5I56x")
"""Of libvirt's qemu_saveimage.h: magic, version, length of the data, was running, compression, place of the cookie."""
_NAME = "warm"


@dataclass(frozen=True, slots=True)
class WarmGuest:
    """A machine that has booted from a base disk: its disk, which nothing writes to any more, and its memory."""

    base: Path
    domain: str
    """Libvirt's definition of a machine, with places for its values."""
    place: Path

    @classmethod
    def of(cls, base: Path, domain: str) -> Self:
        """Return the one of a base disk, whether it exists or not; another definition or QEMU makes another one."""
        recipe = "\n".join((str(base), domain, _SETTLE, run(["qemu-system-x86_64", "--version"])))
        tag = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        return cls(base, domain, base.parents[2] / f"{_NAME}-{tag}")

    @property
    def disk(self) -> Path:
        """What the machines' disks lie upon."""
        return self.place / "os.qcow2"

    @property
    def memory(self) -> Path:
        """Libvirt's file."""
        return self.place / "memory"

    def exists(self) -> bool:
        """Return whether it was made."""
        return self.memory.exists()

    def make(self, hypervisor: Hypervisor, bridge: str) -> None:
        """Boot a machine, and keep it; when another process does so, wait for it."""
        with Path(f"{self.place}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.exists():
                return
            shutil.rmtree(self.place, ignore_errors=True)
            self.place.mkdir(mode=0o700)
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.base), "-F", "raw", str(self.disk)])
            for name, size in {"data.raw": "64M", "seed.tar": "1M"}.items():
                run(["truncate", "-s", size, str(self.place / name)])
            values = {"uuid": "6c616200-0000-4000-8000-7761726d0000", "tap": f"{bridge}w", "mac": "52:54:00:00:00:01"}
            file = self.place / "domain.xml"
            file.write_text(self.domain.format(name=_NAME, folder=self.place, bridge=bridge, **values))
            hypervisor.virsh("create", str(file))
            wait_until(lambda: hypervisor.ask_guest(_NAME, "guest-ping") is not None, 240, "the machine didn't boot")
            hypervisor.run_in_guest(_NAME, ["/bin/sh", "-c", _SETTLE], 240)
            hypervisor.virsh("save", _NAME, str(self.place / "memory.new"))
            self.disk.chmod(0o444)
            (self.place / "memory.new").rename(self.memory)

    def restore(self, hypervisor: Hypervisor, name: str, folder: Path, definition: dict[str, str]) -> None:
        """Start a machine with this memory; its disks are in its folder."""
        with self.memory.open("rb") as memory:
            magic, version, length, running, compression, cookie = _HEADER.unpack(memory.read(_HEADER.size))
            data = memory.read(length)
            text, rest = data[: cookie or None].rstrip(b"\0").decode(), data[cookie:] if cookie else b""
            xml = self._rename(text, folder, definition).encode() + b"\0"
            own = folder / "memory"
            with own.open("wb") as out:
                out.write(
                    _HEADER.pack(magic, version, len(xml) + len(rest), running, compression, len(xml) if cookie else 0)
                )
                out.write(xml + rest)
                shutil.copyfileobj(memory, out, 1 << 20)
        hypervisor.virsh("restore", str(own))
        own.unlink()

    def _rename(self, xml: str, folder: Path, definition: dict[str, str]) -> str:
        for pattern, value in {
            rf"(<name>){_NAME}(</name>)": definition["name"],
            r"(<uuid>)[^<]*(</uuid>)": definition["uuid"],
            r"(<mac address=')[^']*(')": definition["mac"],
            r"(<source bridge=')[^']*(')": definition["bridge"],
            r"(<target dev=')[^']*w('/>)": definition["tap"],
        }.items():
            xml, changes = re.subn(pattern, rf"\g<1>{value}\g<2>", xml)
            assert changes == 1, (pattern, changes, xml)
        return xml.replace(str(self.place), str(folder))


_SETTLE = "systemctl is-system-running --wait >/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; fstrim /; sync"
