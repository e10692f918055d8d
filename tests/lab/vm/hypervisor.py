"""A libvirtd of the lab's own: with its own configuration, state and socket, in a mount namespace of its own.

QEMU executes the machines' instructions itself (TCG): no KVM is used, so it is the same wherever the lab runs.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.fleet import LabError

TOOLS = {
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "genisoimage": "genisoimage",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
}
"""The programs that the lab needs, and the Debian packages that have them."""

_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
_FOLDERS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
_BEGIN = """set -e
for pair in {pairs}; do mkdir -p "${{pair#*:}}"; mount --bind "{place}/${{pair%%:*}}" "${{pair#*:}}"; done
for file in passwd group; do mount --bind "{place}/$file" /etc/$file; done
exec libvirtd --daemon --pid-file "{place}/libvirtd.pid"
"""


class Hypervisor:
    """libvirt with its machines, whose files are in one folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.uri = f"qemu+unix:///system?socket={place}/run/libvirt-sock"

    @property
    def wrapper(self) -> Path:
        """A program that is virsh with this hypervisor's address."""
        return self.place / "virsh"

    def start(self) -> None:
        """Start libvirtd, unless it runs."""
        if self._runs():
            return
        for name in ("etc", "lib", "run", "cache", "log", "log/qemu"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "etc/qemu.conf").write_text(_QEMU_CONF)
        (self.place / "etc/libvirtd.conf").write_text('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')
        for name, entry in {
            "passwd": "libvirt-qemu:x:64055:64055::/:/bin/false",
            "group": "libvirt-qemu:x:64055:",
        }.items():
            present = Path(f"/etc/{name}").read_text()  # libvirtd wants to know the user, also if it uses another one
            own = "" if "libvirt-qemu:" in present else entry + "\n"
            (self.place / name).write_text(present + own)
        pairs = " ".join(f"{name}:{folder}" for name, folder in _FOLDERS.items())
        run(["unshare", "-m", "--propagation", "private", "sh", "-c", _BEGIN.format(pairs=pairs, place=self.place)])
        self.wrapper.write_text(f"#!/bin/sh\nexec virsh -q -c '{self.uri}' \"$@\"\n")
        self.wrapper.chmod(0o755)
        wait_until(lambda: bool(self.virsh("list", "--all") or True), 30, "libvirtd doesn't answer")

    def stop(self) -> None:
        """End all machines and libvirtd, also if a session before left them."""
        for path in self.place.glob("run/qemu/*.pid"):
            self._end(path)
        self.stop_daemon()

    def stop_daemon(self) -> None:
        """End libvirtd alone: the machines run on, and ``start`` finds them again."""
        self._end(self.place / "libvirtd.pid")

    def _end(self, path: Path) -> None:
        pid = int(path.read_text()) if path.exists() else 0
        if self._is_ours(pid):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not self._is_ours(pid), 30, f"process {pid} doesn't end")
        path.unlink(missing_ok=True)

    def virsh(self, *words: str, timeout: float = 120) -> str:
        """Return what virsh prints.

        :raises LabError: when it fails
        """
        return run(["virsh", "-q", "-c", self.uri, *words], timeout)

    def ask_guest(self, domain: str, execute: str, **arguments: object) -> object:
        """Return what the machine's guest agent answers."""
        order = json.dumps({"execute": execute, "arguments": arguments})
        return json.loads(self.virsh("qemu-agent-command", domain, order, timeout=30))["return"]

    def run_in_guest(self, domain: str, words: Sequence[str], seconds: float = 120) -> None:
        """Let the machine's guest agent run a command, and wait for its end.

        :raises LabError: when it fails
        """
        started = self.ask_guest(domain, "guest-exec", path=words[0], arg=list(words[1:]), **{"capture-output": True})
        assert isinstance(started, dict)
        until = time.monotonic() + seconds
        while True:
            status = self.ask_guest(domain, "guest-exec-status", pid=started["pid"])
            assert isinstance(status, dict)
            if status["exited"]:
                break
            if time.monotonic() > until:
                raise LabError(f"{domain}: {' '.join(words)} takes more than {seconds:.0f} s", 1, "")
            time.sleep(0.1)
        if status.get("exitcode", 1) != 0:
            raise LabError(f"{domain}: {' '.join(words)}", status.get("exitcode", 1), str(status))

    def _runs(self) -> bool:
        path = self.place / "libvirtd.pid"
        return path.exists() and self._is_ours(int(path.read_text() or 0))

    def _is_ours(self, pid: int) -> bool:
        """Return whether a process is one that this lab started: QEMU and libvirtd name its folder."""
        try:
            return pid > 0 and str(self.place.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False


def run(words: Sequence[str], timeout: float = 120) -> str:
    """Return what a program prints.

    :raises LabError: when it fails
    """
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise LabError(" ".join(words), done.returncode, done.stdout + done.stderr)
    return done.stdout


def wait_until(is_so: object, seconds: float, otherwise: str) -> None:
    """Wait until a question is answered with yes; what it raises is a no.

    :raises LabError: after so many seconds
    """
    until = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if is_so():  # type: ignore[operator]
                return
        except (LabError, subprocess.TimeoutExpired) as error:
            last = str(error)
        if time.monotonic() > until:
            raise LabError(otherwise, 1, last)
        time.sleep(0.1)
