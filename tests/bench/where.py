"""Where the time of a patch run goes: by package on the controller, by script on the machine.

    python -m tests.bench.where --flavour dnf

One lab machine is patched by the command under a profiler (see profiled.py), without Prefect or, with --prefect, with
its own server, whose processes are not looked at. Another one is patched by the engine in this process, while the
kernel records its processes: those that end during a script count for it. The last ones of a login may end a moment
later, and count for the next script. What a job does is one row, as it runs beside the scripts that look at it. The
processor's time of a machine is not recorded for each process: that of a job is in the rows of these scripts.
"""

import argparse
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.contenders import homes_in
from tests.bench.costs import TOP
from tests.bench.scripts import watch_scripts
from tests.lab.engine import Fleet
from tests.lab.fleet import Lab, LabHost
from tests.lab.process_accounting import (
    EndedProcess,
    describe_processes,
    list_own_processes,
    read_processes,
    read_processor_seconds,
    record_processes,
)

_IMPORTS: Final = "imports"
_BUILT_IN: Final = "~"
_COMPILED: Final = ("cryptography", "pydantic_core", "sqlite3", "greenlet", "bcrypt", "nacl", "yaml", "orjson")
_MOST_ROWS: Final = 16


def find_package(file: str, function: str) -> str:
    """Return the package of a function of a profile. "": it is built in, and belongs to who calls it."""
    if function == "<module>" or "importlib" in file or re.search(r"marshal\.loads|_imp\.|builtins\.compile", function):
        return _IMPORTS
    if file == _BUILT_IN:
        return next((name for name in _COMPILED if name in function), "")
    if (place := re.search(r"site-packages/([^/]+)", file)) is not None:
        return place[1].removesuffix(".py")
    return "fleetpatch" if Path(file).is_relative_to(TOP) else "Python's library"


def sum_by_package(statistics: Mapping[Any, Any]) -> dict[str, float]:
    """Return the seconds of each package's own functions, of the functions of a profile."""
    seconds = defaultdict[str, float](float)
    for (file, _, function), (_, _, own_seconds, _, callers) in statistics.items():
        package = find_package(file, function)
        if package or not callers:
            seconds[package or "Python's library"] += own_seconds
            continue
        for (caller_file, _, caller), (_, _, called_seconds, _) in callers.items():
            seconds[find_package(caller_file, caller) or "Python's library"] += called_seconds
    return dict(seconds)


@dataclass
class Visit:
    """One run of a script.

    Attributes:
        first, last: the processes of the host that ended during it: from this one on, before that one.
        cpu: seconds of the machine.
    """

    script: str
    first: int
    last: int = 0
    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def watch_visits(host: LabHost, records: Path) -> Iterator[list[Visit]]:
    """Give a list to which each script that this process runs on the machine is added."""
    visits: list[Visit] = []

    def count_ended() -> int:
        return len(read_processes(records.read_bytes()))

    @contextmanager
    def measure_visit(script: str) -> Iterator[None]:
        visit = Visit(script, count_ended())
        visits.append(visit)
        began, used = time.monotonic(), read_processor_seconds(host)
        try:
            yield
        finally:
            visit.wall, visit.cpu = time.monotonic() - began, read_processor_seconds(host) - used
            visit.last = count_ended()

    with watch_scripts(measure_visit):
        yield visits


def list_of_jobs(processes: Sequence[EndedProcess]) -> set[int]:
    """Return the processes of detached jobs, by their places: systemd has started their first shells."""
    by_id = {process.process_id: process for process in processes}

    def find_top(process: EndedProcess) -> EndedProcess:
        seen = set[int]()
        while process.parent_id in by_id and process.parent_id not in seen:
            seen.add(process.parent_id)
            process = by_id[process.parent_id]
        return process

    tops = [find_top(process) for process in processes]
    return {place for place, top in enumerate(tops) if top.parent_id == 1 and top.name in {"sh", "dash", "bash"}}


