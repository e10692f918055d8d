"""Measures the pages of a large fleet with a year of history, and what their tables add to saving an assessment.

    python -m tests.bench.pages FOLDER                     # that of tests/bench/big_history.py
    python -m tests.bench.pages --only-saving

It prints for each page the time until a client on this machine has the whole answer, the median and the worst of 20,
and its size without compression; then the time of each command that only reads (tests/bench/read_verbs.py). The targets
are those of the project: each page and each such command < 1 s at the median, and each page < 1 MB.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from sqlalchemy import Connection, bindparam, exists, select

from fleetpatch.machines.fleet_reader import WAIT_SECONDS
from tasks.domain.model import Assessment
from tasks.records import schema, sql_records
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.bench.big_history import find_large_runs, find_records, make_assessments
from tests.bench.read_verbs import describe_slow, measure_verbs
from tests.support.web_site import Site, serve_site

TRIES = 20
SAVED = 2000  # assessments of the comparison


def list_pages(site: Site) -> dict[str, str]:
    """Return the paths of the pages that are measured, by what they show."""
    history = History(site.records)
    names = history.read_known_machines()
    assessed = history.read_runs(1, kind="assess")[0].id
    run, before = find_large_runs(site.records)
    last = -(-len(names) // 200)
    machine = names[len(names) // 2]
    return {
        "overview": "/",
        "overview, 90 days": "/?days=90",
        "overview, a year": "/?days=365",
        "machines": "/machines",
        "machines, filtered": "/machines?compliance=NonCompliant&environment=prod",
        "machines, searched": "/machines?q=web-01",
        "machines, by scope": "/machines?scope=env%3Dprod,location%3Dfra",
        "machines, sorted": "/machines?sort=-urgent",
        "machines, last page": f"/machines?sort=window&page={last}",
        "machines as CSV": "/machines.csv",
        "one machine": f"/machines/{machine}",
        "updates": "/updates",
        "one update": "/updates/package-3",
        "one CVE": "/cves/CVE-2026-00031",
        "runs": "/runs",
        "runs, tenth page": "/runs?page=10",
        "one run": f"/runs/{run}",
        "one run, failed machines": f"/runs/{run}?state=Failed",
        "one machine of a run": f"/runs/{run}/machines/{machine}",
        "two runs compared": f"/runs/compare?left={before}&right={run}",
        "an assessment": f"/runs/{assessed}",
        "calendar": "/calendar",
        "calendar as a feed": "/calendar.ics",
        "approvals": "/approvals",
        "compliance": "/compliance",
        "patch": "/patch",
        "audit log": "/audit",
        "metrics": "/metrics",
        "API: machines": "/api/v1/machines",
        "API: runs": "/api/v1/runs",
        "API: one run": f"/api/v1/runs/{run}",
    }


def require_readable_files(site: Site) -> None:
    """Raise an error if the pages show a problem instead of the fleet: then nothing is measured."""
    if problems := site.context.fleet.read().problems:
        raise RuntimeError("\n".join(problems))


def measure_pages(site: Site) -> None:
    """Print the times and sizes of all pages that exist."""
    began = time.monotonic()
    site.get("/machines")
    require_readable_files(site)
    print(f"first request, which reads everything: {time.monotonic() - began:.2f} s")
    began = time.monotonic()
    site.get("/?days=365")
    print(f"first overview of a year: {time.monotonic() - began:.2f} s")
    print(f"{'':24}{'median':>9}{'worst':>9}{'size':>11}")
    medians: dict[str, float] = {}
    for what, path in list_pages(site).items():
        times = []
        for _ in range(TRIES):
            began = time.perf_counter()
            answer = site.get(path)
            times.append(1000 * (time.perf_counter() - began))
        if answer.status_code != 200:
            print(f"{what:24}{answer.status_code:>9}")
            continue
        medians[what] = statistics.median(times) / 1000
        size = len(answer.content) / 1000
        print(f"{what:24}{1000 * medians[what]:>6.0f} ms{max(times):>6.0f} ms{size:>8.0f} kB", flush=True)
    print(describe_slow("pages", medians))


_TABLE = schema.assessments
_NEWER = exists().where(_TABLE.c.machine == bindparam("of"), _TABLE.c.at > bindparam("after")).where(_TABLE.c.known)


def is_newest_answer(connection: Connection, assessment: Assessment) -> bool:
    """Tell by a query, as before there were states of machines, whether no newer answer is stored."""
    if assessment.packages is None:
        return False
    return not connection.execute(select(_NEWER), {"of": assessment.machine, "after": assessment.at}).scalar_one()


@contextmanager
def without_page_tables() -> Iterator[None]:
    """Save assessments as before there were pages."""
    with mock.patch.multiple(
        sql_records,
        save_machine_state=is_newest_answer,
        save_update_cves=lambda *_: set(),
        save_last_run=lambda *_: None,
    ):
        yield


def measure_saving() -> None:
    """Print what the tables of the pages add to saving an assessment.

    Each assessment is saved into two databases in turns, so that other load on this machine falls on both.
    """
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        urls = {is_kept: f"sqlite:///{folder}/{is_kept}.db" for is_kept in times}
        with open_records(urls[True]) as kept, open_records(urls[False]) as bare:
            for number, assessment in enumerate(make_assessments(SAVED, "measured", datetime.now(UTC))):
                for is_kept in (True, False) if number % 2 else (False, True):
                    with nullcontext() if is_kept else without_page_tables():
                        began = time.perf_counter()
                        (kept if is_kept else bare).save(assessment)
                        times[is_kept].append(1000 * (time.perf_counter() - began))
    with_tables, without = (statistics.median(times[is_kept]) for is_kept in (True, False))
    print(
        f"saving one assessment: {with_tables:.2f} ms, {without:.2f} ms without the tables of the pages: "
        f"{with_tables / without - 1:+.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only-saving", action="store_true")
    parser.add_argument("--only-pages", action="store_true", help="without the commands")
    options = parser.parse_args()
    if options.only_saving:
        measure_saving()
        return
    with serve_site(options.folder, database=find_records(options.folder)) as site:
        site.context.fleet.wait_seconds = WAIT_SECONDS
        measure_pages(site)
    if not options.only_pages:
        print()
        measure_verbs(options.folder.absolute())


if __name__ == "__main__":
    main()
