"""A host with stand-ins for btrfs, mount and findmnt: subvolumes are folders, known by their inodes.

What the tools print has the form of btrfs-progs 6.2 and util-linux 2.38 on a real file system.
"""

import json
import os
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
import json, os, pathlib, sys
place = pathlib.Path(__file__).resolve().parent.parent
state = json.loads((place / "state").read_text())
tool, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
top, ids = place / "fs", {{int(inode): number for inode, number in state["ids"].items()}}
def paths():
    folders = (path for path in [top, *top.rglob("*")] if path.is_dir())
    return {{ids[path.stat().st_ino]: path for path in folders if path.stat().st_ino in ids}}
def rows():
    there = paths()
    for number, path in sorted(there.items()):
        if number != 5:
            above = next(parent for parent in path.parents if parent in there.values())
            yield number, ids[above.stat().st_ino], path.relative_to(top)
def add(path):
    state["last"] += 1
    state["ids"][str(path.stat().st_ino)] = state["last"]
    state["stubs"] = [inode for inode in state["stubs"] if inode != path.stat().st_ino]
def show(target, mount):
    number = mount.get("id")
    path = "/" + str(paths()[number].relative_to(top)) if number else "/"
    options = mount.get("options", "rw") + (f",space_cache=v2,subvolid={{number}},subvol={{path}}" if number else "")
    print(target, mount["source"], path, mount["type"], options)
did = tool
if tool == "btrfs":
    did = words[1]
    path = pathlib.Path(words[-1])
    if did == "list":
        for number, above, name in rows():
            middle = "gen 9 cgen 8" if "-s" in words else "gen 9"
            if "-s" not in words or number in state["snapshots"]:
                time = "otime 2026-11-28 14:00:00 " if "-s" in words else ""
                print(f"ID {{number}} {{middle}} top level {{above}} {{time}}path {{name}}")
    elif did == "get-default":
        print(f"ID {{state['default']}} gen 9 top level 5 path x")
    elif did == "set-default":
        state["default"] = int(words[2])
    elif did == "rootid":
        path = path.resolve()
        print(next(ids[one.stat().st_ino] for one in [path, *path.parents] if one.stat().st_ino in ids))
    elif did == "get":
        print("ro=true" if ids[pathlib.Path(words[3]).stat().st_ino] in state["readonly"] else "ro=false")
    elif did == "usage":
        print(state["usage"])
    elif did == "create":
        path.mkdir()
        add(path)
    elif did == "snapshot":
        source = pathlib.Path(words[-2])
        known = {{*ids, *state["stubs"]}}
        inner = [one.relative_to(source) for one in source.rglob("*") if one.is_dir() and one.stat().st_ino in known]
        import shutil
        shutil.copytree(source, path, symlinks=True)
        for name in inner:
            if (path / name).exists():
                shutil.rmtree(path / name)
                (path / name).mkdir()
                state["stubs"].append((path / name).stat().st_ino)
        add(path)
        state["snapshots"].append(state["last"])
        state["readonly"] += [state["last"]] if "-r" in words else []
    elif did == "delete":
        if any(one.is_dir() and one.stat().st_ino in ids for one in path.rglob("*")):
            sys.exit("ERROR: Could not destroy subvolume/snapshot: Directory not empty")
        del state["ids"][str(path.stat().st_ino)]
        import shutil
        shutil.rmtree(path)
elif tool == "mount":
    pathlib.Path(words[-1]).rmdir()
    pathlib.Path(words[-1]).symlink_to(top)
elif tool == "umount":
    pathlib.Path(words[-1]).unlink()
    pathlib.Path(words[-1]).mkdir()
elif tool == "findmnt":
    for mount in state["mounts"].items():
        show(*mount)
elif tool == "stat":
    inode = os.stat(words[-1]).st_ino
    print(256 if inode in ids else 2 if inode in state["stubs"] else inode)
elif tool == "mv":
    did = "exchange" if "--exchange" in words else "help" if words == ["--help"] else "mv"
    if did == "help":
        print("      --exchange   exchange source and destination")
    elif did == "exchange":
        one, other = words[-2:]
        os.rename(one, one + ".exchanged")
        os.rename(other, one)
        os.rename(one + ".exchanged", other)
    else:
        os.execv("{os.path.realpath("/bin/mv")}", ["mv", *words])
if did not in ("help", "list", "get-default", "rootid", "get", "usage", "findmnt", "stat", "mount", "umount"):
    with (place / "asked").open("a") as out:
        print(did, *words, file=out)
(place / "state").write_text(json.dumps(state))
if state["breaks_behind"] == did:
    (place / "broken").touch()
    os.killpg(os.getpgrp(), 9)
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
        state = json.loads((self.place / "state").read_text())
        names = dict(line.split()[1:4:2] for line in (self.place / "fstab").read_text().splitlines())
        for target, mount in state["mounts"].items():
            name = names.get(target, "").partition("subvol=")[2]
            if name:
                mount["id"] = state["ids"][str((self.place / "fs" / name).stat().st_ino)]
            elif target == "/":
                mount["id"] = state["default"]
        self.write_state(state)
