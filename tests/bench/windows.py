"""What Windows machines cost the controller: an assessment and a patch run over WinRM, on test hosts of this machine.

    python -m tests.bench.windows --hosts 50

The hosts are those of tests/lab/windows: real NTLM, TLS and PowerShell, with stand-ins for Windows. They run here too
(a PowerShell of about 150 MiB each, and most of the CPU), so wall times say little: what counts is the controller's
CPU and memory, which are measured in a process of its own.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from flows.cli.runtime.exit_codes import ExitCode
from tests.bench.assess import Cost, measure
from tests.bench.contenders import FLEETPATCH, Contender
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


def tell(name: str, cost: Cost) -> None:
    """Print what one go has cost."""
    memory = f", memory at most {cost.peak:.0f} MiB" if cost.peak else ""
    print(f"{name}: wall {cost.wall:.1f} s, controller CPU {cost.cpu:.2f} s{memory}", flush=True)


def main() -> None:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    options = parser.parse_args()
    os.environ.setdefault("TERM", "dumb")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = boot(stack, folder, options.hosts)
        print(f"{options.hosts} hosts are on", file=sys.stderr, flush=True)
        asking = contender(fleet, "assess")
        measure(asking, options.hosts)  # warms caches, here and there
        tell(asking.name, measure(asking, options.hosts))
        tell(f"{asking.name}, watched", measure(asking, options.hosts, memory=True))
        way = contender(fleet, "patch", "--yes", "--no-prefect", "--reboot", "never", "--wave-percent", "100")
        tell(way.name, measure(way, options.hosts, memory=True))


if __name__ == "__main__":
    main()
