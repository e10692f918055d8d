"""One run of several sites, through everything but the machines' own work: ``python -m tests.bench.scale --sites 2``.

Machines are addresses of a real SSH server on the loopback, which answers what a real machine answered
(``tests.bench.answering``). Prefect's server and the records are on one PostgreSQL. ``fleetpatch deploy`` makes the
pools and deployments, each site has a process worker, and the run is started by its deployment: it carries no machine
out itself, its shards do. A process is counted until its end: CPU by the worker that has waited for it, memory by the
kernel's high-water mark, read five times a second.
"""

import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from deployments.server.settings import build_environment
from flows.prefect_api.server_settings import SettingTarget
from tasks.domain.states import OperationState
from tests.bench.sampling import Process, Sampler, list_children
from tests.bench.scale import Prober
from tests.bench.site_fleet import Fleet
from tests.support.free_port import free_port
from tests.support.postgres import Server as Postgres
from tests.support.postgres import own_server
from tests.support.prefect_server import PrefectServer, use_server
from tests.support.prefect_tables import make_postgres_database

RUN_SECONDS: Final = 3600.0
SETTLE_SECONDS: Final = 60.0
"""After a run, Prefect's database is asked again until nothing more has arrived for so long."""
PATCHED: Final = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
"""The recorded machine has services that still run replaced files: a warning."""
COLUMNS: Final = (
    "machines",
    "wall, s",
    "CPU of a machine, ms",
    "CPU of Prefect's server, ms",
    "peak of the whole run, MiB",
    "largest peak of a shard, MiB",
    "report, MiB",
    "worker, MiB",
    "Prefect's server, MiB",
    "shards",
    "longest silence, s",
    "of it without a core, s",
    "task runs",
    "of these ended in Prefect",
    "log lines",
    "of these in Prefect",
    "machines with a last line",
    "patched",
    "in reports of shards",
    "installed once",
)
RATIOS: Final = COLUMNS[2:7]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run cost, and what is known of it where.

    Attributes:
        cpu: of the processes of the whole run and its shards, s.
        silence: the longest time without an answer of Prefect's API, s.
        silence_without_core: how long its server was ready meanwhile, and had no core, s.
        whole_peak, shard_peaks: of these processes, MiB.
        writer_peak: of the process that writes the report, MiB.
        task_runs: task runs that have ended in the processes, and those with an end in Prefect's database.
        log_lines: lines that the processes gave to Prefect, and those in its database.
        told: machines of which the log in Prefect has the last line.
        patched: machines that are patched by the report of the whole run.
        in_shards: by the reports of its shards, added up.
    """

    machines: int
    wall: float
    cpu: float
    server_cpu: float
    whole_peak: float
    shard_peaks: tuple[float, ...]
    writer_peak: float
    worker_peak: float
    server_peak: float
    silence: float
    silence_without_core: float
    task_runs: tuple[int, int]
    log_lines: tuple[int, int]
    told: int
    patched: int
    in_shards: int
    installed_once: int

    def build_row(self) -> Sequence[str]:
        """Return its row of the table."""
        return (
            f"{self.machines}",
            f"{self.wall:.0f}",
            f"{1000 * self.cpu / self.machines:.0f}",
            f"{1000 * self.server_cpu / self.machines:.0f}",
            f"{self.whole_peak:.0f}",
            f"{max(self.shard_peaks, default=0):.0f}",
            f"{self.writer_peak:.0f}",
            f"{self.worker_peak:.0f}",
            f"{self.server_peak:.0f}",
            f"{len(self.shard_peaks)}",
            f"{self.silence:.1f}",
            f"{self.silence_without_core:.1f}",
            *map(str, self.task_runs),
            *map(str, self.log_lines),
            f"{self.told}",
            f"{self.patched}",
            f"{self.in_shards}",
            f"{self.installed_once}",
        )


def measure(fleet: Fleet, at_once: int) -> Measured:
    """Carry one run out, and return what it cost."""
    prober = Prober(fleet.server.url)
    assert fleet.server.process is not None
    server_id = fleet.server.process.pid
    with fleet.open(), fleet.server.client() as client:
        workers = [worker.pid for worker in fleet.workers]
        sampler = Sampler(workers, server_id)
        before = {process: Process.read(process) for process in (*workers, server_id)}
        began = time.monotonic()
        with prober.watch(), sampler.watch():
            flow_run = fleet.start(client, at_once)
            until = began + RUN_SECONDS
            while (state := client.read_flow_run(flow_run).state) is None or not state.is_final():
                if time.monotonic() > until:
                    raise RuntimeError(f"the run did not end: {state}")
                time.sleep(1)
            wall = time.monotonic() - began
            settle(fleet)
        while any(list_children(worker) for worker in workers) and time.monotonic() < until:
            time.sleep(0.2)
        after = {process: Process.read(process) for process in before}
    report, shards = fleet.read_reports(flow_run)
    print(f"{fleet.machines} machines: {report.run.state} {report.run.message}", file=sys.stderr, flush=True)
    for outcome in [one for one in report.outcomes if one.state not in PATCHED][:5]:
        print(f"{outcome.machine}: {outcome.state}: {outcome.reason}", file=sys.stderr, flush=True)
    installs = Counter(json.loads((fleet.home / "installs.json").read_text(encoding="utf-8")).values())
    peaks = dict(sampler.peaks)
    whole_peak = peaks.pop(str(flow_run), 0.0)
    ended, lines, told = count_rows(fleet.postgres)
    printed_ends, printed_lines = count_printed(fleet.logs)
    return Measured(
        fleet.machines,
        wall,
        cpu=sum(after[worker].children_seconds - before[worker].children_seconds for worker in workers),
        server_cpu=after[server_id].own_seconds - before[server_id].own_seconds,
        whole_peak=whole_peak,
        shard_peaks=tuple(peaks.values()),
        writer_peak=sampler.writer_peak,
        worker_peak=max(after[worker].peak for worker in workers),
        server_peak=after[server_id].peak,
        silence=prober.longest,
        silence_without_core=sampler.find_server_wait(*prober.when),
        task_runs=(printed_ends, ended),
        log_lines=(printed_lines, lines),
        told=told,
        patched=sum(outcome.state in PATCHED for outcome in report.outcomes),
        in_shards=sum(outcome.state in PATCHED for shard in shards for outcome in shard.outcomes),
        installed_once=installs[1] if set(installs) == {1} else -max(installs),
    )


def count_rows(postgres: Postgres) -> tuple[int, int, int]:
    """Return from Prefect's database: the task runs with an end, the lines of the log, and machines with a last one."""
    queries = (
        "SELECT count(*) FROM task_run WHERE state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')",
        "SELECT count(*) FROM log",
        "SELECT count(DISTINCT substring(message FROM '^(m[0-9]{5}): report ')) FROM log",
    )
    with psycopg.connect(f"host={postgres.folder} user=postgres dbname=prefect") as connection:
        ended, lines, told = (row[0] for query in queries for row in connection.execute(query.encode()))
    return ended, lines, told


