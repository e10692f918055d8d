"""Makes the records of a large fleet with a long history, quickly, for tests/bench/read_verbs.py.

    python -m tests.bench.big_history FOLDER [--machines 1000] [--days 36]

Each day has a run that assessed all machines, and each seventh (and the last) one that patched them too. The first such
day is saved as a run saves it; all others are copies of it that the database makes, under other ids and dates.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, Table, text

from tasks.domain.model import Assessment, MachinePlan, Outcome, PackageState, Update, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.records import schema
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders as make

PENDING = 30  # updates of a machine
PACKAGES = 160
DAY = timedelta(days=1)
_COPIED = ("runs", "run_plans", "machine_plans", "assessments", "outcomes", "journal", "job_outputs", "measures")


def names(machines: int) -> list[str]:
    """The machines' names."""
    return [f"web-{number:04}" for number in range(machines)]


def inventory(machines: int) -> str:
    """An inventory file with these machines in it."""
    lines = [f"  - {{name: {name}, address: 10.0.{n // 250}.{n % 250}}}" for n, name in enumerate(names(machines))]
    return "\n".join(["machines:", *lines, ""])


def _updates(machine: int) -> tuple[Update, ...]:
    kind = machine if machine % 3 == 0 else machine % 40  # a third are unlike all others
    chosen = random.Random(kind).sample(range(PACKAGES), PENDING)
    return tuple(
        make.make_update(
            name=f"package-{number}",
            classification=Classification.SECURITY if number % 3 == 0 else Classification.OTHER,
            cves=(f"CVE-2026-{number:05}", f"CVE-2026-{number + 1:05}"),
            group=f"source-{number // 2}",
        )
        for number in sorted(chosen)
    )


def _packages(updates: tuple[Update, ...]) -> PackageState:
    return make.make_package_state(updates=updates)


def _run_id(day: int, kind: str) -> str:
    return f"{make.START + DAY * day:%Y%m%d}-{'0100' if kind == 'assess' else '0300'}00-{day:03}{kind[0]}"


def _save_assess(records: SqlRecords, machines: int) -> None:
    run_id = _run_id(0, "assess")
    assessments: list[Assessment] = []
    outcomes: list[Outcome] = []
    for number, name in enumerate(names(machines)):
        updates = _updates(number)
        assessments.append(make.make_assessment(machine=name, run_id=run_id, packages=_packages(updates)))
        pending = tuple(UpdateResult(u, UpdateState.PENDING, "assessed only", u.installed) for u in updates)
        outcomes.append(
            replace(make.make_outcome(machine=name, run_id=run_id, updates=pending, install=None), reboot_result=None)
        )
    run = make.make_run(id=run_id, kind="assess", window=None)
    records.save(make.make_report(run=run, outcomes=outcomes, assessments=assessments, plans=(), waves=()))


def _save_patch(records: SqlRecords, machines: int) -> None:
    run_id, listed, outcomes = _run_id(0, "patch"), names(machines), list[Outcome]()
    assessments: list[Assessment] = []
    plans: list[MachinePlan] = []
    later = timedelta(hours=2)
    for number, name in enumerate(listed):
        updates = _updates(number)
        chosen = tuple(u for u in updates if u.classification is Classification.SECURITY)
        rest = tuple(u for u in updates if u.classification is not Classification.SECURITY)
        skipped = tuple(UpdateResult(u, UpdateState.NOT_SELECTED, "its classification", u.installed) for u in rest)
        done = tuple(make.make_update_result(update=u) for u in chosen)
        plans.append(make.make_plan(machine=name, chosen=chosen, skipped=skipped))
        for at, left in ((make.at(5), updates), (make.at(220), rest)):
            assessments.append(
                make.make_assessment(machine=name, run_id=run_id, at=at + later, packages=_packages(left))
            )
        outcomes.append(
            make.make_outcome(
                machine=name,
                run_id=run_id,
                updates=(*done, *skipped),
                install=make.make_install_result(results=(*done, *skipped)),
                state=OperationState.FAILED if number % 50 == 0 else OperationState.SUCCEEDED,
                started_at=make.at(2) + later,
                ended_at=make.at(222) + later,
            )
        )
    run = make.make_run(id=run_id, started_at=make.START + later, ended_at=make.at(300) + later)
    records.save(
        make.make_report(
            run=run,
            outcomes=outcomes,
            assessments=assessments,
            plans=tuple(plans),
            waves=(make.make_wave(machines=listed),),
        )
    )
    for name in listed:
        records.save(
            make.make_job_output(run_id=run_id, machine=name, job_id=f"{run_id}-{name}", text="Setting up\n" * 40)
        )
        for key in range(4):
            records_entry = make.make_journal_entry(run_id=run_id, machine=name, key=f"{run_id}-{name}-{key}")
            records.append_entry(records_entry)


