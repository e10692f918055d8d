"""How long questions in SQL, the compliance document and the metrics take with a large fleet.

    python -m tests.bench.query FOLDER [--machines 5000] [--updates 50] [--days 31]

The records get an assessment of each machine a day, and a run of all machines a week, in which each update of each
machine has a result. Existing records in the folder are used again.
"""

import argparse
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select

from flows.compliance.document import make_compliance_document
from inventory.machine import Inventory
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.records import page_schema, schema
from tasks.records.encoding import row_encoding
from tasks.records.queries.tables import QueryTables
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.compliance.files import render_compliance_files
from tasks.reports.query.engine import open_query
from tasks.rules.compliance.model import DEFAULT_SLA_DAYS, Month
from tests.ci import tree
from tests.support import builders as make

MONTH = Month(2026, 10)
KINDS = 200  # different lists of updates
EXAMPLES = re.findall(
    r"^```sql\n(.*?)^```", (tree.TOP / "docs/reference/query.md").read_text(), re.DOTALL | re.MULTILINE
)


def build_updates(kind: int, count: int, day: int) -> tuple[Update, ...]:
    """The updates of a kind of machine: most of them become known in the course of the month."""
    return tuple(
        make.make_update(
            name=f"package-{(kind * 7 + n) % 500}",
            available=f"2.{n}",
            classification=Classification.SECURITY if n % 3 == 0 else Classification.OTHER,
        )
        for n in range(count)
        if n <= day * count // 20
    )


def fill(records: SqlRecords, machines: int, updates: int, days: int) -> None:
    """Store the history."""
    names = [f"web-{n:05}" for n in range(machines)]
    for day in range(days):
        at = MONTH.start + timedelta(days=day, hours=3)
        lists = [build_updates(kind, updates, day) for kind in range(KINDS)]
        last = day == days - 1
        _save_day(records, names, lists, at, last=last)
        if day % 7 == 6:
            _save_run(records, names, lists, at)


def _save_day(
    records: SqlRecords, names: list[str], lists: list[tuple[Update, ...]], at: datetime, *, last: bool
) -> None:
    packages = [make.make_package_state(updates=each) for each in lists]
    found = [
        make.make_assessment(machine=name, at=at, packages=packages[n % KINDS], run_id=f"a-{at:%d}")
        for n, name in enumerate(names)
    ]
    samples = [row_encoding.encode_assessment(each) for each in found[:KINDS]]
    values = [samples[n % KINDS] | {"machine": name} for n, name in enumerate(names)]
    days = [_build_day(row, at) for row in values]
    with records.database.begin_write("fill") as connection:
        connection.execute(insert(schema.assessments), values)
        connection.execute(insert(page_schema.machine_days), days)
        if not last:
            return
        table = schema.assessments
        numbers = dict(
            connection.execute(select(table.c.machine, table.c.number).where(table.c.at == at)).tuples().all()
        )
        for each in found:
            pending = row_encoding.encode_pending_updates(each, numbers[each.machine])
            connection.execute(insert(schema.assessment_updates), pending)
        states = [_build_state(row, at) for row in values]
        connection.execute(insert(page_schema.machine_states), states)


def _build_day(row: row_encoding.RowValues, at: datetime) -> row_encoding.RowValues:
    counts = {"critical": 0, "security": row["urgent"], "other": row["other"]}
    return {"day": at.date(), "machine": row["machine"], "compliance": row["compliance"], **counts, "reboot": "no"}


def _build_state(row: row_encoding.RowValues, at: datetime) -> row_encoding.RowValues:
    same = {name: row[name] for name in ("machine", "run_id", "compliance", "os_id", "os_version", "other")}
    numbers = dict.fromkeys(("critical", "withheld", "services_to_restart", "problems", "findings"), 0)
    texts = {"error_kind": "", "error_message": "", "os_name": "Debian", "manager": "apt", "reboot": "no"}
    return {**same, **numbers, **texts, "at": at, "answered_at": at, "reboot_since": None, "security": row["urgent"]}


def _save_run(records: SqlRecords, names: list[str], lists: list[tuple[Update, ...]], at: datetime) -> None:
    run_id = f"run-{at:%d}"
    run = make.make_run(id=run_id, started_at=at, ended_at=at + timedelta(hours=2), request={"configuration": "all"})
    with records.database.begin_write("fill") as connection:
        connection.execute(insert(schema.runs), row_encoding.encode_run(run))
        for n, name in enumerate(names):
            results = tuple(make.make_update_result(update=each) for each in lists[n % KINDS])
            outcome = make.make_outcome(
                run_id=run_id,
                machine=name,
                updates=results,
                started_at=at,
                ended_at=at + timedelta(hours=1),
                install=None,
            )
            row = row_encoding.encode_outcome(outcome)
            number = connection.execute(insert(schema.outcomes).returning(schema.outcomes.c.number), row).scalar_one()
            connection.execute(insert(schema.update_results), row_encoding.encode_update_results(outcome, number))


def _measure(what: str, call: Callable[[], object]) -> None:
    began = time.perf_counter()
    found = call()
    print(f"| {what} | {found} | {time.perf_counter() - began:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines", type=int, default=5000)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--days", type=int, default=31)
    options = parser.parse_args()
    path: Path = options.folder / "records.db"
    is_new = not path.exists()
    options.folder.mkdir(parents=True, exist_ok=True)
    with open_records(f"sqlite:///{path}") as records:
        if is_new:
            fill(records, options.machines, options.updates, options.days)
        inventory = Inventory(tuple(make.make_machine(name=f"web-{n:05}") for n in range(options.machines)))
        print("| what | rows | seconds |\n|---|---|---|")

        def ask(sql: str) -> int:
            with open_query(QueryTables(records, None, inventory, now=datetime.now(UTC))) as query:
                return len(query.ask(sql.replace("INTERVAL 7 DAY", "INTERVAL 3650 DAY")).list_rows())

        for sql in EXAMPLES:
            _measure(sql.strip().splitlines()[-1][:60].replace("|", "/"), lambda sql=sql: ask(sql))  # type: ignore[misc]
        documents: list[object] = []

        def compute() -> int:
            sla = (DEFAULT_SLA_DAYS, "")
            now = datetime(2027, 1, 1, tzinfo=UTC)
            documents.append(make_compliance_document(records, inventory, "*", MONTH, sla, now))
            return len(documents)

        _measure("compliance of a month", compute)
        _measure("its files, bytes", lambda: sum(map(len, render_compliance_files(documents[0]).values())))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
