"""The lab for tests: a typed face for lab.sh, and plain OpenSSH to its hosts.

Nothing here uses fleetpatch's own transport, so that a test has a second, independent eye on a host.
"""

import os
import re
import shlex
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from tests.support.boot import BOOT_FILES, parse_boot, read_boot

SCRIPT = Path(__file__).with_name("lab.sh")
Flavour = Literal["apt", "dnf", "zypper"]  # a host's package manager: it has this one and no other
Kind = Flavour | Literal["cluster"]  # a cluster's members are hosts with apt that have HAProxy and PostgreSQL, too

SSH_FAILED = 255  # ssh's own exit code; commands of tests don't end with it
REFUSED = re.compile(r"Connection refused|kex_exchange_identification|banner exchange")
REFUSED_SECONDS = 60.0
PATIENCE = 300.0  # seconds for a boot: on cores that others use, it has taken more than a minute and a half


_VERSIONS = "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"  # words of dpkg-query
_RPM_VERSIONS = "rpm -qa --qf 'installed %{name} %{version}-%{release}\\n'"
_HALF_DONE = """rpm -qa --qf '%{name}.%{arch} is there twice\\n' | grep -v -e ^kernel- -e ^gpg- | sort | uniq -d
    rpm -Va --nodeps --nomtime --nomode --noconfig 'lab-*' || true"""
_PENDING_SECURITY: dict[Flavour, str] = {
    "apt": """set -e; apt-get -qq update; only=$(mktemp); grep -h -- -security /etc/apt/sources.list > $only
        apt-get -s -o Dir::Etc::SourceList=$only -o Dir::Etc::SourceParts=/dev/null -o Dir::Cache::pkgcache= \\
            -o Dir::Cache::srcpkgcache= dist-upgrade | awk '$1 == "Inst" && $3 ~ /^\\[/ {print $2}'; rm $only""",
    "dnf": "dnf -q --refresh updateinfo list --security --updates | awk '{print $3}'",
    "zypper": """zypper -q refresh; zypper -q -x list-patches > /tmp/patches.xml  # this has other categories, too
        grep -o '<update kind="patch" name="[^"]*" [^>]*category="security"' /tmp/patches.xml || true""",
}


class BootHosts(Protocol):
    """Boots fresh hosts of one kind."""

    def __call__(self, count: int, flavour: Kind = "apt") -> list["LabHost"]: ...


class LabError(RuntimeError):
    """The lab, or a command on one of its hosts, didn't do what was asked."""

    def __init__(self, what: str, code: int, output: str) -> None:
        super().__init__(f"{what}: exit {code}\n{output.strip()}")
        self.code = code
        self.output = output


