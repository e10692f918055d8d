"""Prints what the tests cost, from what tests/ci/meter.py has measured.

python -m tests.ci.costs build/costs            # tables: folders, files, tests, processes of the pool, the machine
python -m tests.ci.costs build/costs --brief    # the ten dearest tests only
python -m tests.ci.costs build/costs --save     # writes costs.json too: the tests begin with what is dear there
"""

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ci.meter import PoolProcess, TestCost

QUIET_SHARE = 0.7
"""Below this share of the processors in use, a moment counts as one in which more could have run."""
SAVED = Path(__file__).with_name("costs.json")
DEAR_SECONDS = 1.0
"""Files of tests below this are not saved."""
COMPARED_SECONDS = 3.0
"""Files that cost less say little about a machine."""
COMPARED_FILES = 10


@dataclass(frozen=True, slots=True)
class Measurements:
    """All that one run of the tests wrote."""

    tests: list[TestCost]
    processes: list[PoolProcess]
    machine: list[tuple[float, float]]
    """Moments, and the share of the processors that was in use before each."""

    @classmethod
    def read(cls, folder: Path) -> "Measurements":
        """Read a folder that --costs wrote.

        Raises:
            SystemExit: nothing is in it.
        """
        tests, processes = [], []
        for path in sorted(folder.glob("tests-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if "test" in row:
                    tests.append(TestCost(**row))
                else:
                    processes.append(PoolProcess(**row))
        if not tests:
            raise SystemExit(f"costs: {folder} has no measurements: run pytest with -p tests.ci.meter --costs={folder}")
        machine = folder / "machine.jsonl"
        lines = machine.read_text(encoding="utf-8").splitlines() if machine.exists() else []
        return cls(tests, processes, [(moment, share) for moment, share in map(json.loads, lines)])


def find_folder(test: str) -> str:
    """Return the folder of tests that a test is in: two levels, as tests/lab."""
    return "/".join(test.partition("::")[0].split("/")[:2])


def find_file(test: str) -> str:
    """Return the file of a test, below tests/."""
    return test.partition("::")[0].removeprefix("tests/")


def build_table(costs: Iterable[TestCost], name: Callable[[str], str], most: int) -> list[str]:
    """Return the lines of a table: the dearest groups of tests by wall time.

    Args:
        costs: of each test.
        name: returns the group of a test.
        most: how many rows.
    """
    groups: dict[str, list[TestCost]] = defaultdict(list)
    for cost in costs:
        groups[name(cost.test)].append(cost)
    rows = sorted(groups.items(), key=lambda item: -sum(cost.wall for cost in item[1]))
    lines = [f"{'wall s':>9} {'processor':>9} {'stalled':>9} {'waiting':>9} {'tests':>6}"]
    for title, members in rows[:most]:
        sums = [sum(getattr(cost, field) for cost in members) for field in ("wall", "processor", "stalled", "waiting")]
        lines.append(" ".join(f"{figure:9.1f}" for figure in sums) + f" {len(members):6}  {title}")
    if len(rows) > most:
        lines.append(f"(and {len(rows) - most} more)")
    return lines


def build_pool_table(measured: Measurements) -> list[str]:
    """Return the lines of a table: how long each process of the pool had nothing to do, and why."""
    lines = [f"{'there s':>9} {'tests s':>9} {'start s':>9} {'between':>9} {'at end':>9}  process"]
    last_end = max(cost.began + cost.wall for cost in measured.tests)
    for process in sorted(measured.processes, key=lambda process: (len(process.process), process.process)):
        mine = sorted((cost for cost in measured.tests if cost.process == process.process), key=lambda cost: cost.began)
        busy = sum(cost.wall for cost in mine)
        if not mine:
            lines.append(f"{process.ended - process.began:9.1f} {0.0:9.1f}  {process.process}: got no test")
            continue
        start = mine[0].began - process.began
        end = mine[-1].began + mine[-1].wall
        between = max(0.0, end - mine[0].began - busy)
        figures = (process.ended - process.began, busy, start, between, last_end - end)
        lines.append(" ".join(f"{figure:9.1f}" for figure in figures) + f"  {process.process}, last: {mine[-1].test}")
    return lines


def build_machine_lines(measured: Measurements, minutes: float = 1.0) -> list[str]:
    """Return the lines of a chart: the share of the processors in use, by time."""
    if not measured.machine:
        return []
    began = measured.machine[0][0]
    slots: dict[int, list[float]] = defaultdict(list)
    for moment, share in measured.machine:
        slots[int((moment - began) / 60 / minutes)].append(share)
    lines = []
    for slot, shares in sorted(slots.items()):
        share = sum(shares) / len(shares)
        lines.append(f"{slot * minutes:6.0f} min {share:5.0%} {'#' * round(share * 40)}")
    quiet = sum(share < QUIET_SHARE for _, share in measured.machine) / len(measured.machine)
    lines.append(f"below {QUIET_SHARE:.0%} in use: {quiet:.0%} of the time")
    return lines


def build_summary(measured: Measurements) -> str:
    """Return one line: how long all took, and how much of the processors that was."""
    began = min(cost.began for cost in measured.tests)
    wall = max(cost.began + cost.wall for cost in measured.tests) - began
    cores = os.cpu_count() or 1
    processor = sum(cost.processor for cost in measured.tests)
    grouped = all(process.grouped for process in measured.processes)
    how = "with all their processes" if grouped else "without processes that go on: no control groups here"
    return (
        f"{len(measured.tests)} tests in {wall:.0f} s; processor time of the tests {processor:.0f} s ({how}), "
        f"{processor / wall / cores:.0%} of {cores} processors"
    )


@dataclass(frozen=True, slots=True)
class FileCost:
    """What all tests of a file need."""

    processor: float = 1.0
    """Seconds of processor time, of all processes."""
    waiting: float = 0.0
    """Seconds in which nothing of them wanted a processor."""
    tests: int = 1

    @property
    def wall(self) -> float:
        """Seconds that they take one after the other, on a machine that has nothing else to do."""
        return self.processor + self.waiting


def sum_files(costs: Iterable[TestCost]) -> dict[str, FileCost]:
    """Return what each file costs."""
    files: dict[str, list[TestCost]] = defaultdict(list)
    for cost in costs:
        files[cost.test.partition("::")[0]].append(cost)
    return {
        file: FileCost(sum(cost.processor for cost in tests), sum(cost.waiting for cost in tests), len(tests))
        for file, tests in files.items()
    }


def read_costs(path: Path = SAVED) -> dict[str, FileCost]:
    """Read the table of costs; it is empty without a file."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        file: FileCost(float(processor), float(waiting), int(tests))
        for file, (processor, waiting, tests) in rows.items()
    }


def compare_machines(files: Mapping[str, FileCost], saved: Mapping[str, FileCost]) -> float | None:
    """Return how much more processor time the same tests take here than where the saved costs were measured.

    It is the median over files with as many tests as then, so a few files that became dearer do not count as a slower
    machine. None if too few can be compared.
    """
    ratios = [
        cost.processor / saved[file].processor
        for file, cost in files.items()
        if file in saved and saved[file].tests == cost.tests and saved[file].processor >= COMPARED_SECONDS
    ]
    return statistics.median(ratios) if len(ratios) >= COMPARED_FILES else None


def save(files: Mapping[str, FileCost], slowness: float, path: Path = SAVED) -> None:
    """Write the costs of each file that is dear, in seconds of the machine of the first costs."""
    rows = [
        f"{json.dumps(file)}: [{cost.processor / slowness:.0f}, {cost.waiting:.0f}, {cost.tests}]"
        for file, cost in sorted(files.items())
        if cost.processor / slowness + cost.waiting >= DEAR_SECONDS
    ]
    path.write_text("{\n " + ",\n ".join(rows) + "\n}\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.ci.costs", description="Prints what tests cost.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--brief", action="store_true", help="only the summary and the ten dearest tests")
    parser.add_argument("--save", action="store_true", help=f"write {SAVED.name}: later runs begin with what is dear")
    parser.add_argument("--most", type=int, default=40, metavar="N", help="rows of a table (default: 40)")
    asked = parser.parse_args(arguments)
    measured = Measurements.read(asked.folder)
    files = sum_files(measured.tests)
    slowness = compare_machines(files, read_costs())
    print(build_summary(measured))
    if slowness is not None:
        print(f"the same tests took {slowness:.2f} times the processor time that {SAVED.name} has for them")
    if asked.save:
        save(files, slowness or 1.0)
    tests = ("tests", build_table(measured.tests, str, 10 if asked.brief else asked.most))
    tables = (
        [tests]
        if asked.brief
        else [
            ("folders", build_table(measured.tests, find_folder, asked.most)),
            ("files", build_table(measured.tests, find_file, asked.most)),
            tests,
            ("processes of the pool", build_pool_table(measured)),
            ("processors of the machine", build_machine_lines(measured)),
        ]
    )
    for title, lines in tables:
        print("", f"{title}:", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
