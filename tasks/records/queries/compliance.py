"""Reads what the compliance document of a month is computed from.

Of the assessments only those are decoded whose list of updates differs from the one before on that machine, and equal
lists of different machines only once: most of them are equal.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, and_, func, select

from tasks.domain.assessment import build_update_key, strip_update_id
from tasks.domain.states import Classification, OperationState, RebootState, UpdateState
from tasks.records import page_schema, schema
from tasks.records.automatic.sightings import read_first_seen
from tasks.records.encoding.row_encoding import decompress_text
from tasks.records.maintenance_schema import held_groups, held_packages
from tasks.records.queries.shards import is_of_whole_run
from tasks.records.retention import read_retention
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.column_types import to_index_key
from tasks.rules.compliance.model import (
    UNSCHEDULED,
    ComplianceData,
    ExceptionFigure,
    Installation,
    MachineDay,
    Month,
    PendingFix,
    RunFigure,
    Sight,
)

_KINDS: Final[Mapping[str, str]] = {
    Classification.CRITICAL.value: "critical",
    Classification.SECURITY.value: "security",
    Classification.SECURITY_ESM.value: "security",
}
_BATCH_ROWS = 2000


class _Reader:
    """Reads within one transaction, for the machines of a scope."""

    def __init__(self, connection: Any, machines: Collection[str], month: Month, until: datetime) -> None:  # noqa: ANN401
        self._connection = connection
        self._machines = frozenset(map(to_index_key, machines))
        self._month = month
        self._until = until

    def _execute(self, query: Select[Any]) -> Iterator[Sequence[Any]]:
        result = self._connection.execution_options(yield_per=_BATCH_ROWS).execute(query)
        for rows in result.partitions():
            yield from rows

    def read_sights(self) -> Iterator[Sight]:
        """Return the sights in which something has changed, by machine and time, and each machine's last one."""
        table, start = schema.assessments, self._month.start
        before = (
            select(table.c.machine, func.max(table.c.at).label("at"))
            .where(table.c.known, table.c.at < start)
            .group_by(table.c.machine)
            .subquery()
        )
        first = func.coalesce(before.c.at, start)
        of_machine: dict[str, Any] = {"partition_by": table.c.machine, "order_by": table.c.at}
        sights = (
            select(
                table.c.machine,
                table.c.at,
                table.c.updates,
                func.lag(table.c.updates).over(**of_machine).label("before"),
                func.lead(table.c.updates).over(**of_machine).label("after"),
            )
            .select_from(table.outerjoin(before, before.c.machine == table.c.machine))
            .where(table.c.known, table.c.at >= first, table.c.at <= self._until)
            .subquery()
        ).c
        # Of equal ones only the first and the last matter: most of the others need not leave the database.
        is_change = sights.updates.is_distinct_from(sights.before) | sights.updates.is_distinct_from(sights.after)
        query = select(sights.machine, sights.at, sights.updates).where(is_change).order_by(sights.machine, sights.at)
        decoded: dict[bytes, tuple[PendingFix, ...]] = {}
        previous: tuple[str, bytes] | None = None
        unsent: Sight | None = None
        for machine, at, body in self._execute(query):
            if machine not in self._machines:
                continue
            if unsent is not None and unsent.machine != machine:
                yield unsent
                unsent = None
            if body not in decoded:
                decoded[body] = _decode_fixes(body)
            sight = Sight(machine, at, decoded[body])
            if previous == (machine, body):
                unsent = sight  # only the last of equal ones matters: until then nothing has changed
                continue
            if unsent is not None:
                yield unsent
                unsent = None
            previous = (machine, body)
            yield sight
        if unsent is not None:
            yield unsent

    def read_installations(self) -> Iterator[Installation]:
        """Return the critical and security updates that runs installed, from the start of the month on."""
        results, outcomes = schema.update_results, schema.outcomes
        ended = func.coalesce(outcomes.c.ended_at, outcomes.c.started_at)
        columns = (results.c.machine, results.c.name, results.c.update_id, results.c.available)
        query = (
            select(*columns, outcomes.c.ended_at, outcomes.c.started_at)
            .select_from(results.join(outcomes, outcomes.c.number == results.c.outcome))
            .where(
                results.c.state == UpdateState.INSTALLED.value,
                results.c.classification.in_(tuple(_KINDS)),
                is_of_whole_run(outcomes.c.run_id),
                ended >= self._month.start,
                ended <= self._until,
            )
        )
        for machine, name, update_id, version, ended_at, started_at in self._execute(query):
            if machine in self._machines:
                yield Installation(machine, *build_update_key(name, update_id, version), ended_at or started_at)

    def read_days(self) -> Iterator[MachineDay]:
        """Return the days of the month."""
        table, month = page_schema.machine_days, self._month
        columns = (table.c.day, table.c.machine, table.c.compliance, table.c.critical, table.c.security, table.c.reboot)
        query = select(*columns).where(table.c.day >= month.start.date(), table.c.day < month.end.date())
        for row in self._execute(query.order_by(table.c.day, table.c.machine)):
            if row[1] in self._machines:
                yield MachineDay(*row)

    def read_runs(self) -> list[RunFigure]:
        """Return the runs of the month that could change machines of the scope, and the windows without a run."""
        runs, windows, month = schema.runs, schema.occurrences, self._month
        totals = self._count_outcomes()
        without_result = self._find_runs_without_result()
        query = (
            select(
                runs.c.id,
                windows.c.configuration,
                runs.c.started_at,
                runs.c.ended_at,
                runs.c.state,
                runs.c.message,
                runs.c.document,
            )
            .select_from(runs.outerjoin(windows, and_(windows.c.run_id == runs.c.id, windows.c.what == "run")))
            .where(runs.c.kind == "patch", runs.c.started_at >= month.start, runs.c.started_at < month.end)
        )
        figures = [
            _build_run(row, totals.get(row[0], Counter()))
            for row in self._execute(query)
            if row[0] in totals or row[0] in without_result
        ]
        without = select(windows.c.configuration, windows.c.starts_at, windows.c.what, windows.c.reason).where(
            windows.c.what != "run", windows.c.starts_at >= month.start, windows.c.starts_at < month.end
        )
        figures += [
            RunFigure("", name, starts_at, None, status, "", 0.0, 0, 0, 0, 0, 0, reason)
            for name, starts_at, status, reason in self._execute(without)
        ]
        return sorted(figures, key=lambda figure: (figure.starts_at, figure.configuration, figure.run))

    def _count_outcomes(self) -> dict[str, Counter[str]]:
        outcomes, runs, month = schema.outcomes, schema.runs, self._month
        query = (
            select(
                outcomes.c.run_id,
                outcomes.c.machine,
                outcomes.c.state,
                outcomes.c.reboot,
                outcomes.c.updates_installed,
                outcomes.c.window_exceeded_seconds,
            )
            .select_from(outcomes.join(runs, runs.c.id == outcomes.c.run_id))
            .where(runs.c.kind == "patch", runs.c.started_at >= month.start, runs.c.started_at < month.end)
        )
        totals: dict[str, Counter[str]] = {}
        for run_id, machine, state, reboot, installed, exceeded in self._execute(query):
            if machine in self._machines:
                total = totals.setdefault(run_id, Counter())
                good = (OperationState.SUCCEEDED.value, OperationState.COMPLETED_WITH_WARNINGS.value)
                total["machines"] += 1
                total["succeeded"] += state in good
                total["failed"] += state == OperationState.FAILED.value
                total["installed"] += installed
                total["reboots"] += reboot == RebootState.COMPLETED.value
                total["exceeded"] = max(total["exceeded"], exceeded)
        return totals

    def _find_runs_without_result(self) -> set[str]:
        """Return the runs without a result of any machine: killed before the first, or failed before the machines.

        Those whose plan has only machines outside of the scope do not count.
        """
        runs, outcomes, plans, month = schema.runs, schema.outcomes, schema.machine_plans, self._month
        has_result = select(outcomes.c.number).where(outcomes.c.run_id == runs.c.id).exists()
        query = (
            select(runs.c.id, plans.c.machine)
            .select_from(runs.outerjoin(plans, plans.c.run_id == runs.c.id))
            .where(runs.c.kind == "patch", runs.c.started_at >= month.start, runs.c.started_at < month.end, ~has_result)
        )
        return {run_id for run_id, machine in self._execute(query) if machine is None or machine in self._machines}

    def read_exceptions(self) -> Iterator[ExceptionFigure]:
        """Return what keeps fixes from being installed: the present state, and opt-outs of the month."""
        table = schema.assessment_updates
        query = select(table.c.machine, table.c.name, table.c.held, table.c.blocked).where(
            table.c.held | (table.c.blocked != ""), table.c.classification.in_(tuple(_KINDS))
        )
        groups: Counter[tuple[str, str, str]] = Counter()
        for machine, name, held, blocked in self._execute(query):
            if machine in self._machines:
                groups["held" if held else "blocked", name, "held on the machine" if held else blocked] += 1
        for (status, name, reason), count in sorted(groups.items()):
            yield ExceptionFigure(status, name, count, reason, "", None, None)
        held = schema.held_updates
        rows = select(held.c.name, held.c.version, held.c.reason, held.c.at, held.c.released_at, held.c.released_by)
        for name, version, reason, at, released_at, by in self._execute(
            rows.where(held.c.at < self._month.end).order_by(held.c.at)
        ):
            if released_at is None or released_at >= self._month.start:
                yield ExceptionFigure("rollout", f"{name} {strip_update_id(version)}", 0, reason, by, at, released_at)
        paused = schema.opt_outs
        rows = select(paused.c.scope, paused.c.reason, paused.c.who, paused.c.at, paused.c.until)
        for scope, reason, who, at, until in self._execute(
            rows.where(paused.c.at < self._month.end).order_by(paused.c.at)
        ):
            if until is None or until >= self._month.start:
                yield ExceptionFigure("paused", scope, 0, reason, who, at, until)
        yield from self._read_held_packages()

    def _read_held_packages(self) -> Iterator[ExceptionFigure]:
        """Return what maintenance control held in the month, for groups with machines of the scope at the last look."""
        groups, packages = held_groups, held_packages
        query = (
            select(packages.c.group_name, packages.c.number, packages.c.first_seen, packages.c.ended_at)
            .add_columns(groups.c.document)
            .join_from(packages, groups, packages.c.group_name == groups.c.group_name)
            .where(packages.c.first_seen < self._month.end)
            .order_by(packages.c.first_seen, packages.c.group_name)
        )
        for group, number, first_seen, ended_at, document in self._execute(query):
            known = json.loads(document)
            count = sum(name in self._machines for name in known["machines"])
            if count and (ended_at is None or ended_at >= self._month.start):
                until = ended_at or first_seen + timedelta(seconds=known["holdSeconds"])
                subject, reason = f"{group}, package {number}", "held by its configuration"
                yield ExceptionFigure("maintenance", subject, count, reason, "", first_seen, until)

    def find_oldest_assessment(self) -> datetime | None:
        """Return the oldest assessment with an answer in the records."""
        table = schema.assessments
        return next((row[0] for row in self._execute(select(func.min(table.c.at)).where(table.c.known))), None)


