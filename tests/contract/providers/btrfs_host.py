"""A host with stand-ins for btrfs, mount and findmnt (btrfs_tool.py): subvolumes are folders, known by their inodes.

What the tools print has the form of btrfs-progs 6.2 and util-linux 2.38 on a real file system.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.providers.own_disks_host import MIB, OwnDisksHost

USAGE = """\
Overall:
    Device size:\t\t        2147483648
    Device allocated:\t\t         629145600
    Device unallocated:\t\t        {unallocated}
    Device missing:\t\t                 0
    Used:\t\t\t         512000000
    Free (estimated):\t\t        1524629504\t(min: {free})
    Free (statfs, df):\t\t        1523580928
    Data ratio:\t\t\t              1.00
    Metadata ratio:\t\t              2.00
    Global reserve:\t\t           5767168\t(used: 0)

Data,single: Size:562036736, Used:503316480 (89.55%)
   /dev/vda2\t 562036736

Metadata,DUP: Size:33554432, Used:21299200 (63.48%)
   /dev/vda2\t  67108864

Unallocated:
   /dev/vda2\t{unallocated}
{second}"""
_TOOL = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from btrfs_tool import BtrfsTool
place, _, tool = sys.argv[0].rpartition("/tools/")
BtrfsTool(place, tool, sys.argv[1:]).run()
"""


@dataclass
class BtrfsHost(OwnDisksHost):
    """A host whose / is the subvolume @rootfs, with @home for data and a partition for /boot."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.add_tools(dict.fromkeys(("btrfs", "mount", "umount", "findmnt", "stat", "mv"), _TOOL))
        (self.place / "fs").mkdir()
        self.write_state(
            {
                "ids": {str((self.place / "fs").stat().st_ino): 5},
                "last": 255,
                "stubs": [],
                "snapshots": [],
                "readonly": [],
                "default": 5,
                "mounts": {},
                "usage": USAGE.format(unallocated=1518338048, free=500 * MIB, second=""),
                "breaks_behind": "",
            }
        )
        self.mount("/", self.add_subvolume("@rootfs"))
        self.mount("/home", self.add_subvolume("@home"))
        self.mount(str(self.boot), 0, source="/dev/vda1", type="ext4")
        (self.root / "release").write_text("before")
        (self.place / "cmdline").write_text("BOOT_IMAGE=/vmlinuz root=UUID=1 ro rootflags=subvol=@rootfs quiet\n")
        (self.place / "fstab").write_text("UUID=1 / btrfs defaults,subvol=@rootfs 0 0\n")
        (self.place / "swaps").write_text("Filename Type Size Used Priority\n")

    @property
    def places(self) -> dict[str, Path | str]:
        """Where its scripts find what they look for."""
        return super().places | {"/proc/swaps": self.place / "swaps", "/run/fleetpatch-btrfs": self.place / "top"}

    @property
    def root(self) -> Path:
        """The subvolume with which it runs."""
        return self.find(self.read_state()["mounts"]["/"]["id"])

    def find(self, number: int) -> Path:
        """Return the place of the subvolume with this id."""
        inodes = {inode for inode, one in self.read_state()["ids"].items() if one == number}
        return next(path for path in (self.place / "fs").rglob("*") if str(path.stat().st_ino) in inodes)

    def add_subvolume(self, path: str, **more: Any) -> int:
        """Make a subvolume. Return its id."""
        folder, state = self.place / "fs" / path, self.read_state()
        folder.mkdir(parents=True)
        number: int = state["last"] + 1
        self.change(ids={**state["ids"], str(folder.stat().st_ino): number}, last=number, **more)
        return number

    def mount(self, target: str, number: int, **more: str) -> None:
        """Let a subvolume, or something else, be mounted there."""
        mount = {"source": "/dev/vda2", "type": "btrfs", "id": number, **more}
        self.change(mounts={**self.read_state()["mounts"], target: mount})

    def list_subvolumes(self) -> list[str]:
        """Return the paths of its subvolumes."""
        inodes = self.read_state()["ids"]
        folders = [path for path in (self.place / "fs").rglob("*") if str(path.stat().st_ino) in inodes]
        return sorted(str(path.relative_to(self.place / "fs")) for path in folders)

    def start_again(self) -> None:
        """Boot: subvolumes are mounted by their names, and / by the default one if the kernel has no name for it."""
        super().start_again()
        state = self.read_state()
        names = dict(line.split()[1:4:2] for line in (self.place / "fstab").read_text().splitlines())
        for target, mount in state["mounts"].items():
            name = names.get(target, "").partition("subvol=")[2]
            if name:
                mount["id"] = state["ids"][str((self.place / "fs" / name).stat().st_ino)]
            elif target == "/":
                mount["id"] = state["default"]
        self.write_state(state)
