"""What one large run costs, and what Prefect knows of it: real engine, records and Prefect server on PostgreSQL.

    python -m tests.bench.scale --machines 500 1000 2000      # needs PostgreSQL's programs
    python -m tests.bench.scale --sites 2                     # machines behind SSH, a worker for each site (sites.py)

Without sites, the machines are simulated, on a real clock: each has three updates, and its job takes a second. Each
run is a process of its own, with records of its own, on the same servers. Beside it a thread asks Prefect's API four
times a second: for its health, and for the latest flow runs. The longest time between two answers to both is the
silence.
"""

import argparse
import json
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from flows.prefect_api.server_settings import BATCH_SETTINGS
from tests.support.free_port import free_port
from tests.support.postgres import Server as Postgres
from tests.support.postgres import own_server
from tests.support.prefect_server import PrefectServer
from tests.support.prefect_tables import make_postgres_database

PROBE_SECONDS = 0.25
SETTLE_SECONDS = 60.0
"""After a run, Prefect's database is asked again until nothing more has arrived for so long."""
COLUMNS = (
    "machines",
    "wall, s",
    "CPU of a machine, ms",
    "peak memory, MiB",
    "threads",
    "longest silence, s",
    "task runs begun",
    "of these ended in Prefect",
    "counted as lost by the run",
    "events",
    "log lines",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What the process of a run measured of itself.

    Attributes:
        cpu: user and system time, s.
        peak: the most memory, MiB.
        begun: task runs that it began.
        events: events of task runs that it sent.
        message: what the report says.
    """

    flow_run_id: str
    wall: float
    cpu: float
    peak: float
    threads: int
    begun: int
    events: int
    patched: int
    message: str


class Prober:
    """Asks Prefect's API in a thread of its own, and keeps the longest time without an answer, and when it was."""

    def __init__(self, url: str) -> None:
        self._url, self._over = url, threading.Event()
        self.longest, self.when = 0.0, (0.0, 0.0)
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        answered_at = time.monotonic()
        with httpx.Client(timeout=60.0, headers=read_token(self._url)) as client:
            while not self._over.wait(PROBE_SECONDS):
                with suppress(httpx.HTTPError):
                    client.get(f"{self._url}/health").raise_for_status()
                    latest = {"limit": 5, "sort": "START_TIME_DESC"}
                    client.post(f"{self._url}/flow_runs/filter", json=latest).raise_for_status()
                    self._note(answered_at, PROBE_SECONDS)
                    answered_at = time.monotonic()
        self._note(answered_at, 0.0)

    def _note(self, answered_at: float, waited: float) -> None:
        now = time.monotonic()
        if now - answered_at - waited > self.longest:
            self.longest, self.when = now - answered_at - waited, (answered_at + waited, now)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Ask until the end of the block, and wait for the last answer."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def read_token(url: str) -> dict[str, str]:
    """Return the headers that a server with our settings wants of each program that posts; {} if it wants none."""
    name = str(uuid4())
    answer = httpx.get(f"{url}/csrf-token", params={"client": name}, timeout=60.0)
    if answer.is_error:
        return {}
    return {"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": answer.json()["token"]}


def execute_run(machines: int, at_once: int) -> Run:
    """Patch so many machines by the real flow, in this process."""
    # what reads the environment, and what a run needs, is loaded in the process of a run alone
    from prefect import task_engine
    from prefect.utilities.engine import emit_task_run_state_change_event

    import flows.execution
    from flows.patch import patch_fleet
    from tasks.records.queries.history import History
    from tasks.records.setup import open_records
    from tests.flows.cli_on_fakes import WallClock
    from tests.support.fake_packages import FakePackage
    from tests.support.fleet import SimFleet

    fleet = SimFleet(clock=WallClock())
    for number in range(machines):
        fleet.add(f"m{number:05}", [FakePackage(f"p{update}", seconds=0.3, group="g") for update in range(3)])

    @contextmanager
    def open_ports(_request: object, caller: Any) -> Iterator[Any]:
        with open_records(caller.records_url) as records:
            made = replace(fleet.ports(), records=records, leases=records.leases)
            yield replace(made, listener=caller.listener, stop_token=caller.stop_token)

    setattr(flows.execution, "open_ports", open_ports)  # noqa: B010
    task_run_ids: set[object] = set()
    events = 0

    def count_event(task_run: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal events
        task_run_ids.add(task_run.id)
        events += 1
        return emit_task_run_state_change_event(task_run, *arguments, **options)

    setattr(task_engine, "emit_task_run_state_change_event", count_event)  # noqa: B010
    threads, over = 0, threading.Event()

    def count_threads() -> None:
        nonlocal threads
        while not over.wait(0.2):
            threads = max(threads, len(os.listdir("/proc/self/task")) - 1)  # noqa: PTH208 - this thread does not count

    threading.Thread(target=count_threads, daemon=True).start()
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    request = fleet.request(waves={"percent": 25, "at_once": at_once}, assess_at_once=at_once, come_back_seconds=0)
    state = patch_fleet(request, return_state=True)
    wall, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    over.set()
    with open_records(None) as records:
        (ended,) = History(records).read_runs()
        report = History(records).read_report(ended.id)
    return Run(
        flow_run_id=str(state.state_details.flow_run_id),
        wall=wall,
        cpu=now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        peak=now.ru_maxrss / 1024,
        threads=threads,
        begun=len(task_run_ids),
        events=events,
        patched=sum(outcome.state.value == "Succeeded" for outcome in report.outcomes),
        message=ended.message,
    )


def count_rows(postgres: Postgres, flow_run_id: str) -> tuple[int, int]:
    """Return the task runs of a flow run that have an end in Prefect's database, and its lines of the log."""
    ended = (
        "SELECT count(*) FROM task_run WHERE flow_run_id = %s"
        " AND state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')"
    )
    lines = "SELECT count(*) FROM log WHERE flow_run_id = %s"
    with psycopg.connect(f"host={postgres.folder} user=postgres dbname=prefect") as connection:
        counts = [row[0] for query in (ended, lines) for row in connection.execute(query, (flow_run_id,))]
    return counts[0], counts[1]


def measure(server: PrefectServer, postgres: Postgres, machines: int, at_once: int) -> Sequence[str]:
    """Carry one run out on a server that was just started, and return its row of the table."""
    database = f"fleet_{uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {database} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
    answer, prober = server.home / f"{database}.json", Prober(server.url)
    settings = {"FLEETPATCH_RECORDS_URL": postgres.url(database), "PREFECT_LOGGING_LEVEL": "INFO"}
    server.start()
    with prober.watch():
        words = ("-m", "tests.bench.scale", "--at-once", str(at_once), "--write", str(answer), str(machines))
        code = server.run(*words, log=server.home / f"{database}.log", **settings).wait()
        if code != 0 or not answer.exists():
            raise RuntimeError((server.home / f"{database}.log").read_text()[-3000:])
        run = Run(**json.loads(answer.read_text()))
        counts, changed = count_rows(postgres, run.flow_run_id), time.monotonic()
        while counts[0] < run.begun and time.monotonic() - changed < SETTLE_SECONDS:
            time.sleep(2)
            if (present := count_rows(postgres, run.flow_run_id)) != counts:
                counts, changed = present, time.monotonic()
    print(f"{machines} machines: {run.patched} patched; {run.message or 'no message'}", file=sys.stderr, flush=True)
    server.remove()
    return build_row(machines, run, prober.longest, *counts)


def build_row(machines: int, run: Run, silence: float, ended: int, log_lines: int) -> Sequence[str]:
    """Return the row of a run in the table."""
    lost = re.search(r"((up to )?[\d\u202f]+) task run", run.message)
    return (
        f"{machines}",
        f"{run.wall:.0f}",
        f"{1000 * run.cpu / machines:.0f}",
        f"{run.peak:.0f}",
        f"{run.threads}",
        f"{silence:.1f}",
        f"{run.begun}",
        f"{ended}",
        lost[1] if lost else "0",
        f"{run.events}",
        f"{log_lines}",
    )


def write_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, and how much each size needs of the smallest one's wall time, CPU and memory."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    first = dict(zip(COLUMNS, rows[0], strict=True))

    def compare(row: Sequence[str], column: str) -> str:
        return f"{float(dict(zip(COLUMNS, row, strict=True))[column]) / max(1.0, float(first[column])):.2f}"

    ratios = [
        f"{row[0]} / {rows[0][0]} machines: {', '.join(f'{compare(row, name)} x {name}' for name in COLUMNS[1:5])}"
        for row in rows[1:]
    ]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *ratios])


def main() -> None:
    """Measure each size, the smallest first, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machines", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--sites", type=int, default=0, help="over SSH, with so many sites and workers")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("size", type=int, nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        run = execute_run(options.size, options.at_once)
        options.write.write_text(json.dumps({name: getattr(run, name) for name in Run.__slots__}))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it has started ends with it
    if options.sites:
        from tests.bench import sites

        print(sites.measure_sizes(sorted(set(options.machines)), options.sites, options.at_once), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder, own_server() as postgres:
        settings = {setting.name: setting.value for setting in BATCH_SETTINGS}
        server = PrefectServer(Path(folder), free_port(), make_postgres_database(postgres), settings=settings)
        rows = []
        try:
            for machines in sorted(set(options.machines)):
                rows.append(measure(server, postgres, machines, options.at_once))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
        finally:
            server.remove()
        print(write_table(rows), flush=True)


if __name__ == "__main__":
    main()