def read_compliance_data(
    records: SqlRecords, machines: Collection[str], month: Month, until: datetime
) -> ComplianceData:
    """Return what the records know of a month.

    ``machines``: names of the machines of the scope.
    ``until``: installations until then are read, also after the month.
    """
    retention, first_seen = read_retention(records), read_first_seen(records.database)
    with records.database.begin_read("read the compliance of a month") as connection:
        reader = _Reader(connection, machines, month, until)
        return ComplianceData(
            sights=tuple(reader.read_sights()),
            installations=tuple(reader.read_installations()),
            first_seen=first_seen,
            days=tuple(reader.read_days()),
            runs=tuple(reader.read_runs()),
            exceptions=tuple(reader.read_exceptions()),
            recorded_since=reader.find_oldest_assessment(),
            assessments_kept_days=retention.assessments_days,
        )


def read_machines_of_month(records: SqlRecords, month: Month) -> frozenset[str]:
    """Return the names of all machines that were assessed in a month, also of those that are gone by now."""
    table = page_schema.machine_days
    query = select(table.c.machine).where(table.c.day >= month.start.date(), table.c.day < month.end.date()).distinct()
    with records.database.begin_read("read the machines of a month") as connection:
        return frozenset(connection.execute(query).scalars().all())


def _decode_fixes(body: bytes) -> tuple[PendingFix, ...]:
    """Return the critical and security updates of an assessment, from its list of updates."""
    updates = json.loads(decompress_text(body, "list of updates"))["updates"]
    return tuple(
        PendingFix(
            name=to_index_key(update["name"]),
            version=build_update_key("", update["id"], update["available"])[1],
            kind=_KINDS[update["classification"]],
            withheld="held on the machine" if update.get("held") else update.get("blocked", ""),
        )
        for update in updates
        if update["classification"] in _KINDS
    )


def _build_run(row: Sequence[Any], totals: Counter[str]) -> RunFigure:
    run_id, configuration, started_at, ended_at, state, message, document = row
    stored = json.loads(document)
    window, request = stored.get("window"), stored.get("request") or {}
    exceeded = float(totals["exceeded"])
    end = "cancelled" if state == OperationState.CANCELLED else "kept" if ended_at else "unfinished"
    judged = "" if window is None else "exceeded" if exceeded > 0 else end
    upgrade = f"upgrade of {component}" if (component := request.get("component")) else ""
    if judged and configuration is None:  # no schedule made it: nothing was promised that could be kept
        judged = UNSCHEDULED
    return RunFigure(
        run=run_id,
        configuration=configuration or str(request.get("configuration") or ""),
        starts_at=datetime.fromisoformat(window["start"]).astimezone(UTC) if window else started_at,
        ended_at=ended_at,
        window=judged,
        state=state,
        exceeded_seconds=exceeded,
        machines=totals["machines"],
        succeeded=totals["succeeded"],
        failed=totals["failed"],
        installed=totals["installed"],
        reboots=totals["reboots"],
        reason="; ".join(filter(None, (upgrade, message))),
    )
