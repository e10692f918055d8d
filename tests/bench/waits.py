"""How soon a run sees what happened on a machine, and where it waits between two scripts.

    python -m tests.bench.waits --flavour dnf

One lab machine is patched and rebooted by the engine in this process. The machine's clock is the controller's: it says
when a job began and ended (its files), and when it accepted connections again. The run saw that when its next script
ended. A wait of 0.1 s or longer is shown with the scripts before and after it. Measure on a quiet machine.
"""

import argparse
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.scripts import watch_scripts
from tests.lab.engine import Fleet
from tests.lab.fleet import Lab, LabHost

GOAL_SECONDS: Final = 0.5
_SHORTEST_GAP_SECONDS: Final = 0.1
_KNOCK_SECONDS: Final = 0.02
_JOBS: Final = "var/lib/fleetpatch/jobs"


@dataclass(frozen=True)
class Visit:
    """One script that a machine has run: from when until when, in seconds since 1970."""

    script: str
    began: float
    ended: float
    failed: bool


@dataclass(frozen=True)
class Delay:
    """What happened on a machine, and how many seconds later the run was told."""

    event: str
    seconds: float


@contextmanager
def watch_visits() -> Iterator[list[Visit]]:
    """Give a list to which each script that this process runs on a machine is added, also one without an answer."""
    visits: list[Visit] = []

    @contextmanager
    def record_visit(script: str) -> Iterator[None]:
        began, failed = time.time(), True
        try:
            yield
            failed = False
        finally:
            visits.append(Visit(script, began, time.time(), failed))

    with watch_scripts(record_visit):
        yield visits


@contextmanager
def watch_port(host: LabHost) -> Iterator[list[float]]:
    """Give a list of the times at which the machine accepted connections again."""
    times: list[float] = []
    is_over = threading.Event()

    def knock() -> None:
        was_open = True
        while not is_over.wait(_KNOCK_SECONDS):
            with contextlib.suppress(OSError), socket.create_connection((host.address, 22), timeout=1) as connection:
                connection.settimeout(1)
                if connection.recv(4) == b"SSH-":
                    if not was_open:
                        times.append(time.time())
                    was_open = True
                    continue
            was_open = False

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield times
    finally:
        is_over.set()
        thread.join()


def find_delays(host: LabHost, visits: Sequence[Visit], boots: Sequence[float]) -> list[Delay]:
    """Return when the run was told of each job's begin and end, and of each boot."""
    delays = []
    for begin in sorted((host.root / _JOBS).glob("*/meta"), key=lambda meta: meta.stat().st_mtime):
        name = f"the job {begin.parent.name.split('-')[-3]}"
        delays.append(_find_delay(f"{name} began", begin.stat().st_mtime, visits))
        delays.append(_find_delay(f"{name} ended", begin.with_name("rc").stat().st_mtime, visits))
    return delays + [_find_delay("the machine accepts logins again", at, visits) for at in boots]


def _find_delay(event: str, at: float, visits: Sequence[Visit]) -> Delay:
    told = next(visit.ended for visit in visits if visit.ended >= at and not visit.failed)
    return Delay(event, told - at)


def write_table(delays: Sequence[Delay], visits: Sequence[Visit]) -> str:
    """Return the delays, and what lies between scripts, as Markdown."""
    lines = ["| event | told after, s | |", "|---|---|---|"]
    lines += [
        f"| {delay.event} | {delay.seconds:.2f} | {'' if delay.seconds <= GOAL_SECONDS else 'missed'} |"
        for delay in delays
    ]
    lines += ["", "| between | s |", "|---|---|"]
    for before, after in pairwise(visits):
        if after.began - before.ended >= _SHORTEST_GAP_SECONDS:
            lines.append(f"| {before.script} and {after.script} | {after.began - before.ended:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flavour", choices=["apt", "dnf", "zypper"], default="apt")
    parser.add_argument("--lab", default="bench-waits", help="Name of the lab that is made, and removed.")
    options = parser.parse_args()
    with Lab(options.lab) as lab, tempfile.TemporaryDirectory() as folder:
        lab.down()
        (host,) = lab.up(1, options.flavour)
        with watch_port(host) as boots, watch_visits() as visits:
            Fleet([host], Path(folder)).patch(reboot="Always")
        print(write_table(find_delays(host, visits, boots), visits))


if __name__ == "__main__":
    main()
