"""A host that takes the snapshots of its disks itself, with stand-ins for its tools: what such hosts share."""

import marshal
import os
import subprocess
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
from tests.support.fake_clock import FakeClock

MIB = 1 << 20
KERNEL = "6.1.0-50"
SIMPLE_TOOLS = {
    "systemd-run": 'echo reboot >>"$(dirname "$0")/../asked"',
    "setsid": 'echo reboot >>"$(dirname "$0")/../asked"',
    "systemctl": "",
    "sync": "",
}
BOOT_FILES = {
    f"vmlinuz-{KERNEL}": "kernel",
    f"initrd.img-{KERNEL}": "initramfs",
    "grub/grub.cfg": "menu of before",
    "grub/i386-pc/normal.mod": "module of before",
}


@dataclass
class OwnDisksHost:
    """A host with a partition for /boot. It is a Transport, as far as scripts go.

    Attributes:
        place: its files.
        shell: that runs the scripts.
        is_away: it does not answer.
        breaks: how often the line broke behind a tool.
    """

    place: Path
    shell: Sequence[str]
    is_away: bool = False
    breaks: int = 0
    boots: list[str] = field(default_factory=lambda: ["boot-1"])

    def __post_init__(self) -> None:
        for folder in ("tools", "boot/grub/i386-pc", f"modules/{KERNEL}", "dev"):
            (self.place / folder).mkdir(parents=True)
        for name, text in BOOT_FILES.items():
            (self.boot / name).write_text(text)
        self.add_tools({name: f"#!/bin/sh\n{text}\n" for name, text in SIMPLE_TOOLS.items()})

    def add_tools(self, tools: dict[str, str]) -> None:
        """Give it programs, by their names."""
        for name, text in tools.items():
            path = self.place / "tools" / name
            path.write_text(text)
            path.chmod(0o755)

    @property
    def boot(self) -> Path:
        """Its /boot."""
        return self.place / "boot"

    @property
    def places(self) -> dict[str, Path | str]:
        """Where its scripts find what they look for, in the order of their replacement."""
        return {
            "/boot": self.boot,
            "/proc/cmdline": self.place / "cmdline",
            "/etc/fstab": self.place / "fstab",
            "/lib/modules": self.place / "modules",
            "/run/fleetpatch-disks": self.place / "lock",
        }

    def read_state(self) -> dict[str, Any]:
        """Return what its disks have."""
        state: dict[str, Any] = marshal.loads((self.place / "state").read_bytes())
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Let its disks have other things."""
        (self.place / "state").write_bytes(marshal.dumps(state))

    def change(self, **changes: Any) -> None:
        """Let its disks have other things, by their names."""
        self.write_state({**self.read_state(), **changes})

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
        """Boot."""
        self.boots.append(f"boot-{len(self.boots) + 1}")

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script in the shell, with the files of this host in the places of the machine's own."""
        assert deadline
        if self.is_away:
            raise ConnectionLost("the host does not answer")
        text = f"fp_read_boot() {{ fp_boot={self.boots[-1]}; }}\n{compose_script(script)}"
        for path, here in self.places.items():
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
            self.breaks += 1
            raise ConnectionLost("the line broke")
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return ScriptResult(output.records, done.returncode, done.stderr.decode())


class RebootingClock(FakeClock):
    """A clock by which the machine that was told to reboot has done so after a while."""

    host: OwnDisksHost
    reboots = 0

    def sleep(self, seconds: float) -> None:
        """Wait, and boot."""
        super().sleep(seconds)
        asked = len(self.host.list_asked("reboot"))
        if asked > self.reboots:
            self.host.start_again()
        self.reboots = asked
