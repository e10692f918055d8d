"""Runs the tests that are near to a change, in under three minutes: for work in between, never instead of .ci/run.

    python -m tests.ci.near [--since REV] [--seconds 150] [--list] [what pytest understands]

The change is what differs from REV, and new files. Without --since it is what is not committed; if there is nothing,
the last commit. A test file's distance is the number of steps from a changed file to it; a step leads from a file to
one that refers to it (references.py). Nearer files come first, and of those with one distance the cheaper ones. They
are taken while the estimate stays within the seconds, and the program says what it left out. costs.json has the costs;
a file without a row there counts as one second. On a machine that is slower than the one of costs.json, no test begins
that would end after these seconds, and pytest says which did not begin (latest_start.py).

The exit code is pytest's: 5 also if no test is near, and 6 if none failed and some did not begin.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tests import conftest
from tests.ci import tree
from tests.ci.costs import SAVED, FileCost, read_costs
from tests.ci.references import REFERRING, References, is_test, read_imports
from tests.ci.release_tests import is_release_test
from tests.ci.tree import TOP

START_SECONDS = 12.0
"""Until the first test begins: pytest, its processes, and what they import."""
SHOWN = 10
"""So many of the files that are left out are named."""
NO_TESTS = 5


@dataclass(frozen=True, slots=True)
class NearTest:
    """A test file, and how far it is from the change."""

    file: str
    distance: int
    cost: FileCost

    def __str__(self) -> str:
        return f"{self.distance:4} {self.cost.wall:7.1f} s  {self.file}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the tests run."""

    cores: int
    jobs: int
    """Processes of pytest-xdist."""

    def estimate_seconds(self, tests: Iterable[NearTest]) -> float:
        """Return how long tests take together: as long as the cores, all processes, or the busiest of them need.

        tests/conftest.py says what runs in one process, one after the other.
        """
        processor, wall, processes = 0.0, 0.0, defaultdict[str, float](float)
        for test in tests:
            processor += test.cost.processor
            wall += test.cost.wall
            parts = max(1, min(test.cost.tests, self.jobs)) if test.file in conftest.SPREAD else 1
            processes[conftest._find_scope(test.file)] += test.cost.wall / parts
        return START_SECONDS + max(processor / self.cores, wall / self.jobs, *processes.values(), 0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which near tests run."""

    taken: tuple[NearTest, ...]
    left_out: tuple[NearTest, ...]
    """Those that the seconds do not allow, the nearest first."""
    seconds: float
    """How long the taken ones take, estimated."""


def measure_distances(changed: Iterable[str], find_referrers: Callable[[str], Iterable[str]]) -> dict[str, int]:
    """Return how many steps each file is from the nearest changed one; files without a way to one are not in it.

    Args:
        changed: files; their distance is 0.
        find_referrers: returns the files that refer to a file.
    """
    distances = dict.fromkeys(changed, 0)
    waiting = deque(distances)
    while waiting:
        file = waiting.popleft()
        for referrer in find_referrers(file):
            if referrer not in distances:
                distances[referrer] = distances[file] + 1
                waiting.append(referrer)
    return distances


def choose_tests(
    distances: Mapping[str, int],
    costs: Mapping[str, FileCost],
    seconds: float,
    estimate: Callable[[list[NearTest]], float],
) -> Choice:
    """Take the nearest test files whose estimate is within the seconds; the very nearest also if it alone is not.

    Args:
        distances: of test files.
        costs: of test files; one without counts as ``FileCost()``.
        seconds: for all of them.
        estimate: returns how many seconds tests take together.
    """
    tests = [NearTest(file, distance, costs.get(file, FileCost())) for file, distance in distances.items()]
    taken: list[NearTest] = []
    left_out: list[NearTest] = []
    for test in sorted(tests, key=lambda test: (test.distance, test.cost.wall, test.file)):
        fits = not taken or estimate([*taken, test]) <= seconds
        (taken if fits else left_out).append(test)
    return Choice(tuple(taken), tuple(left_out), estimate(taken))


def _ask_git(*words: str) -> list[str]:
    """Return the file names that git lists.

    Raises:
        SystemExit: git can't, for instance because there is no such revision.
    """
    done = subprocess.run(["git", *words], cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"near: git {' '.join(words)}: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name]


def find_change(since: str | None) -> tuple[str, list[str]]:
    """Return the revision that the files are compared with, and those that changed since, or are new, or gone.

    Args:
        since: the revision; None: the newest one, or the one before if nothing is uncommitted.
    """
    new = _ask_git("ls-files", "-z", "--others", "--exclude-standard")
    if since is None:
        since = "HEAD" if new or _ask_git("diff", "-z", "--name-only", "HEAD", "--") else "HEAD~1"
    changed = _ask_git("diff", "-z", "--name-only", "--no-renames", since, "--")
    return since, sorted({*changed, *new})


def read_references(changed: Sequence[str]) -> References:
    """Look through this checkout.

    Args:
        changed: some of these files may be gone.
    """
    paths = {tree.name(path): path for path in tree.files()}
    texts = {
        file: path.read_text(encoding="utf-8", errors="replace")
        for file, path in paths.items()
        if path.suffix in REFERRING
    }
    return References(texts, {*paths, *changed}, read_imports())


def _is_played(file: str) -> bool:
    """Return whether a file has tests of a change: it may be gone, and some are only for releases."""
    return is_test(file) and (TOP / file).is_file() and not is_release_test(f"{file}::")


def find_near_tests(changed: Sequence[str], references: References) -> tuple[dict[str, int], list[str]]:
    """Return the distances of test files, and the changed files that no test is near to."""

    def find_referrers(file: str) -> Iterable[str]:
        more = references.find_submodules(file) if file in changed else ()
        return {*references.find_referrers(file), *more}

    nearest: dict[str, int] = {}
    alone = []
    for file in changed:
        distances = measure_distances([file], find_referrers)
        tests = {test: distance for test, distance in distances.items() if _is_played(test)}
        if not tests:
            alone.append(file)
        for test, distance in tests.items():
            nearest[test] = min(distance, nearest.get(test, distance))
    return nearest, alone


def build_lines(choice: Choice, seconds: float, complete: bool) -> list[str]:
    """Return what is said of a choice.

    Args:
        choice: the tests.
        seconds: that they were given.
        complete: name each test file that runs, not only how many of each distance.
    """
    total = len(choice.taken) + len(choice.left_out)
    lines = [f"near: {len(choice.taken)} of {total} near test files, about {choice.seconds:.0f} s of {seconds:.0f} s"]
    if choice.seconds > seconds:
        lines.append("near: the nearest file alone takes longer")
    if complete:
        lines += ["distance, cost", *map(str, choice.taken)]
    else:
        counts = sorted(Counter(test.distance for test in choice.taken).items())
        lines.append("near: " + ", ".join(f"{count} with distance {distance}" for distance, count in counts))
    if choice.left_out:
        lines.append(f"near: left out for time: {len(choice.left_out)} files; the nearest:")
        lines += map(str, choice.left_out[:SHOWN])
    return lines


def run_tests(files: Sequence[str], jobs: int, end: float, words: Sequence[str]) -> NoReturn:
    """Run pytest in place of this process: its exit code counts, and an interrupt is its alone.

    Args:
        files: with tests.
        jobs: processes of pytest.
        end: seconds since 1970; no test begins that would end later.
        words: more for pytest.
    """
    os.chdir(TOP)
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--no-loadscope-reorder"]
    command += ["-p", "tests.ci.latest_start", f"--end={end:.0f}", *files, *words]
    os.execv(sys.executable, command)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ci.near",
        description="Runs the tests that are near to a change. Other arguments are for pytest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--since", metavar="REV", help="compare with REV (default: HEAD, or HEAD~1 if that is no change)"
    )
    parser.add_argument("--seconds", type=float, default=150.0, metavar="N", help="so long it may take (default: 150)")
    parser.add_argument("--jobs", type=int, default=7, metavar="N", help="processes of pytest (default: 7)")
    parser.add_argument("--list", action="store_true", help="say which test files would run, and run none")
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Say what is near, and run it."""
    began = time.time()
    asked, words = _parse(arguments)
    since, changed = find_change(asked.since)
    print(f"near: this checkout compared with {since}: {len(changed)} files changed", *changed, sep="\n  ")
    nearest, alone = find_near_tests(changed, read_references(changed)) if changed else ({}, [])
    for file in alone:
        print(f"near: nothing is near {file}: only the whole run tests it")
    if not nearest:
        print("near: no test is near, and none was run")
        return NO_TESTS
    costs = read_costs()
    if not costs:
        print(f"near: there is no {SAVED.name}: each file counts as {FileCost().wall:.0f} s")
    machine = Machine(os.cpu_count() or 1, max(1, asked.jobs))
    choice = choose_tests(nearest, costs, asked.seconds, machine.estimate_seconds)
    print(*build_lines(choice, asked.seconds, asked.list), sep="\n", flush=True)
    if not asked.list:
        run_tests([test.file for test in choice.taken], asked.jobs, began + asked.seconds, words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
