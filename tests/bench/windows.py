"""What Windows machines cost the controller: an assessment and a patch run over WinRM, on test hosts of this machine.

    python -m tests.bench.windows --hosts 1 10 50

The hosts are those of tests/lab/windows: real NTLM, TLS and PowerShell, with stand-ins for Windows. Each has a
PowerShell of its own, which was started before; nothing is shared. They run here too and take most of the CPU, so wall
times say little: what counts is what the controller needs, which is measured in a process tree of its own, without
the hosts.
"""

import argparse
import bisect
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from fleetpatch.cli.runtime.exit_codes import ExitCode
from tests.bench.contenders import FLEETPATCH, Contender
from tests.bench.costs import Cost, measure
from tests.lab.windows.certificates import Authority
from tests.lab.windows.patching import WindowsFleet, count, offer
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.served_machine import ServedMachine

STARTED_AT_ONCE = 4


def boot(stack: ExitStack, folder: Path, hosts: int) -> WindowsFleet:
    """Switch hosts on."""
    authority = Authority(folder)
    served = [
        ServedMachine(folder / name, Scenario(name=name, updates=(offer(1), offer(2))), authority=authority)
        for name in (f"WIN{number:03}" for number in range(1, hosts + 1))
    ]
    for each in served:
        stack.callback(each.close)
    with ThreadPoolExecutor(STARTED_AT_ONCE) as pool:
        list(pool.map(ServedMachine.start, served))
    fleet = WindowsFleet(served, folder)
    fleet.describe()
    return fleet


def contender(fleet: WindowsFleet, verb: str, *words: str) -> Contender:
    """Return the command that people use, without Prefect."""
    at_once = str(len(fleet.served))
    command = (str(FLEETPATCH), verb, "*", "--inventory", str(fleet.inventory), "--json", *words)
    environment = {"XDG_DATA_HOME": str(fleet.place / "data"), "PREFECT_HOME": str(fleet.place / "prefect")}
    done = {"assess": _assessed, "patch": lambda _: sum(count(each, "install") == 2 for each in fleet.served)}[verb]
    good = frozenset({ExitCode.SUCCESS, ExitCode.WARNINGS})
    return Contender(f"{verb} {at_once} machines", (*command, "--at-once", at_once), done, environment, good)


def _assessed(printed: Path) -> int:
    machines = json.loads(printed.read_text())["machines"]
    return sum(len(machine["patches"]) == 2 for machine in machines)


def table(costs: Mapping[int, Cost]) -> str:
    """A Markdown table; what one more host costs is the difference to the row above."""
    lines = [
        "| hosts | wall, s | controller CPU, s | of each further host, ms | memory, MiB | of each further host, MiB "
        "| threads | connections |",
        "|---|---|---|---|---|---|---|---|",
    ]
    above: tuple[int, Cost] | None = None
    for hosts, cost in costs.items():
        more = ["-", "-"]
        if above is not None:
            number = hosts - above[0]
            more = [f"{1000 * (cost.cpu - above[1].cpu) / number:.0f}", f"{(cost.peak - above[1].peak) / number:.1f}"]
        cells = [f"{hosts}", f"{cost.wall:.1f}", f"{cost.cpu:.2f}", more[0], f"{cost.peak:.0f}", more[1]]
        lines.append(f"| {' | '.join([*cells, f'{cost.threads}', f'{cost.connections}'])} |")
        above = hosts, cost
    return "\n".join(lines)


def count_busiest_second(times: Sequence[float]) -> int:
    """Return how many times are within one second, at most."""
    ordered = sorted(times)
    return max(bisect.bisect_left(ordered, time + 1) - place for place, time in enumerate(ordered))


def measure_fleet(hosts: int) -> dict[str, Cost]:
    """Return what an assessment, and then a patch run, cost with so many hosts at once."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = boot(stack, folder, hosts)
        print(f"{hosts} hosts are on", file=sys.stderr, flush=True)
        asking = contender(fleet, "assess")
        measure(asking, hosts)  # warms caches, here and there
        unwatched = measure(asking, hosts)
        searched = count_busiest_second([each.machine.read_state()["last_search_of_scripts"] for each in fleet.served])
        print(f"{hosts} hosts: {searched} searches for updates in the busiest second", flush=True)
        watched = measure(asking, hosts, memory=True)
        patching = contender(fleet, "patch", "--yes", "--no-prefect", "--reboot", "never", "--wave-percent", "100")
        return {
            "assess": replace(watched, wall=unwatched.wall, cpu=unwatched.cpu),
            "patch": measure(patching, hosts, memory=True),  # a host can be patched only once
        }


def main() -> None:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 50])
    options = parser.parse_args()
    os.environ.setdefault("TERM", "dumb")
    found = {hosts: measure_fleet(hosts) for hosts in sorted(set(options.hosts))}
    for verb in ("assess", "patch"):
        print(f"\n{verb}\n\n{table({hosts: costs[verb] for hosts, costs in found.items()})}", flush=True)


if __name__ == "__main__":
    main()
