"""What one go of a contender cost the controller and the machines: measuring it, and the tables and goals."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench.contenders import Contender, errors_of
from tests.lab.fleet import LabHost
from tests.lab.process_accounting import list_own_processes, read_processor_seconds, record_processes

TOP: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = TOP / "build" / "bench" / "bin"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True)
class Cost:
    """Of one go. What was not looked at is 0.

    Attributes:
        wall: seconds.
        cpu: of the controller, seconds.
        peak: memory, MiB.
        threads: at most.
        connections: TCP connections, at most.
        machine_cpu: of a machine in the mean, seconds.
        processes: that ended on a machine in the mean, without those that a package manager started.
    """

    wall: float
    cpu: float
    peak: float = 0.0
    threads: int = 0
    connections: int = 0
    machine_cpu: float = 0.0
    processes: float = 0.0


@dataclass(frozen=True)
class Goal:
    """That a contender costs at most so many times what another one costs, or at most so much more.

    Attributes:
        measure: name of the measure, as the result shows it.
        read: reads it.
        is_difference: whether ``most`` is a difference, not a ratio.
    """

    contender: str
    measure: str
    read: Callable[[Cost], float]
    base: str
    most: float
    is_difference: bool = False


def prepare_programs() -> None:
    """Ansible and pyinfra in an environment of their own, as pyinfra wants another paramiko than fleetpatch."""
    python = PROGRAMS / "python"
    stamp = PROGRAMS.parent / "stamp"
    if stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(PROGRAMS.parent)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    stamp.write_text(REQUIREMENTS.read_text())


def measure(contender: Contender, hosts: int, *, memory: bool = False) -> Cost:
    """Let a contender have one go.

    Raises:
        RuntimeError: it failed, or not every machine answered in full.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "printed")
        words = [sys.executable, "-m", "tests.bench.measure", *(["--memory"] if memory else []), str(printed)]
        # the warm-up shall leave compiled modules behind, for everybody alike
        environment = {**os.environ, **contender.environment, "PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(
            [*words, *contender.command], env=environment, stdout=subprocess.PIPE, check=True, cwd=TOP
        )
        cost = json.loads(done.stdout)
        answered = contender.answered(printed) if cost["exit_code"] in contender.good_codes else 0
        if answered != hosts:
            tail = (printed.read_text(errors="replace") + errors_of(printed).read_text(errors="replace"))[-2000:]
            code = cost["exit_code"]
            raise RuntimeError(f"{contender.name}: exit {code}, {answered} of {hosts} machines answered:\n{tail}")
    return Cost(cost["wall"], cost["cpu"], cost["peak"], cost["threads"], cost["connections"])


def measure_with_machines(contender: Contender, hosts: Sequence[LabHost]) -> Cost:
    """Let a contender have one go with these machines, and look at what it costs them, too. See ``measure``."""
    used: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        processes = [stack.enter_context(record_processes(host, Path(folder))) for host in hosts]
        stack.enter_context(_add_processor_seconds(hosts, used))
        cost = measure(contender, len(hosts))
    own = sum(len(list_own_processes(each)) for each in processes)
    return replace(cost, machine_cpu=sum(used.values()) / len(hosts), processes=own / len(hosts))


@contextmanager
def _add_processor_seconds(hosts: Sequence[LabHost], used: dict[str, float]) -> Iterator[None]:
    before = {host.name: read_processor_seconds(host) for host in hosts}
    yield
    used.update({host.name: read_processor_seconds(host) - before[host.name] for host in hosts})


def note(costs: dict[str, list[Cost]], name: str, number: int, cost: Cost) -> None:
    """Print a go's cost. Keep it, but for that of the warm-up (round 0)."""
    machine = f", on a machine {cost.machine_cpu:.2f} s, {cost.processes:.0f} processes" if cost.processes else ""
    named = f"round {number or 'warm-up'}: {name}"
    print(f"{named}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s{machine}", file=sys.stderr, flush=True)
    if number:
        costs.setdefault(name, []).append(cost)


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and lowest to highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(costs: Mapping[str, Sequence[Cost]], base: str) -> str:
    """A Markdown table; ratios are of medians, to the base's. Goes with a peak of memory are for that column alone."""
    with_memory = any(cost.peak for each in costs.values() for cost in each)
    heads = ["", "wall, s", "controller CPU, s", *(["peak memory, MiB"] if with_memory else [])]
    heads += ["CPU of a machine, s", "processes on a machine", f"wall / {base}", f"CPU / {base}"]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), f"|{'---|' * len(heads)}"]
    for name, each in costs.items():
        goes = _without_memory(each)
        cells = [name, spread([cost.wall for cost in goes], 2), spread([cost.cpu for cost in goes], 2)]
        cells += [f"{max(cost.peak for cost in each):.0f}"] if with_memory else []
        cells += [spread([cost.machine_cpu for cost in goes], 2), spread([cost.processes for cost in goes], 0)]
        cells += [f"{_median(costs, name, read) / _median(costs, base, read):.2f}" for read in (_wall, _cpu)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _wall(cost: Cost) -> float:
    return cost.wall


def _cpu(cost: Cost) -> float:
    return cost.cpu


def _without_memory(each: Sequence[Cost]) -> list[Cost]:
    return [cost for cost in each if not cost.peak] or list(each)


def _median(costs: Mapping[str, Sequence[Cost]], name: str, read: Callable[[Cost], float]) -> float:
    return statistics.median(map(read, _without_memory(costs[name])))


def judge(costs: Mapping[str, Sequence[Cost]], goals: Sequence[Goal]) -> str:
    """Return a line for each goal whose contenders were measured: what came out, and whether that is reached."""
    lines = []
    for goal in goals:
        if goal.contender in costs and goal.base in costs:
            own, other = (_median(costs, name, goal.read) for name in (goal.contender, goal.base))
            result = own - other if goal.is_difference else own / other
            sign = "-" if goal.is_difference else "/"
            verdict = "reached" if result <= goal.most else "missed"
            lines.append(
                f"{goal.measure}: {goal.contender} {sign} {goal.base} = {result:.2f}, goal {goal.most:g}: {verdict}"
            )
    return "\n".join(lines)


def about(hosts: Sequence[LabHost], rounds: int) -> str:
    """What was measured where."""
    versions = subprocess.run(
        [str(PROGRAMS / "python"), "-m", "pip", "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    named = [line for line in versions if line.startswith(("ansible-core", "pyinfra", "paramiko"))]
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    return (
        f"{len(hosts)} lab machines ({hosts[0].flavour}) on the controller itself ({os.cpu_count()} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}); {rounds} rounds, medians (lowest-highest); "
        f"{ssh}, {', '.join(named)}"
    )
