"""A host with stand-ins for LVM's commands: what they print has the form of the rows in test_lvm_rows.py."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.providers.own_disks_host import MIB, OwnDisksHost

_TOOL = f"""#!{sys.executable} -IS
import marshal, os, sys
place, _, tool = sys.argv[0].rpartition("/tools/")
words = sys.argv[1:]
with open(f"{{place}}/state", "rb") as file:
    state = marshal.load(file)
with open(f"{{place}}/asked", "a") as out:
    print(tool, *words, file=out)
volumes = state["volumes"]
def find(name):
    return next(one for one in volumes if one["vg"] + "/" + one["name"] == name)
def option(name, default=""):
    return words[words.index(name) + 1] if name in words else default
if tool in state["fails"]:
    sys.exit("  " + state["fails"][tool])
if tool == "lvs":
    for one in volumes:
        name = "[" + one["name"] + "]" if one["attr"][0] == "S" else one["name"]
        row = [one["vg"], name, one["attr"], one["layout"], one["size"], one["origin"], one["percent"],
               "/dev/mapper/" + one["vg"] + "-" + one["name"], ",".join(one["tags"])]
        print("  " + "|".join(map(str, row)))
elif tool == "vgs":
    print(f"  {{state['free']}}|4194304|{{state['group']}}")
elif tool == "lvcreate":
    name, vg = option("-n"), words[-1].partition("/")[0]
    one = {{"vg": vg, "name": name, "layout": "linear", "origin": "", "percent": "", "tags": [option("--addtag")]}}
    if "-s" in words:
        origin = find(words[-1])
        origin["attr"] = "o" + origin["attr"][1:]
        one |= {{"attr": "swi-a-s---", "origin": origin["name"], "percent": "0.01"}}
        one["size"] = origin["size"] * int(option("-l").partition("%")[0]) // 100
    else:
        one |= {{"attr": "-wi-a-----", "size": int(option("-L")[:-1])}}
        os.makedirs(f"{{place}}/dev/{{vg}}", exist_ok=True)
        with open(f"{{place}}/dev/{{vg}}/{{name}}", "wb") as device:
            device.truncate(one["size"])
    volumes.append(one)
elif tool == "lvchange":
    one = find(words[-1])
    one["tags"] = [tag for tag in one["tags"] if tag != option("--deltag", "-")]
    one["tags"] += [option("--addtag")] if "--addtag" in words else []
elif tool == "lvremove":
    volumes.remove(find(words[-1]))
elif tool == "lvconvert":
    one = find(words[-1])
    one["attr"] = "S" + one["attr"][1:]
    origin = find(one["vg"] + "/" + one["origin"])
    origin["attr"] = "O" + origin["attr"][1:]
with open(f"{{place}}/state", "wb") as file:
    marshal.dump(state, file)
if state["breaks_behind"] == tool:
    open(f"{{place}}/broken", "w").close()
    os.killpg(os.getpgrp(), 9)
"""
_FINDMNT = """# -rno SOURCE|FSTYPE -T|-M PATH
path=$4
while :; do
  while read -r place source type; do
    [ "$place" != "$path" ] || { [ "$2" = FSTYPE ] && echo "$type" || echo "$source"; exit; }
  done <"$(dirname "$0")/../mounts"
  [ "$3" = -T ] && [ "$path" != / ] || exit 1
  path=${path%/*} path=${path:-/}
done"""
_SIMPLE = {
    "findmnt": f"#!/bin/sh\n{_FINDMNT}\n",
    "lsinitramfs": '#!/bin/sh\ncat "$(dirname "$0")/../initramfs-list"\n',
}


def build_volume(name: str, size: int, **more: Any) -> dict[str, Any]:
    """Return a volume of the group vg0."""
    plain = {"attr": "-wi-ao----", "layout": "linear", "origin": "", "percent": "", "tags": []}
    return {"vg": "vg0", "name": name, "size": size, **plain, **more}


@dataclass
class LvmHost(OwnDisksHost):
    """A host whose / is vg0/root, with vg0/data and a partition for /boot."""

    def __post_init__(self) -> None:
        super().__post_init__()
        tools = ("lvs", "vgs", "lvcreate", "lvchange", "lvremove", "lvconvert")
        self.add_tools(dict.fromkeys(tools, _TOOL) | _SIMPLE)
        self.mount({"/": "/dev/mapper/vg0-root ext4", str(self.boot): "/dev/vda1 ext4"})
        volumes = [build_volume("root", 1024 * MIB), build_volume("data", 64 * MIB)]
        state = {"volumes": volumes, "free": 1400 * MIB, "group": "wz--n-", "fails": {}, "breaks_behind": ""}
        self.write_state(state)
        (self.place / "initramfs-list").write_text("usr/sbin/lvm\nusr/lib/modules/x/kernel/drivers/md/dm-snapshot.ko\n")
        (self.place / "cmdline").write_text("BOOT_IMAGE=/vmlinuz root=/dev/mapper/vg0-root ro quiet\n")
        (self.place / "fstab").write_text("/dev/mapper/vg0-root / ext4 defaults 0 1\n")

    @property
    def places(self) -> dict[str, Path | str]:
        """Where its scripts find what they look for."""
        return super().places | {"/dev/$lvm_vg": f"{self.place}/dev/$lvm_vg"}

    def mount(self, mounts: dict[str, str]) -> None:
        """Let these paths be the file systems: device and type."""
        (self.place / "mounts").write_text("".join(f"{path} {text}\n" for path, text in mounts.items()))

    def change_volume(self, name: str, **changes: Any) -> None:
        """Change one volume."""
        volumes = self.read_state()["volumes"]
        self.change(volumes=[volume | (changes if volume["name"] == name else {}) for volume in volumes])

    def list_volumes(self) -> list[str]:
        """Return the names of its volumes."""
        return [volume["name"] for volume in self.read_state()["volumes"]]

    def start_again(self) -> None:
        """Boot: pending merges begin, and end."""
        super().start_again()
        volumes = [volume for volume in self.read_state()["volumes"] if volume["attr"][0] != "S"]
        self.change(volumes=[volume | {"attr": volume["attr"].replace("O", "-")} for volume in volumes])
