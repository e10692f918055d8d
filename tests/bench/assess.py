"""What an assessment of 20 machines costs the controller: fleetpatch beside OpenSSH, Ansible and pyinfra.

    make bench ARGS="--hosts 20 --rounds 5"

Boots lab machines of its own, and removes them. Everything is measured in one run, the order turned round after each
round, after one round that only warms caches. Memory is taken in a round of its own, as looking at it costs time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import contenders
from tests.bench.contenders import Contender, errors_of
from tests.lab.fleet import Lab, LabHost

TOP = Path(__file__).resolve().parents[2]
PROGRAMS = TOP / "build" / "bench" / "bin"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True)
class Cost:
    """Of one go: seconds, seconds, and at most: MiB, threads, TCP connections (0 when these were not looked at)."""

    wall: float
    cpu: float
    peak: float
    threads: int = 0
    connections: int = 0


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


def compete(field: Sequence[Contender], hosts: int, rounds: int) -> dict[str, list[Cost]]:
    """Everybody's costs, round by round; the last is the one in which memory was looked at."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in field}
    for number in range(rounds + 1):
        for contender in field if number % 2 else reversed(field):
            cost = measure(contender, hosts)
            print(
                f"round {number or 'warm-up'}: {contender.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s",
                file=sys.stderr,
            )
            if number:
                costs[contender.name].append(cost)
    for contender in field:
        costs[contender.name].append(measure(contender, hosts, memory=True))
    return costs


def spread(values: list[float], digits: int) -> str:
    """Median, and lowest to highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(costs: dict[str, list[Cost]], base: str) -> str:
    """A Markdown table; ratios are of medians, to the base's."""
    lines = [
        f"| | wall, s | controller CPU, s | peak memory, MiB | wall / {base} | CPU / {base} |",
        "|---|---|---|---|---|---|",
    ]
    walls = {name: [cost.wall for cost in each[:-1]] for name, each in costs.items()}
    cpus = {name: [cost.cpu for cost in each[:-1]] for name, each in costs.items()}
    for name, each in costs.items():
        ratios = [statistics.median(of[name]) / statistics.median(of[base]) for of in (walls, cpus)]
        cells = [name, spread(walls[name], 2), spread(cpus[name], 2), f"{each[-1].peak:.0f}"]
        lines.append(f"| {' | '.join([*cells, *(f'{ratio:.2f}' for ratio in ratios)])} |")
    return "\n".join(lines)


def about(hosts: list[LabHost], rounds: int) -> str:
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
        f"{len(hosts)} lab machines on the controller itself ({os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}); {rounds} rounds, medians (lowest-highest); {ssh}, {', '.join(named)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--without", action="append", default=[], choices=["openssh", "ansible", "pyinfra", "fleetpatch"]
    )
    options = parser.parse_args()
    prepare_programs()
    with Lab("bench") as lab, tempfile.TemporaryDirectory() as folder:
        lab.down()
        hosts = lab.up(options.hosts)
        work = Path(folder)
        ways = {
            "openssh": lambda: contenders.openssh(hosts, work),
            "ansible": lambda: contenders.ansible(hosts, work, PROGRAMS),
            "pyinfra": lambda: contenders.pyinfra(hosts, work, PROGRAMS),
            "fleetpatch": lambda: contenders.fleetpatch(hosts, work),
        }
        field = [make() for name, make in ways.items() if name not in options.without]
        costs = compete(field, len(hosts), options.rounds)
        print(f"\n{about(hosts, options.rounds)}\n\n{table(costs, field[0].name)}")


if __name__ == "__main__":
    main()