def count_printed(logs: Iterable[Path]) -> tuple[int, int]:
    """Return how many task runs have ended in the processes of runs, and how many lines these gave to Prefect's log.

    The workers' logs have all that their processes have printed.
    """
    text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    lines = re.findall(
        r"^[0-9:.]+ \| [A-Z]+ +\| (?:prefect.flow_runs.worker - )?(?:Flow|Task) run '.*", text, re.MULTILINE
    )
    return sum("| Task run '" in line and " - Finished in state" in line for line in lines), len(lines)


def settle(fleet: Fleet) -> None:
    """Wait until Prefect's database has what the processes of runs have printed, or nothing more arrives."""
    counts, changed = count_rows(fleet.postgres), time.monotonic()
    while counts[:2] != count_printed(fleet.logs) and time.monotonic() - changed < SETTLE_SECONDS:
        time.sleep(2)
        if (present := count_rows(fleet.postgres)) != counts:
            counts, changed = present, time.monotonic()


def measure_size(folder: Path, postgres: Postgres, machines: int, sites: int, at_once: int) -> Measured:
    """Measure one size with a server and databases of its own."""
    postgres.execute("DROP DATABASE IF EXISTS prefect WITH (FORCE)")
    home = folder / f"{machines}-{sites}"
    server = PrefectServer(
        home.with_suffix(".prefect"),
        free_port(),
        make_postgres_database(postgres),
        settings=build_environment(SettingTarget.SERVER),
    )
    with ExitStack() as stack:
        stack.callback(server.remove)
        server.start()
        fleet = Fleet(home, server, postgres, machines, sites)
        fleet.write()
        stack.enter_context(use_server(server.url, server.home))
        return measure(fleet, at_once)


def write_table(rows: Sequence[Measured]) -> str:
    """Return a Markdown table, and how much each size needs of the smallest one's."""
    cells = [dict(zip(COLUMNS, row.build_row(), strict=True)) for row in rows]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(tuple(row.values()) for row in cells)]
    ratios = []
    for row in cells[1:]:
        compared = [f"{float(row[name]) / max(1.0, float(cells[0][name])):.2f} x {name}" for name in RATIOS]
        ratios.append(f"{row['machines']} / {cells[0]['machines']} machines: {', '.join(compared)}")
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *ratios])


def measure_sizes(sizes: Sequence[int], sites: int, at_once: int) -> str:
    """Measure sizes, each with a server and databases of its own, and return the table."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="fp-bench-") as folder, own_server() as postgres:
        for machines in sizes:
            rows.append(measure_size(Path(folder), postgres, machines, sites, at_once))
            print(" | ".join(rows[-1].build_row()), file=sys.stderr, flush=True)
    return write_table(rows)
