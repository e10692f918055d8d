"""Measures the cost of each test: wall time, processor time with all its processes, and waiting. A plugin of pytest.

    python -m pytest -p tests.ci.meter --costs=build/costs -n 6 …    # writes the measurements
    python -m tests.ci.costs build/costs                             # prints them

Each process of the pool has a control group of its own, with the machines of its lab in it. The kernel counts the
processor time of that group, also of processes that have ended (cpuacct, or cpu.stat), and the time in which a process
of the group was ready and no processor was free (cpu.pressure). Other times of a test are waiting: for a timer, a
network, a disk. Without root there is no such group: then only the processor time of children that ended counts, and
the tables say so.

Limits: the cost of a fixture that several tests share is in the first of them, and the cost of its end in the last.
Work in threads that an earlier test left behind counts for the test that runs then.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

SAMPLE_SECONDS = 5.0
"""How often the use of the machine's processors is noted."""
GROUP_VARIABLE = "LAB_CGROUP"
"""The control group in which the lab makes those of its machines (tests/lab/lab.sh)."""


@dataclass(frozen=True, slots=True)
class TestCost:
    """The cost of one test, from before its fixtures until after them."""

    __test__ = False

    test: str
    process: str
    began: float
    """Seconds since the epoch."""
    wall: float
    """Seconds."""
    processor: float
    """Seconds of processor time, of all processes."""
    stalled: float
    """Seconds in which at least one process was ready and no processor was free."""
    failed: bool = False

    @property
    def waiting(self) -> float:
        """Seconds in which nothing of the test wanted a processor, at least."""
        return max(0.0, self.wall - self.processor - self.stalled)


@dataclass(frozen=True, slots=True)
class PoolProcess:
    """A process of the pool: from its start until it has no more tests."""

    process: str
    began: float
    ended: float
    grouped: bool
    """Whether a control group measured it."""


class Meter:
    """Reads what the control group of this process has used so far."""

    def __init__(self, name: str) -> None:
        """Put this process in a new control group, in all hierarchies that the lab uses.

        Args:
            name: of the group; it is removed by `close`, or by the next meter of that name.
        """
        self.name = name
        self._home: dict[Path, Path] = {}
        self._usage: Callable[[], float] = _ended_children
        self._pressure: Path | None = None
        self.grouped = False
        with suppress(OSError):
            self._enter()

    def _enter(self) -> None:
        for mount, kind, options in _hierarchies():
            group = mount / self.name
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))
            self._home[group] = mount
            if "cpuacct" in options:
                self._usage, self.grouped = partial(_read_usage, group / "cpuacct.usage"), True
            elif kind == "cgroup2":
                if not self.grouped:
                    self._usage, self.grouped = partial(_read_stat, group / "cpu.stat"), True
                pressure = group / "cpu.pressure"
                self._pressure = pressure if pressure.exists() else None

    def processor(self) -> float:
        """Return the processor time so far, in seconds."""
        return self._usage()

    def stalled(self) -> float:
        """Return the seconds so far in which a process waited for a processor; 0 where the kernel does not tell."""
        if self._pressure is None:
            return 0.0
        return int(self._pressure.read_text().partition("total=")[2].split()[0]) / 1e6

    def close(self) -> None:
        """Leave the group; remove it where nothing is in it any more."""
        for group, mount in self._home.items():
            with suppress(OSError):
                (mount / "cgroup.procs").write_text(str(os.getpid()))
                group.rmdir()


def _hierarchies() -> Iterator[tuple[Path, str, list[str]]]:
    """Yield mount point, kind and options of each control group hierarchy but cpuset, as lab.sh does."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpuset" not in options):
            yield Path(mount), kind, options.split(",")


def _read_usage(path: Path) -> float:
    return int(path.read_text()) / 1e9


def _read_stat(path: Path) -> float:
    return int(path.read_text().split()[1]) / 1e6


def _ended_children() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _Writer:
    """Appends one JSON line to a file for each thing that it is given."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", buffering=1)

    def write(self, thing: object) -> None:
        self._file.write(json.dumps(thing) + "\n")

    def close(self) -> None:
        self._file.close()


class PoolMeter:
    """In a process of the pool: notes what each test has used."""

    def __init__(self, folder: Path, process: str) -> None:
        self._process = process
        self._began = time.time()
        self._failed = False
        self._meter = Meter(f"fleetpatch-tests-{process}-{os.getpid()}")
        self._writer = _Writer(folder / f"tests-{process}.jsonl")
        if self._meter.grouped:
            os.environ[GROUP_VARIABLE] = self._meter.name

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note the cost of one test."""
        meter, began, self._failed = self._meter, time.time(), False
        processor, stalled, wall = meter.processor(), meter.stalled(), time.monotonic()
        try:
            return (yield)
        finally:
            cost = TestCost(
                test=item.nodeid,
                process=self._process,
                began=began,
                wall=time.monotonic() - wall,
                processor=meter.processor() - processor,
                stalled=meter.stalled() - stalled,
                failed=self._failed,
            )
            self._writer.write(asdict(cost))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that the test failed."""
        self._failed = self._failed or report.failed

    def pytest_unconfigure(self) -> None:
        """Note how long this process was there."""
        process = PoolProcess(self._process, self._began, time.time(), self._meter.grouped)
        self._writer.write(asdict(process))
        self._writer.close()
        self._meter.close()


class MachineMeter:
    """In the process that hands out the tests: notes how busy the machine's processors are."""

    def __init__(self, folder: Path) -> None:
        self._writer = _Writer(folder / "machine.jsonl")
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        busy, total = _read_processors()
        while not self._ended.wait(SAMPLE_SECONDS):
            busy_now, total_now = _read_processors()
            if total_now > total:
                self._writer.write([round(time.time(), 1), round((busy_now - busy) / (total_now - total), 3)])
            busy, total = busy_now, total_now

    def pytest_unconfigure(self) -> None:
        """End the notes."""
        self._ended.set()
        self._thread.join()
        self._writer.close()


def _read_processors() -> tuple[int, int]:
    """Return busy and all ticks of the machine's processors so far (proc_stat(5))."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --costs."""
    parser.addoption("--costs", metavar="DIR", help="write the cost of each test to DIR; see tests/ci/costs.py")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to measure, if asked to."""
    folder = config.getoption("--costs")
    if not folder:
        return
    path = Path(folder)
    process = os.environ.get("PYTEST_XDIST_WORKER")
    if process is None:
        path.mkdir(parents=True, exist_ok=True)
        for old in path.glob("*.jsonl"):
            old.unlink()
        config.pluginmanager.register(MachineMeter(path), "machine-costs")
    if process is not None or not config.getoption("numprocesses", None):
        config.pluginmanager.register(PoolMeter(path, process or "main"), "test-costs")