def write_machine_table(visits: Sequence[Visit], processes: Sequence[EndedProcess]) -> str:
    """Return the table of the scripts, the most processes first."""
    own = {id(process) for process in list_own_processes(processes)}
    jobs = list_of_jobs(processes)
    rows = defaultdict[str, list[float]](lambda: [0, 0, 0, 0, 0])

    def add(name: str, places: Sequence[int]) -> None:
        rows[name][1] += sum(id(processes[place]) in own for place in places)
        rows[name][2] += sum(id(processes[place]) not in own for place in places)

    for visit in visits:
        add(visit.script, [place for place in range(visit.first, visit.last) if place not in jobs])
        rows[visit.script][0] += 1
        rows[visit.script][3] += visit.cpu
        rows[visit.script][4] += visit.wall
    during = {place for visit in visits for place in range(visit.first, visit.last)}
    add("(a job)", sorted(jobs))
    add("(between scripts)", sorted(set(range(len(processes))) - during - jobs))
    lines = [
        "| script | runs | processes | those of the package manager | CPU of the machine, s | wall, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, (runs, ours, managers, cpu, wall) in sorted(rows.items(), key=lambda row: -row[1][1]):
        lines.append(f"| {name} | {runs:.0f} | {ours:.0f} | {managers:.0f} | {cpu:.2f} | {wall:.2f} |")
    return "\n".join(lines)


def write_controller_table(seconds: Mapping[str, float]) -> str:
    """Return the table of the packages, the dearest first."""
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda row: -row[1])
    rest = sum(own_seconds for _, own_seconds in ordered[_MOST_ROWS:])
    lines = ["| package | CPU, s | % |", "|---|---|---|"]
    for name, own_seconds in [*ordered[:_MOST_ROWS], ("all others", rest), ("total", total)]:
        lines.append(f"| {name} | {own_seconds:.2f} | {100 * own_seconds / total:.0f} |")
    return "\n".join(lines)


def profile_controller(host: LabHost, work: Path, *, with_prefect: bool) -> str:
    """Patch a machine by the command; return the table of the packages."""
    fleet = Fleet([host], work)
    fleet.describe()
    words = ["patch", "*", "--inventory", str(fleet.inventory), "--yes", "--reboot", "never"]
    words += [] if with_prefect else ["--no-prefect"]
    profile = work / "profile"
    command = ["env", *(f"{name}={value}" for name, value in homes_in(work).items())]
    command += [sys.executable, "-m", "tests.bench.profiled", str(profile), *words]
    subprocess.run(command, cwd=TOP, stdout=sys.stderr, check=False)  # a warning has an exit code of its own
    return write_controller_table(sum_by_package(vars(pstats.Stats(str(profile)))["stats"]))


def trace_machine(host: LabHost, work: Path) -> str:
    """Patch a machine by the engine; return the table of the scripts, and that of its own processes."""
    with record_processes(host, work) as processes, watch_visits(host, work / f"{host.name}.acct") as visits:
        Fleet([host], work).patch(reboot="Never")
    return f"{write_machine_table(visits, processes)}\n\n{describe_processes(list_own_processes(processes))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flavour", choices=["apt", "dnf", "zypper"], default="apt")
    parser.add_argument("--prefect", action="store_true", help="On the controller, run with Prefect, too.")
    parser.add_argument("--lab", default="bench-where", help="Name of the lab that is made, and removed.")
    parser.add_argument("--only", choices=["controller", "machine"])
    options = parser.parse_args()
    with Lab(options.lab) as lab:
        lab.down()
        for part in ("controller", "machine"):
            if options.only in {None, part}:
                (host,) = lab.up(1, options.flavour)
                with tempfile.TemporaryDirectory() as folder:
                    work = Path(folder)
                    is_machine = part == "machine"
                    text = (
                        trace_machine(host, work)
                        if is_machine
                        else profile_controller(host, work, with_prefect=options.prefect)
                    )
                print(f"\n{part} ({options.flavour})\n\n{text}")


if __name__ == "__main__":
    main()
