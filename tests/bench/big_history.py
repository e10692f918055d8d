"""Makes the records of a large fleet with a long history: read_verbs.py, pages.py and page_readers.py measure them.

    python -m tests.bench.big_history FOLDER [--machines 5000] [--days 365] [--records postgresql://…]

Each day has a run that assessed all machines, as long as assessments are kept, and five runs of one machine. Each
seventh day has one that patched all machines. The newest days are saved as runs save them; all others are copies that
the database makes, under other ids and dates. The folder gets the inventory, 40 configurations, and the URL of the
records: without --records, a file there.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Interval, Table, case, func, insert, literal, null, select

from tasks.domain.model import Assessment, MachinePlan, Outcome, Update, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState, YesNoUnknown
from tasks.records import page_schema, schema
from tasks.records.encoding import row_encoding
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.column_types import UtcDateTime
from tasks.rules.retention import DEFAULT_RETENTION
from tests.support import builders as make

PACKAGES = 400
PENDING = (0, 0, 5, 30, 60)  # updates of a machine
JOURNAL_ENTRIES = 8  # of a machine in a run
SHORT_RUNS = 5  # of one machine, a day
_COPIED = tuple(
    schema.metadata.tables[name]
    for name in ("runs", "run_plans", "machine_plans", "assessments", "outcomes", "journal", "job_outputs", "measures")
)


def names(machines: int) -> list[str]:
    """The machines' names."""
    return [f"{('web', 'app', 'db')[number % 3]}-{number:04}" for number in range(machines)]


def inventory(machines: int) -> str:
    """An inventory file with these machines in it."""
    lines = ["machines:"]
    for number, name in enumerate(names(machines)):
        owner = ("fleetpatch",) * 7 + ("managed", "os", "manual")
        lines.append(
            f"  - {{name: {name}, address: 10.{number // 62500}.{number // 250 % 250}.{number % 250}, "
            f"environment: {('prod', 'prod', 'stage', 'dev')[number % 4]}, "
            f"location: {('fra', 'ams', 'lon')[number % 3]}, "
            f"owner: {owner[number % 10]}, tags: {{ring: r{number % 40}}}}}"
        )
    return "\n".join([*lines, ""])


def list_configurations() -> str:
    """Forty configurations, each with the machines of one ring."""
    entries = [
        f"  - name: ring-{number}\n    scope: ring=r{number}\n"
        f'    window: {{start: "2026-01-05 {number % 24:02}:00", zone: Europe/Berlin, recurrence: Week, '
        'length: "02:00"}\n'
        for number in range(40)
    ]
    return "configurations:\n" + "".join(entries)


def _updates(machine: int, now: datetime) -> tuple[Update, ...]:
    dice = random.Random(machine if machine % 3 == 0 else machine % 40)  # a third are unlike all others
    return tuple(
        make.make_update(
            id=f"package-{number}:amd64",
            name=f"package-{number}",
            classification=Classification.SECURITY if number % 3 == 0 else Classification.OTHER,
            cves=tuple(f"CVE-2026-{number * 10 + step:05}" for step in range(number % 12)),
            published=now - timedelta(days=number % 90),
            group=f"source-{number // 2}",
        )
        for number in sorted(dice.sample(range(PACKAGES), dice.choice(PENDING)))
    )


def make_assessments(machines: int, run_id: str, at: datetime) -> list[Assessment]:
    """Return one assessment of each machine. One of fifty was not reached afterwards."""
    made = []
    for number, name in enumerate(names(machines)):
        answer = YesNoUnknown.YES if number % 9 == 0 else YesNoUnknown.NO
        state = make.make_package_state(
            updates=_updates(number, at),
            reboot=replace(make.make_package_state().reboot, answer=answer),
            problems=("x",) if number % 70 == 0 else (),
        )
        made.append(make.make_assessment(machine=name, run_id=run_id, at=at, packages=state))
        if number % 50 == 1:
            failed_at = at + timedelta(minutes=10)
            made.append(make.make_failed_assessment(machine=name, run_id=run_id, at=failed_at))
    return made


def _build_run_id(kind: str, at: datetime) -> str:
    return f"{at:%Y%m%d-%H%M%S}-{kind[0]}{at:%d}"


