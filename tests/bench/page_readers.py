"""Measures the pages of tests/bench/pages.py with many readers at the same time, and the memory of the server.

    python -m tests.bench.page_readers FOLDER [--readers 20] [--streams 20] [--requests 2000] [--writes-seconds 5]

Each reader has one connection over a socket and asks for one page after the other; streams stay open meanwhile, and a
new assessment is stored now and then. The table has the median, the 95th percentile and the worst time of each page,
without other readers and with them. The memory is that of the server's process, after each quarter of the requests.
"""

import argparse
import http.client
import itertools
import multiprocessing
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import select

from fleetpatch.machines.fleet_reader import WAIT_SECONDS
from tasks.records.page_schema import run_progress
from tasks.records.setup import open_records
from tests.bench.big_history import find_records, make_assessments
from tests.bench.pages import require_readable_files
from tests.support.web_fleet_runs import save_live_run
from tests.support.web_site import serve_site

PAGES = {
    "overview": "/",
    "overview, a year": "/?days=365",
    "machines": "/machines",
    "runs": "/runs",
    "calendar": "/calendar",
    "updates": "/updates",
}
STREAM = "/live/runs"
ALONE = 20
QUARTERS = 4


@dataclass
class Measured:
    """What readers saw: milliseconds of each page, answers that were no pages, and how many events streams had."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    events: int = 0


def serve(folder: Path, said: Connection, is_over: Event) -> None:
    """Serve the pages in a process of their own."""
    with serve_site(folder, database=find_records(folder)) as site:
        site.context.fleet.wait_seconds = WAIT_SECONDS
        require_readable_files(site)
        said.send(site.url)
        is_over.wait()


def read_memory(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def read_pages(address: str, first: int, count: int, measured: Measured) -> None:
    """Ask for one page after the other on one connection."""
    connection = http.client.HTTPConnection(address, timeout=120)
    for what, path in itertools.islice(itertools.cycle(PAGES.items()), first, first + count):
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "text/html"})
        answer = connection.getresponse()
        answer.read()
        measured.times[what].append(1000 * (time.perf_counter() - began))
        if answer.status != http.HTTPStatus.OK:
            measured.wrong.append(f"{path}: {answer.status}")
    connection.close()


def follow(address: str, is_over: threading.Event, measured: Measured) -> None:
    """Keep a stream open, and open another one when it ends, as a browser does."""
    while not is_over.is_set():
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", STREAM)
        answer = connection.getresponse()
        while not is_over.is_set() and (line := answer.readline()):
            measured.events += line.startswith(b"event:")
        connection.close()


def store_assessments(folder: Path, seconds: float, is_over: threading.Event) -> None:
    """Store an assessment again and again, so that what the server keeps is never current for long."""
    with open_records(find_records(folder)) as records:
        while not is_over.wait(seconds):
            records.save(make_assessments(1, "measured", datetime.now(UTC) - timedelta(minutes=1))[0])


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Serve the pages until the end of the block. Yield the address and the id of the process."""
    ours, theirs = multiprocessing.Pipe()
    is_over = multiprocessing.Event()
    process = multiprocessing.Process(target=serve, args=(folder, theirs, is_over), name="pages")
    process.start()
    try:
        assert process.pid is not None
        yield urlsplit(ours.recv()).netloc, process.pid
    finally:
        is_over.set()
        process.join(60)


def read_together(address: str, readers: int, count: int, measured: Measured) -> None:
    """Let readers ask at the same time until each has its share of the answers."""
    share = -(-count // readers)
    threads = [
        threading.Thread(target=read_pages, args=(address, number, share, measured)) for number in range(readers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def show(title: str, measured: Measured) -> None:
    """Print the table."""
    print(f"\n| {title} | median, ms | 95 %, ms | worst, ms | answers |\n|---|---|---|---|---|")
    for what, times in measured.times.items():
        most = statistics.quantiles(times, n=20)[-1]
        print(f"| {what} | {statistics.median(times):.0f} | {most:.0f} | {max(times):.0f} | {len(times)} |")
    print(f"{measured.events} events of streams; wrong answers: {measured.wrong[:5] or 'none'}", flush=True)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measure alone, and with the others."""
    with served(folder) as (address, pid):
        read_pages(address, 0, len(PAGES), Measured())  # reads everything
        alone = Measured()
        read_pages(address, 0, ALONE * len(PAGES), alone)
        show("one reader", alone)
        is_over, together = threading.Event(), Measured()
        others = [
            threading.Thread(target=follow, args=(address, is_over, together), daemon=True)
            for _ in range(options.streams)
        ]
        others.append(
            threading.Thread(target=store_assessments, args=(folder, options.writes_seconds, is_over), daemon=True)
        )
        for each in others:
            each.start()
        memory, began = [read_memory(pid)], time.monotonic()
        for _ in range(QUARTERS):
            read_together(address, options.readers, options.requests // QUARTERS, together)
            memory.append(read_memory(pid))
        seconds = time.monotonic() - began
        is_over.set()
        show(f"{options.readers} readers, {options.streams} streams", together)
        answers = sum(map(len, together.times.values()))
        print(f"{answers / seconds:.0f} answers a second; memory: {', '.join(f'{each:.0f}' for each in memory)} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--writes-seconds", type=float, default=5)
    options = parser.parse_args()
    folder: Path = options.folder
    with open_records(find_records(folder)) as records:
        if not records.database.read_rows("look for a live run", select(run_progress).limit(1)):
            save_live_run(records, datetime.now(UTC))
    measure(folder, options)


if __name__ == "__main__":
    main()
