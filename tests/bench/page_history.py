"""The fleet of tests/bench/pages.py: its files, and a year of history that the database copies from its newest day."""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from tasks.records.sql_records import SqlRecords

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
DAYS = 365
ASSESSED_DAYS = 90  # as long as assessments are kept by default
READ_DAYS = 25  # the page of a machine reads its last three runs
_RUN_COLUMNS = {"started_at", "ended_at", "at"}


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


def copy_history(records: SqlRecords) -> None:
    """Copy the newest day to the days before it: daily assessments and weekly runs, without their documents.

    No page reads the documents of rows that are older than weeks. Without them a year is made in a minute.
    """
    with records.database.begin_write("copy days") as connection:
        connection.execute(text(_DAYS_SQL), {"days": DAYS})
        for day in range(1, ASSESSED_DAYS):
            _copy_run(connection, "newest-assess", f"assess-{day:03}", day)
            _copy_rows(connection, "assessments", "newest-assess", f"assess-{day:03}", day)
        for day in range(7, DAYS, 7):
            _copy_run(connection, "newest-patch", f"patch-{day:03}", day)
            _copy_rows(connection, "outcomes", "newest-patch", f"patch-{day:03}", day)


_DAYS_SQL = """
    WITH RECURSIVE past(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM past WHERE n < :days)
    INSERT INTO machine_days (day, machine, compliance, critical, security, other, reboot)
    SELECT date(day, '-' || n || ' days'), machine,
      CASE WHEN (n + rowid_of) % 10 < n / 60 THEN 'NonCompliant' ELSE 'Compliant' END,
      critical, security, other + n % 7, CASE WHEN (n + rowid_of) % 9 = 0 THEN 'yes' ELSE 'no' END
    FROM past, (SELECT *, row_number() OVER (ORDER BY machine) AS rowid_of FROM machine_days)
    WHERE (n + rowid_of) % 11 > 0 ORDER BY n DESC, machine
"""


def _copy_run(connection: Connection, old: str, new: str, day: int) -> None:
    columns = "kind, state, scope, started_by, flow_run_id, message"
    connection.execute(
        text(
            f"INSERT INTO runs (id, started_at, ended_at, document, {columns}) SELECT :new, {_shift('started_at')}, "
            f"{_shift('ended_at')}, replace(document, :old, :new), {columns} FROM runs WHERE id = :old"
        ),
        {"old": old, "new": new, "ago": f"-{day} days"},
    )


def _copy_rows(connection: Connection, table: str, old: str, new: str, day: int) -> None:
    listed = [row[1] for row in connection.execute(text(f"PRAGMA table_info({table})"))]
    is_read = table == "outcomes" and day < READ_DAYS
    left_out = {"number", "run_id"} if is_read else {"number", "run_id", "document", "updates", "counts"}
    columns = [name for name in listed if name not in left_out]
    values = [_shift(name) if name in _RUN_COLUMNS else f'"{name}"' for name in columns]
    into = ", ".join(f'"{name}"' for name in columns)
    if not is_read:
        into, values = f"document, {into}", ["''", *values]
    connection.execute(
        text(f"INSERT INTO {table} (run_id, {into}) SELECT :new, {', '.join(values)} FROM {table} WHERE run_id = :old"),
        {"old": old, "new": new, "ago": f"-{day} days"},
    )


def _shift(column: str) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f000', {column}, :ago)"