def _save_assess(records: SqlRecords, machines: int, at: datetime) -> None:
    run_id = _build_run_id("assess", at)
    assessments = make_assessments(machines, run_id, at)
    outcomes: list[Outcome] = []
    for assessment in assessments:
        if assessment.packages is not None:
            updates = assessment.packages.updates
            pending = tuple(UpdateResult(u, UpdateState.PENDING, "assessed only", u.installed) for u in updates)
            outcome = make.make_outcome(machine=assessment.machine, run_id=run_id, updates=pending, install=None)
            ended = at + timedelta(minutes=1)
            outcomes.append(replace(outcome, reboot_result=None, started_at=at, ended_at=ended))
    run = make.make_run(id=run_id, kind="assess", window=None, started_at=at, ended_at=at + timedelta(minutes=15))
    records.save(make.make_report(run=run, outcomes=outcomes, assessments=assessments, plans=(), waves=()))


def _save_patch(records: SqlRecords, machines: Sequence[str], at: datetime) -> None:
    run_id, later = _build_run_id("patch", at), at - make.START
    assessments: list[Assessment] = []
    plans: list[MachinePlan] = []
    outcomes: list[Outcome] = []
    for number, name in enumerate(machines):
        updates = _updates(number, at)
        chosen = tuple(u for u in updates if u.classification is Classification.SECURITY)
        rest = tuple(u for u in updates if u.classification is not Classification.SECURITY)
        skipped = tuple(UpdateResult(u, UpdateState.NOT_SELECTED, "its classification", u.installed) for u in rest)
        done = tuple(make.make_update_result(update=u) for u in chosen)
        plans.append(make.make_plan(machine=name, chosen=chosen, skipped=skipped))
        for seconds, left in ((5, updates), (220, rest)):
            state = make.make_package_state(updates=left)
            assessed = make.make_assessment(machine=name, run_id=run_id, at=make.at(seconds) + later, packages=state)
            assessments.append(assessed)
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
    run = make.make_run(id=run_id, started_at=at, ended_at=at + timedelta(minutes=5))
    waves = (make.make_wave(machines=tuple(machines)),)
    report = make.make_report(run=run, outcomes=outcomes, assessments=assessments, plans=tuple(plans), waves=waves)
    records.save(report)
    _insert_jobs(records, run_id, machines, at)


def _insert_jobs(records: SqlRecords, run_id: str, machines: Sequence[str], at: datetime) -> None:
    """Insert the outputs of jobs and the journal in one transaction. Runs need one for each entry."""
    outputs, entries = [], []
    for name in machines:
        job_id = f"{run_id}-{name}"
        output = make.make_job_output(run_id=run_id, machine=name, job_id=job_id, text="Setting up\n" * 40)
        outputs.append(row_encoding.encode_job_output(output))
        for number in range(JOURNAL_ENTRIES):
            entry = make.make_journal_entry(run_id=run_id, machine=name, key=f"{job_id}-{number}", at=at)
            entries.append(records.seals.seal(schema.journal, row_encoding.encode_journal_entry(entry)))
    with records.database.begin_write("insert jobs") as connection:
        connection.execute(insert(schema.job_outputs), outputs)
        connection.execute(insert(schema.journal), entries)


def _shift(column: Column[object], days: int, dialect: str) -> ColumnElement[object]:
    if dialect == "sqlite":
        return func.strftime("%Y-%m-%d %H:%M:%f000", column, f"-{days} days")
    return column - literal(timedelta(days=days), Interval)


def _copy(connection: Connection, table: Table, old: str, new: str, days: int, at: datetime) -> None:
    """Copy a run's rows under another id, a number of days before."""
    dates = f"{at:%Y-%m-%d}", f"{at - timedelta(days=days):%Y-%m-%d}"
    of_run = table.c.id if table is schema.runs else table.c.run_id
    cells: dict[str, ColumnElement[Any]] = {}
    for column in table.columns:
        if column is of_run:
            cells[column.name] = literal(new)
        elif column.name == "digest":
            cells[column.name] = null()
        elif column.name in {"document", "job_id", "key"}:
            cells[column.name] = func.replace(func.replace(column, old, new), *dates)
        elif isinstance(column.type, UtcDateTime):
            cells[column.name] = _shift(column, days, connection.dialect.name)
        elif column.name != "number":
            cells[column.name] = column
    rows = select(*cells.values()).where(of_run == old)
    connection.execute(insert(table).from_select(list(cells), rows))