class Lab:
    """One lab of this checkout. Labs of different names run side by side and don't meet."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self._hosts: Path | None = None  # the folder of all its hosts

    def script(self, *words: str, timeout: float = 1800) -> str:
        """What `lab.sh` with these words prints."""
        environment = {**os.environ, "FLEETPATCH_LAB": self.name or ""}
        return _run([str(SCRIPT), *words], f"lab.sh {' '.join(words)}", timeout, environment)

    def reason_it_cannot_run(self) -> str | None:
        try:
            self.script("can", timeout=60)
        except LabError as error:
            return error.output.strip() or str(error)
        return None

    def up(self, count: int = 1, flavour: Kind = "apt") -> list["LabHost"]:
        """Boot that many more hosts, and return when a login on each of them works."""
        made = []
        for line in self.script("up", str(count), flavour).splitlines():
            number, name, address = line.split()
            self._hosts = self._hosts or Path(self.script("root", number).strip()).parents[1]
            root = self._hosts / number / "root"
            made.append(LabHost(self, int(number), name, address, root, "apt" if flavour == "cluster" else flavour))
        return made

    def down(self) -> None:
        self.script("down")

    def status(self) -> str:
        return self.script("status")

    def inventory_text(self) -> str:
        return self.script("inventory")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()


@dataclass(frozen=True)
class LabHost:
    lab: Lab
    number: int
    name: str
    address: str
    root: Path
    """The host's root file system, as this machine sees it: readable and writable while the host is off, too."""
    flavour: Flavour = "apt"
    user: str = "patch"

    @property
    def first_pid(self) -> int:
        """The pid, here, of the host's first process."""
        nspawn = (self.root.parent / "nspawn.pid").read_text().split()[0]
        return int(Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()[0])

    @property
    def key(self) -> Path:
        return self.root.parents[2] / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.root.parents[2] / "known_hosts"

    def sh(self, command: str, user: str = "patch", timeout: float = 120, root: bool = False) -> str:
        """What a shell command on the host prints; LabError (with all it said) when it fails.

        A line that is refused before the login is tried again for a while: the command was not begun, and an sshd on a
        busy machine refuses some. The users are patch (sudo without a password, what `root` uses), pwsudo (sudo with
        `lab-password`) and nosudo.
        """
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "IdentitiesOnly": "yes",
            "KexAlgorithms": "^curve25519-sha256",  # what OpenSSH prefers takes six times the processor's time
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        words = ["ssh", "-F", "none", "-i", str(self.key), "-l", user]
        for key, value in options.items():
            words += ["-o", f"{key}={value}"]
        remote = f"sudo -n -- sh -c {shlex.quote(command)}" if root else command
        until = time.monotonic() + REFUSED_SECONDS
        while True:
            try:
                return _run([*words, self.address, remote], f"{self.name}: {command}", timeout)
            except LabError as error:
                if error.code != SSH_FAILED or not REFUSED.search(error.output) or time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def package_versions(self, *names: str) -> dict[str, str]:
        """The versions of those of the named packages (of all, without names) that are fully installed."""
        # rpm shows others than root an older state, as long as writes are in the write-ahead log of its database
        text = self.query_dpkg(*_VERSIONS) if self.flavour == "apt" else self.sh(_RPM_VERSIONS, root=True)
        rows = [line.split() for line in text.splitlines()]
        return {row[1]: row[2] for row in rows if row[0] == "installed" and (not names or row[1] in names)}

    def query_dpkg(self, *words: str) -> str:
        """What dpkg-query says of its package database, asked from here: a login costs ten times as much."""
        try:
            place = f"/proc/{self.first_pid}/root/var/lib/dpkg"
        except (OSError, IndexError):  # it is about to begin
            return self.sh(shlex.join(["dpkg-query", *words]))
        return _run(["dpkg-query", f"--admindir={place}", *words], f"{self.name}: its packages", 120)

    def half_done_packages(self) -> str:
        """What the package database says of packages that an installation has left half done; "" when all are whole."""
        return self.sh("dpkg --audit" if self.flavour == "apt" else _HALF_DONE, root=True).strip()

    def pending_security(self) -> int:
        """How many security updates the host lacks, asked anew: packages with apt and dnf, patches with zypper."""
        return len(set(self.sh(_PENDING_SECURITY[self.flavour], root=True).splitlines()))

    def boot_id(self) -> str:
        """What it is since its last boot, once it lets users in; read from here, as a login costs much more."""
        if self._welcomes():
            with suppress(OSError, IndexError):  # it has just ended
                return read_boot(Path(f"/proc/{self.first_pid}/root/proc"))
        return self._ask_boot_id()

    def _ask_boot_id(self) -> str:
        return parse_boot(self.sh(f"cd /proc; cat {' '.join(BOOT_FILES)}"))

    def dpkg_log(self) -> str:
        return (self.root / "var/log/dpkg.log").read_text()

    def wait_login(self, timeout: float = PATIENCE) -> None:
        self.lab.script("wait", str(self.number), str(int(timeout)), timeout=timeout + 30)

    def wait_reboot(self, since: str, timeout: float = PATIENCE) -> str:
        """The new boot id, once a login works in another boot than the given one."""
        until = time.monotonic() + timeout
        while True:
            if self._welcomes():
                with suppress(LabError, subprocess.TimeoutExpired):
                    now = self._ask_boot_id()
                    if now != since:
                        return now
            if time.monotonic() > until:
                raise LabError(f"{self.name}: no other boot in {timeout:.0f} s", 1, since)
            time.sleep(0.3)

    def _welcomes(self) -> bool:
        """Whether its files say that sshd listens and lets users in: to ask sshd in vain costs much more."""
        try:
            run = Path(f"/proc/{self.first_pid}/root/run")
            return (run / "sshd.pid").exists() and not (run / "nologin").exists()
        except (OSError, IndexError):  # it is off, or about to begin
            return False

    def cut(self) -> None:
        """Take its network away."""
        self.lab.script("cut", str(self.number))

    def mend(self) -> None:
        self.lab.script("mend", str(self.number))

    def crash(self) -> None:
        """Cut its power; it boots again by itself (see wait_reboot)."""
        self.lab.script("crash", str(self.number))

    def off(self) -> None:
        """Cut its power and leave it off."""
        self.lab.script("off", str(self.number))

    def stay_off(self) -> None:
        """Let it not come back from its next reboot."""
        (self.root.parent / "off").touch()

    def on(self) -> None:
        self.lab.script("on", str(self.number))

    def drop(self) -> None:
        """Destroy this host alone."""
        self.lab.script("drop", str(self.number))


def _run(words: list[str], what: str, timeout: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(what, done.returncode, done.stdout + done.stderr)
    return done.stdout
