"""Runs one command and tells what it cost the controller: wall time, CPU of its whole process tree, peaks.

With --memory the peaks of the tree's memory, threads and TCP connections are sampled too.

    python -m tests.bench.measure [--memory] OUTPUT COMMAND…

Prints one line of JSON; the command's own stdout goes to OUTPUT, its stderr to OUTPUT.err. A process of its own, as it
adopts whatever the command leaves behind (Ansible's shared SSH connections, say): that is ended and counted too, and
can't make the next measurement look better.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_SECONDS = 0.05
_ESTABLISHED = "01"


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _descendants(top: int) -> set[int]:
    parents, found, layer = _parents(), set[int](), {top}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer} - found
        found |= layer
    return found


def _proportional_kib(pid: int) -> int:
    """Memory of a process; what it shares with others counts for its part."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _sockets(pid: int) -> Iterator[str]:
    """Open sockets of a process, by their numbers."""
    with suppress(OSError):  # the process is gone
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile
                kind, _, number = str(descriptor.readlink()).partition(":")
                if kind == "socket":
                    yield number.strip("[]")


def _connections(pids: set[int]) -> int:
    """Established TCP connections of processes; one that several descriptors stand for counts once."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    established = {words[9] for words in lines if words[3] == _ESTABLISHED}
    return len(established.intersection(number for pid in pids for number in _sockets(pid)))


def _watch(command: subprocess.Popen[bytes]) -> Counter[str]:
    """Wait for the command's end; return the highest memory (KiB), threads and connections of its tree."""
    peaks = Counter[str]()
    while command.poll() is None:
        tree = _descendants(os.getpid())
        peaks |= Counter(
            memory=sum(map(_proportional_kib, tree)), threads=sum(map(_threads, tree)), connections=_connections(tree)
        )
        time.sleep(_SAMPLE_SECONDS)
    return peaks


def _end_the_rest() -> None:
    for _ in range(100):
        for pid in _descendants(os.getpid()):
            os.kill(pid, signal.SIGTERM)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.05)
    raise RuntimeError("the command left processes behind that don't end")


def main(words: list[str]) -> None:
    memory = words[0] == "--memory"
    output, *command = words[memory:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with Path(output).open("wb") as out, Path(f"{output}.err").open("wb") as err:
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        peaks = _watch(process) if memory else Counter[str]()
        code = process.wait()
        wall = time.monotonic() - started
    _end_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": peaks["memory"] / 1024}
    print(json.dumps({"exit_code": code, **cost, "threads": peaks["threads"], "connections": peaks["connections"]}))


if __name__ == "__main__":
    main(sys.argv[1:])