def _copy_results(connection: Connection, old: str, new: str) -> None:
    """Copy the rows of an outcome's updates to the outcome of the same machine in another run."""
    results, copy, outcomes = schema.update_results, schema.outcomes.alias(), schema.outcomes
    columns = [column for column in results.columns if column.name not in {"number", "outcome", "run_id"}]
    rows = (
        select(copy.c.number, copy.c.run_id, *columns)
        .join(outcomes, outcomes.c.number == results.c.outcome)
        .join(copy, (copy.c.machine == outcomes.c.machine) & (copy.c.run_id == new))
        .where(outcomes.c.run_id == old)
    )
    into = ["outcome", "run_id", *(column.name for column in columns)]
    connection.execute(insert(results).from_select(into, rows))


def _copy_day(connection: Connection, number: int, today: datetime) -> None:
    """Copy the states of all machines to an earlier day, a little changed. One of eleven gave no answer."""
    table, day = page_schema.machine_days, (today - timedelta(days=number)).date()
    turn = func.row_number().over(order_by=table.c.machine).label("turn")
    of = select(table, turn).where(table.c.day == today.date()).subquery()
    turned = of.c.turn + number
    rows = select(
        literal(day, table.c.day.type),
        of.c.machine,
        case((turned % 10 < number // 60, "NonCompliant"), else_="Compliant"),
        of.c.critical,
        of.c.security,
        of.c.other + number % 7,
        case((turned % 9 == 0, "yes"), else_="no"),
    ).where(turned % 11 > 0)
    connection.execute(insert(table).from_select([column.name for column in table.columns], rows))


def build(url: str, machines: int, days: int, now: datetime) -> None:
    """Fill empty records with a history that ends today."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    short = [today + timedelta(minutes=10 + number) for number in range(SHORT_RUNS)]
    all_names, assessed, patched = names(machines), today + timedelta(hours=4), today + timedelta(hours=1)
    with open_records(url) as records:
        _save_patch(records, all_names, patched)
        for number, at in enumerate(short):
            _save_patch(records, all_names[number : number + 1], at)
        _save_assess(records, machines, assessed)
        for day in range(1, days):
            runs = [("patch", at) for at in short]
            runs += [("assess", assessed)] if day < (DEFAULT_RETENTION.assessments_days or days) else []
            runs += [("patch", patched)] if day % 7 == 0 else []
            with records.database.begin_write("copy a day") as connection:
                _copy_day(connection, day, today)
                for kind, at in runs:
                    old, new = _build_run_id(kind, at), _build_run_id(kind, at - timedelta(days=day))
                    for table in _list_kept(day):
                        _copy(connection, table, old, new, day, at)
                    _copy_results(connection, old, new)


def _list_kept(day: int) -> Iterator[Table]:
    """Yield the tables that still have rows of a day, by the retention of a new history."""
    is_old = day >= (DEFAULT_RETENTION.assessments_days or day + 1)
    yield from (table for table in _COPIED if not (is_old and table is schema.assessments))


def find_records(folder: Path) -> str:
    """Return the URL of the records that this program made for a folder."""
    return (folder / "records-url").read_text().strip()


def find_large_runs(records: SqlRecords) -> Sequence[str]:
    """Return the ids of the two newest runs that patched all machines."""
    return records.database.read_values(
        "find the large runs",
        select(schema.machine_plans.c.run_id)
        .group_by(schema.machine_plans.c.run_id)
        .having(func.count() > 1)
        .order_by(schema.machine_plans.c.run_id.desc())
        .limit(2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines", type=int, default=5000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--records", metavar="URL")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    (folder / "configurations").mkdir(parents=True, exist_ok=True)
    (folder / "configurations" / "all.yaml").write_text(list_configurations())
    (folder / "fleet.yaml").write_text(inventory(options.machines))
    url = options.records or f"sqlite:///{folder / 'records.db'}"
    (folder / "records-url").write_text(f"{url}\n")
    began = time.monotonic()
    build(url, options.machines, options.days, datetime.now(UTC))
    print(f"{options.machines} machines, {options.days} days: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
