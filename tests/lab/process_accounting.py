"""Records each process of a host that ends, by the kernel's process accounting (acct(5)), and reads what the host's
processor did. Nothing on the host changes.

A process is the package manager's if one of its ancestors is a package manager: an administrator's own command would
start it, too. Those of GnuPG are zypper's, whose library starts them so that they have no parent. All others are
fleetpatch's: its scripts, its logins, and each start of a package manager.
"""

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.fleet import LabError, LabHost

TOOLS: Final = frozenset({"dnf", "zypper", "apt-get", "apt-cache", "apt-config", "apt-mark"})
MANAGERS: Final = TOOLS | {"dpkg", "dpkg-query", "rpm"}
_ORPHANS: Final = frozenset({"gpg", "gpgconf", "gpgsm", "gpg-agent"})
_RECORD: Final = struct.Struct("=B15xII24x16s")  # struct acct_v3: ac_flag, …, ac_pid, ac_ppid, …, ac_comm
_FORKED: Final = 0x01  # AFORK: it has executed no program since its fork
NAPS: Final = 20
"""How often a job's watchers nap in a run on a quiet machine, at most. On a busy one the same work takes more naps."""
PROCESSES_PER_NAP: Final = 6
"""What a watcher and the look at the job after its nap start, with the nap itself."""
_SWITCH: Final = "import ctypes, sys; sys.exit(ctypes.CDLL(None).acct(sys.argv[1].encode() if sys.argv[1:] else None))"


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """A process of a host that has ended.

    Attributes:
        name: of the program that it executed last, at most 15 bytes.
        executed: whether it executed a program since its fork. Else the name is its parent's.
    """

    process_id: int
    parent_id: int
    name: str
    executed: bool


@contextmanager
def record_processes(host: LabHost, folder: Path) -> Iterator[list[EndedProcess]]:
    """Give a list that has the host's processes that ended in the block, after it. The host may not reboot."""
    file, processes = folder / f"{host.name}.acct", list[EndedProcess]()
    file.touch()
    _switch(host, str(file))
    try:
        yield processes
    finally:
        _switch(host)
    processes += read_processes(file.read_bytes())
    file.unlink()


def read_processes(records: bytes) -> list[EndedProcess]:
    """Return the processes of the kernel's records."""
    return [
        EndedProcess(process_id, parent_id, name.partition(b"\0")[0].decode(errors="replace"), not flags & _FORKED)
        for flags, process_id, parent_id, name in _RECORD.iter_unpack(records)
    ]


def count_starts(processes: Iterable[EndedProcess]) -> Counter[str]:
    """Return how often each tool was started that asks or changes the package database."""
    return Counter(process.name for process in processes if process.executed and process.name in TOOLS)


def list_own_processes(processes: Sequence[EndedProcess]) -> list[EndedProcess]:
    """Return those that no package manager has started."""
    parents = {process.process_id: process.parent_id for process in processes}
    managers = {process.process_id for process in processes if process.name in MANAGERS}

    def is_managers(process: EndedProcess) -> bool:
        ancestor, seen = process.parent_id, set[int]()
        while ancestor not in managers and ancestor in parents and ancestor not in seen:
            seen.add(ancestor)
            ancestor = parents[ancestor]
        return ancestor in managers

    return [process for process in processes if process.name not in _ORPHANS and not is_managers(process)]


def describe_processes(processes: Iterable[EndedProcess], most: int = 40) -> str:
    """Return a table: how many processes of each program, the most first."""
    counts = Counter(process.name if process.executed else f"{process.name} (fork)" for process in processes)
    rows = [f"{count:6} {name}" for name, count in counts.most_common(most)]
    return "\n".join([f"{counts.total()} processes", *rows])


def expect_few_processes(processes: Sequence[EndedProcess], most: int) -> None:
    """Check that fleetpatch needed at most so many processes of its own, and those of the naps beyond NAPS."""
    own = list_own_processes(processes)
    naps = sum(process.name == "sleep" and process.executed for process in own)
    assert 0 < len(own) <= most + PROCESSES_PER_NAP * max(0, naps - NAPS), describe_processes(own)


def read_processor_seconds(host: LabHost) -> float:
    """Return for how long all processes of the host have used the processor since it was booted."""
    name = f"fp{host.root.parents[2].name}-{host.number}"  # as lab.sh calls it
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpuacct" in options.split(",")):
            for group in (*Path(mount).glob(name), *Path(mount).glob(f"*/{name}")):
                return _read_usage(group)
    raise LabError(f"{host.name}: its cgroup", 1, "no cgroup file system has one with processor time")


def _read_usage(group: Path) -> float:
    if (file := group / "cpuacct.usage").exists():
        return int(file.read_text()) / 1e9
    usage = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(usage["usage_usec"]) / 1e6


def _switch(host: LabHost, *words: str) -> None:
    """Write a record of each process of the host that ends into a file here, or into none from now on."""
    subprocess.run(
        ["nsenter", "--pid", "--target", str(host.first_pid), sys.executable, "-c", _SWITCH, *words], check=True
    )
