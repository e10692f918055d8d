"""What 50 Windows machines at once cost the controller: an assessment, then a run that patches them.

    make bench-windows ARGS="--hosts 50"

The machines are those of the tests: a WinRM server each, with NTLM over HTTPS, and a real PowerShell each, which runs
the real scripts on stand-ins for Windows. They live in this process and its children. The command that is measured
runs in a process tree of its own, so that their cost is not in its CPU, memory and threads. Wall time is mostly
theirs: all of them share the cores of this computer. A run counts only if every machine answered, and was patched by
its own account. A PowerShell needs about 200 MiB. Needs pwsh on PATH.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from flows.cli.runtime.exit_codes import ExitCode
from tests.bench.contenders import FLEETPATCH
from tests.ci.tree import TOP
from tests.lab.windows.patching import WindowsFleet, cumulative, guid, offer
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.scenario import Scenario

UPDATES = (cumulative(1), offer(2), offer(3))


def scenario(number: int) -> Scenario:
    """Return a machine with a cumulative update, which needs a reboot, and two others."""
    return Scenario(name=f"WIN-{number}", updates=UPDATES)


def run(fleet: WindowsFleet, verb: str, *words: str) -> dict[str, float]:
    """Run the command on all machines, and return what it cost.

    Raises:
        RuntimeError: it failed, or not every machine succeeded.
    """
    place = fleet.place
    printed = place / verb
    measure = [sys.executable, "-m", "tests.bench.measure", "--memory", str(printed)]
    command = [str(FLEETPATCH), verb, "*", "--inventory", str(fleet.inventory), "--json", *words]
    environment = {
        **os.environ,
        "FLEETPATCH_RECORDS_URL": fleet.records_url,
        "XDG_DATA_HOME": str(place / "data"),
        "PREFECT_HOME": str(place / "prefect"),
    }
    done = subprocess.run([*measure, *command], env=environment, stdout=subprocess.PIPE, check=True, cwd=TOP)
    cost: dict[str, float] = json.loads(done.stdout)
    said = printed.read_text(errors="replace")
    machines = json.loads(said).get("machines", []) if said.startswith("{") else []
    states = [machine["status"] for machine in machines]
    good = states.count("Succeeded") + states.count("CompletedWithWarnings")
    if cost["exit_code"] not in {ExitCode.SUCCESS, ExitCode.WARNINGS} or good < len(fleet.served):
        errors = printed.with_name(f"{verb}.err").read_text(errors="replace")
        raise RuntimeError(f"{verb}: exit {cost['exit_code']}, {states}:\n{(said + errors)[-3000:]}")
    return cost


def require_patched(fleet: WindowsFleet) -> None:
    """Require that every machine has installed all of its updates, by its own account, and was rebooted.

    Raises:
        RuntimeError: one has not.
    """
    for served in fleet.served:
        state = served.machine.read_state()
        installed = {update for update, its in state["updates"].items() if its["installed"]}
        if installed != {guid(number) for number in (1, 2, 3)} or state["boot"]["number"] != 2:
            raise RuntimeError(f"{served.host.name} has {installed}, boot {state['boot']}")


def table(costs: dict[str, dict[str, float]], hosts: int) -> str:
    """Return a Markdown table."""
    head = f"{hosts} machines"
    lines = [
        f"| {head} | wall, s | controller CPU, s | CPU per machine, ms | peak memory, MiB | threads |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        per_machine = 1000 * cost["cpu"] / hosts
        figures = (f"{cost['wall']:.1f}", f"{cost['cpu']:.2f}", f"{per_machine:.0f}", f"{cost['peak']:.0f}")
        lines.append(f"| {name} | {' | '.join(figures)} | {cost['threads']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Switch the machines on, measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    hosts = parser.parse_args().hosts
    if find_powershell() is None:
        sys.exit("bench: PowerShell (pwsh) is not on PATH")
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenarios = [scenario(number) for number in range(1, hosts + 1)]
        fleet = stack.enter_context(WindowsFleet.opened(place, *scenarios))
        print(f"{hosts} machines are on", file=sys.stderr, flush=True)
        run(fleet, "assess")  # warms caches
        costs = {"assess": run(fleet, "assess")}
        print(f"assess: {costs['assess']}", file=sys.stderr, flush=True)
        costs["patch"] = run(fleet, "patch", "--yes", "--no-prefect", "--wave-percent", "100", "--at-once", str(hosts))
        require_patched(fleet)
    print(f"\n{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}\n")
    print(table(costs, hosts))


if __name__ == "__main__":
    main()
