"""Measures the pages of a large fleet with a year of history, and what their tables add to saving an assessment.

    python -m tests.bench.pages [--machines 5000] [--folder FOLDER]

It prints for each page the time until a client on this machine has the whole answer, the median and the worst of 20,
and its size without compression. The targets are those of the project: overview < 300 ms, list < 500 ms, page < 1 MB.
A folder is filled once, and used again.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from sqlalchemy import Connection, bindparam, exists, select

from fleetpatch.machines.fleet_reader import WAIT_SECONDS
from tasks.domain.model import Assessment, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState, YesNoUnknown
from tasks.records import schema, sql_records
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.bench.page_history import NOW, copy_history, inventory, list_configurations, names
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

TRIES = 20
SAVED = 2000  # assessments of the comparison


def build(folder: Path, machines: int) -> None:
    """Fill an empty folder with an inventory, configurations and a year of records."""
    (folder / "fleet.yaml").write_text(inventory(machines))
    (folder / "configurations").mkdir(exist_ok=True)
    (folder / "configurations" / "all.yaml").write_text(list_configurations())
    began = time.monotonic()
    with open_records(f"sqlite:///{folder / 'records.db'}") as records:
        save_newest_day(records, machines)
        copy_history(records)
    size = (folder / "records.db").stat().st_size / 1e6
    print(f"{machines} machines and a year of history: {size:.0f} MB in {time.monotonic() - began:.0f} s")


def make_assessments(machines: int, run_id: str, at: datetime) -> list[Assessment]:
    """Return one assessment of each machine. One of fifty was not reached."""
    found = []
    for number, name in enumerate(names(machines)):
        dice = random.Random(number)
        updates = tuple(
            make.make_update(
                id=f"package-{each}:amd64",
                name=f"package-{each}",
                classification=Classification.SECURITY if each % 3 == 0 else Classification.OTHER,
                cves=tuple(f"CVE-2026-{each * 10 + step:05}" for step in range(each % 12)),
                published=NOW - timedelta(days=each % 90),
            )
            for each in sorted(dice.sample(range(400), dice.choice([0, 0, 5, 30, 60])))
        )
        reboot = replace(
            make.make_package_state().reboot, answer=YesNoUnknown.YES if number % 9 == 0 else YesNoUnknown.NO
        )
        state = make.make_package_state(updates=updates, reboot=reboot, problems=("x",) if number % 70 == 0 else ())
        if number % 50 == 1:
            found.append(make.make_failed_assessment(machine=name, run_id=run_id, at=at + timedelta(hours=1)))
        found.append(make.make_assessment(machine=name, run_id=run_id, at=at, packages=state))
    return found


def save_newest_day(records: SqlRecords, machines: int) -> None:
    """Save the last assess run and the last patch run of all machines, as runs save them."""
    at = NOW - timedelta(hours=5)
    assessments = make_assessments(machines, "newest-assess", at)
    run = make.make_run(id="newest-assess", kind="assess", window=None, started_at=at, ended_at=at + timedelta(hours=1))
    records.save(make.make_report(run=run, outcomes=(), assessments=assessments, plans=(), waves=()))
    began = NOW - timedelta(days=2)
    outcomes = []
    for number, name in enumerate(names(machines)):
        results = tuple(
            UpdateResult(make.make_update(name=f"package-{each}"), UpdateState.INSTALLED, "", "1") for each in range(5)
        )
        outcomes.append(
            make.make_outcome(
                machine=name,
                run_id="newest-patch",
                updates=results,
                state=OperationState.FAILED if number % 50 == 0 else OperationState.SUCCEEDED,
                started_at=began,
                ended_at=began + timedelta(minutes=20),
            )
        )
    run = make.make_run(id="newest-patch", started_at=began, ended_at=began + timedelta(hours=2))
    waves = (make.make_wave(machines=names(machines)),)
    records.save(make.make_report(run=run, outcomes=outcomes, assessments=(), plans=(), waves=waves))


def list_pages(machines: int) -> dict[str, str]:
    """Return the paths of the pages that are measured, by what they show."""
    last = -(-machines // 200)
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
        "one machine": f"/machines/{names(machines)[machines // 2]}",
        "updates": "/updates",
        "one update": "/updates/package-3",
        "runs": "/runs",
        "one run": "/runs/newest-patch",
        "calendar": "/calendar",
        "calendar as a feed": "/calendar.ics",
        "metrics": "/metrics",
    }


def require_readable_files(site: Site) -> None:
    """Raise an error if the pages show a problem instead of the fleet: then nothing is measured."""
    if problems := site.context.fleet.read().problems:
        raise RuntimeError("\n".join(problems))


def measure_pages(site: Site, machines: int) -> None:
    """Print the times and sizes of all pages that exist."""
    began = time.monotonic()
    site.get("/machines")
    require_readable_files(site)
    print(f"first request, which reads everything: {time.monotonic() - began:.2f} s")
    began = time.monotonic()
    site.get("/?days=365")
    print(f"first overview of a year: {time.monotonic() - began:.2f} s")
    print(f"{'':24}{'median':>9}{'worst':>9}{'size':>11}")
    for what, path in list_pages(machines).items():
        times = []
        for _ in range(TRIES):
            began = time.perf_counter()
            answer = site.get(path)
            times.append(1000 * (time.perf_counter() - began))
        if answer.status_code != 200:
            print(f"{what:24}{answer.status_code:>9}")
            continue
        print(f"{what:24}{statistics.median(times):>6.0f} ms{max(times):>6.0f} ms{len(answer.content) / 1000:>8.0f} kB")


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
            for number, assessment in enumerate(make_assessments(SAVED, "measured", NOW)):
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
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--machines", type=int, default=5000)
    parser.add_argument("--only-saving", action="store_true")
    options = parser.parse_args()
    measure_saving()
    if options.only_saving:
        return
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "records.db").exists():
            build(folder, options.machines)
        with serve_site(folder, clock=FakeClock(NOW)) as site:
            site.context.fleet.wait_seconds = WAIT_SECONDS
            measure_pages(site, options.machines)


if __name__ == "__main__":
    main()
