"""A host with stand-ins for LVM's commands: what they print has the form of the rows in test_lvm_rows.py."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.domain.errors import ConnectionLost
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script

MIB = 1 << 20
KERNEL = "6.1.0-50"
_TOOL = f"""#!{sys.executable} -IS
import json, os, pathlib, sys
place = pathlib.Path(__file__).resolve().parent.parent
state = json.loads((place / "state").read_text())
tool, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (place / "asked").open("a") as out:
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
        (place / "dev" / vg).mkdir(parents=True, exist_ok=True)
        (place / "dev" / vg / name).write_bytes(bytes(one["size"]))
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
(place / "state").write_text(json.dumps(state))
if state["breaks_behind"] == tool:
    (place / "broken").touch()
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
    "findmnt": _FINDMNT,
    "lsinitramfs": 'cat "$(dirname "$0")/../initramfs-list"',
    "systemd-run": 'echo reboot >>"$(dirname "$0")/../asked"',
    "setsid": 'echo reboot >>"$(dirname "$0")/../asked"',
    "systemctl": "",
    "sync": "",
}


def build_volume(name: str, size: int, **more: Any) -> dict[str, Any]:
    """Return a volume of the group vg0."""
    plain = {"attr": "-wi-ao----", "layout": "linear", "origin": "", "percent": "", "tags": []}
    return {"vg": "vg0", "name": name, "size": size, **plain, **more}


@dataclass
class LvmHost:
    """A host whose / is vg0/root, with vg0/data and a partition for /boot. It is a Transport, as far as scripts go.

    Attributes:
        place: its files.
        shell: that runs the scripts.
        is_away: it does not answer.
    """

    place: Path
    shell: Sequence[str]
    is_away: bool = False
    boots: list[str] = field(default_factory=lambda: ["boot-1"])

    def __post_init__(self) -> None:
        for folder in ("tools", "boot/grub/i386-pc", f"modules/{KERNEL}", "dev"):
            (self.place / folder).mkdir(parents=True)
        tool = self.place / "tools/lvs"
        tool.write_text(_TOOL)
        tool.chmod(0o755)
        for name in ("vgs", "lvcreate", "lvchange", "lvremove", "lvconvert"):
            (self.place / "tools" / name).hardlink_to(tool)
        for name, text in _SIMPLE.items():
            path = self.place / "tools" / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        self.mount({"/": "/dev/mapper/vg0-root ext4", str(self.boot): "/dev/vda1 ext4"})
        volumes = [build_volume("root", 1024 * MIB), build_volume("data", 64 * MIB)]
        state = {"volumes": volumes, "free": 1400 * MIB, "group": "wz--n-", "fails": {}, "breaks_behind": ""}
        self.write_state(state)
        (self.place / "initramfs-list").write_text("usr/sbin/lvm\nusr/lib/modules/x/kernel/drivers/md/dm-snapshot.ko\n")
        (self.place / "cmdline").write_text("BOOT_IMAGE=/vmlinuz root=/dev/mapper/vg0-root ro quiet\n")
        (self.place / "fstab").write_text("/dev/mapper/vg0-root / ext4 defaults 0 1\n")
        for name, text in BOOT_FILES.items():
            (self.boot / name).write_text(text)

    @property
    def boot(self) -> Path:
        """Its /boot."""
        return self.place / "boot"

    def mount(self, mounts: dict[str, str]) -> None:
        """Let these paths be the file systems: device and type."""
        (self.place / "mounts").write_text("".join(f"{path} {text}\n" for path, text in mounts.items()))

    def read_state(self) -> dict[str, Any]:
        """Return what LVM has."""
        state: dict[str, Any] = json.loads((self.place / "state").read_text())
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Let LVM have other things."""
        (self.place / "state").write_text(json.dumps(state))

    def change(self, **changes: Any) -> None:
        """Let LVM have other things, by their names."""
        self.write_state({**self.read_state(), **changes})

    def change_volume(self, name: str, **changes: Any) -> None:
        """Change one volume."""
        volumes = self.read_state()["volumes"]
        self.change(volumes=[volume | (changes if volume["name"] == name else {}) for volume in volumes])

    def list_volumes(self) -> list[str]:
        """Return the names of its volumes."""
        return [volume["name"] for volume in self.read_state()["volumes"]]

    def read_boot(self) -> dict[str, str]:
        """Return the files in /boot."""
        files = sorted(path for path in self.boot.rglob("*") if path.is_file())
        return {str(path.relative_to(self.boot)): path.read_text() for path in files}

    def list_asked(self, tool: str) -> list[str]:
        """Return what a tool was asked, since the beginning."""
        path = self.place / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] == tool]

    def start_again(self) -> None:
        """Boot: pending merges begin, and end."""
        self.boots.append(f"boot-{len(self.boots) + 1}")
        volumes = [volume for volume in self.read_state()["volumes"] if volume["attr"][0] != "S"]
        self.change(volumes=[volume | {"attr": volume["attr"].replace("O", "-")} for volume in volumes])

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script in the shell, with the files of this host in the places of the machine's own."""
        assert deadline
        if self.is_away:
            raise ConnectionLost("the host does not answer")
        (self.place / "id_of_boot").write_text(self.boots[-1])
        text = compose_script(script)
        places = {
            "/proc/sys/kernel/random/boot_id": self.place / "id_of_boot",
            "/boot": self.boot,
            "/proc/cmdline": self.place / "cmdline",
            "/etc/fstab": self.place / "fstab",
            "/lib/modules": self.place / "modules",
            "/run/fleetpatch-disks": self.place / "lock",
            "/dev/$lvm_vg": f"{self.place}/dev/$lvm_vg",
        }
        for path, here in places.items():
            text = text.replace(path, str(here))
        nonce = generate_nonce()
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(text, dict(script.params), nonce),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{os.environ['PATH']}"},
            check=False,
            timeout=60,
            start_new_session=True,
        )
        if (self.place / "broken").exists():
            (self.place / "broken").unlink()
            raise ConnectionLost("the line broke")
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return ScriptResult(output.records, done.returncode, done.stderr.decode())


BOOT_FILES = {
    f"vmlinuz-{KERNEL}": "kernel",
    f"initrd.img-{KERNEL}": "initramfs",
    "grub/grub.cfg": "menu of before",
    "grub/i386-pc/normal.mod": "module of before",
}
