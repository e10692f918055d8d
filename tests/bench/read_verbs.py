"""How long each command that only reads takes over the records that tests/bench/big_history.py makes.

    python -m tests.bench.read_verbs FOLDER [--rounds 3]

Each command is a process of its own, as people start it; the table has the medians of its wall time and its CPU.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.bench.big_history import find_large_runs, find_records

VERBS = (
    ("version",),
    ("runs",),
    ("runs", "-n", "1000"),
    ("machines",),
    ("machines", "env=prod,location=fra"),
    ("machines", "--json"),
    ("updates",),
    ("updates", "env=prod,location=fra"),
    ("updates", "--by", "machine"),
    ("updates", "--json"),
    ("show", "{run}"),
    ("show", "{assessed}"),
    ("show", "{run}", "--machine", "web-0006"),
    ("show", "{run}", "--machine", "web-0006", "--log"),
    ("show", "{run}", "--machine", "web-0006", "--journal"),
    ("show", "{run}", "--journal"),
    ("show", "{run}", "--json"),
    ("why", "web-0006"),
    ("why", "web-0006", "package-3*"),
    ("approvals",),
    ("audit", "list"),
    ("calendar",),
    ("sets",),
    ("history",),
    ("inventory", "list"),
    ("query", "SELECT * FROM machines"),
    ("query", "SELECT state, count(*) FROM outcomes GROUP BY state"),
)


TARGET_SECONDS = 1.0
"""Of the median of each page and each command that only reads."""


def _time_command(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        error = done.stderr[:500].decode(errors="replace")
        print(f"{' '.join(command[3:])}: exit {done.returncode}: {error}", file=sys.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_verbs(folder: Path, rounds: int = 3, only: str = "") -> None:
    """Print the medians of the wall time and the CPU of each command, and which are too slow.

    Args:
        folder: of tests/bench/big_history.py.
        rounds: how often each command is started.
        only: a word that the commands have; "": all.
    """
    url = find_records(folder)
    environment = {
        **os.environ,
        "FLEETPATCH_RECORDS_URL": url,
        "FLEETPATCH_INVENTORY": str(folder / "fleet.yaml"),
        "FLEETPATCH_CONFIGURATIONS": str(folder / "configurations"),
        "COLUMNS": "120",
    }
    with open_records(url) as records:
        runs = {
            "run": find_large_runs(records)[0],
            "assessed": History(records).read_runs(1, kind="assess")[0].id,
        }
    print("| command | wall, s | CPU, s |\n|---|---|---|")
    medians: dict[str, float] = {}
    for verb in VERBS:
        shown = " ".join(verb)
        if only not in shown:
            continue
        command = [sys.executable, "-m", "fleetpatch.cli.command", *(argument.format(**runs) for argument in verb)]
        costs = [_time_command(command, environment) for _ in range(rounds)]
        wall, cpu = (statistics.median(cost) for cost in zip(*costs, strict=True))
        shown = shown.replace("{assessed}", "ASSESS-RUN").replace("{run}", "RUN")
        medians[shown] = wall
        print(f"| {shown} | {wall:.2f} | {cpu:.2f} |", flush=True)
    print(f"\n{describe_slow('commands', medians)}")


def describe_slow(noun: str, medians: Mapping[str, float]) -> str:
    """Return how many medians, in seconds, are within the target, and which are not."""
    slow = [name for name, seconds in medians.items() if seconds >= TARGET_SECONDS]
    rest = f"; not: {', '.join(slow)}" if slow else ""
    return f"{len(medians) - len(slow)} of {len(medians)} {noun} take less than {TARGET_SECONDS:.0f} s{rest}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a word that the command has")
    options = parser.parse_args()
    measure_verbs(options.folder.absolute(), options.rounds, options.only)


if __name__ == "__main__":
    main()