def _copy(connection: Connection, table: Table, old: str, new: str, dates: tuple[str, str]) -> None:
    """Copy a run's rows under another id, a number of days later."""
    of_run = table.c.id if table is schema.runs else table.c.run_id
    cells = []
    for column in table.columns:
        if column.name == "number":
            continue
        cell = f'"{column.name}"'
        if column.name == "digest":
            cell = "NULL"
        elif column.name != "body":
            cell = f"replace(replace({cell}, :old, :new), :from, :to)" if _holds_text(column.type) else cell
        cells.append((f'"{column.name}"', cell))
    into, values = ", ".join(name for name, _ in cells), ", ".join(value for _, value in cells)
    query = f"INSERT INTO {table.name} ({into}) SELECT {values} FROM {table.name} WHERE {of_run.name} = :old"
    connection.execute(text(query), {"old": old, "new": new, "from": dates[0], "to": dates[1]})


def _holds_text(kind: object) -> bool:
    return type(getattr(kind, "impl", kind)).__name__ in {"String", "Text", "DateTime"}


def _copy_results(connection: Connection, old: str, new: str) -> None:
    """Copy the rows of an outcome's updates to the outcome of the same machine in another run."""
    table = schema.update_results
    rest = [column.name for column in table.columns if column.name not in {"number", "outcome", "run_id"}]
    query = (
        f"INSERT INTO update_results (outcome, run_id, {', '.join(rest)}) "
        f"SELECT o.number, o.run_id, {', '.join(f'r.{name}' for name in rest)} FROM update_results r "
        "JOIN outcomes p ON p.number = r.outcome JOIN outcomes o ON o.run_id = :new AND o.machine = p.machine "
        "WHERE p.run_id = :old"
    )
    connection.execute(text(query), {"old": old, "new": new})


def build(url: str, machines: int, days: int) -> None:
    """Fill empty records (SQLite) with a history that ends today."""
    with open_records(url) as records:
        _save_assess(records, machines)
        _save_patch(records, machines)
        kept = [table for name, table in schema.metadata.tables.items() if name in _COPIED]
        for day in range(1, days):
            _add_day(records, kept, day, ("assess", "patch") if day % 7 == 0 or day == days - 1 else ("assess",))


def _add_day(records: SqlRecords, tables: Sequence[Table], day: int, kinds: Sequence[str]) -> None:
    dates = f"{make.START:%Y-%m-%d}", f"{make.START + DAY * day:%Y-%m-%d}"
    with records.database.begin_write("copy a day") as connection:
        for kind in kinds:
            old, new = _run_id(0, kind), _run_id(day, kind)
            for table in tables:
                _copy(connection, table, old, new, dates)
            _copy_results(connection, old, new)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--days", type=int, default=36)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "fleet.yaml").write_text(inventory(options.machines))
    file, began = options.folder / "records.db", time.monotonic()
    build(f"sqlite:///{file.absolute()}", options.machines, options.days)
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
