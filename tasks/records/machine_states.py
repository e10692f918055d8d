"""Keeps the present state of each machine in columns, its newest run, its pending updates, and its state on each day.

Lists and pages of a whole fleet read these rows instead of thousands of documents.

Pending updates are those of the newest assessment with an answer. They are pending since the first assessment that saw
an update of this name, without an answer in between that did not: a newer version of the same update does not change
it, and it does not depend on automatic patching.
"""

import json
from collections.abc import Iterable
from datetime import UTC
from functools import cache

from sqlalchemy import Connection, Select, TextClause, Update, bindparam, insert, select

from tasks.domain.assessment import build_update_key
from tasks.domain.model import READ_ONLY_RUN_KINDS, Assessment, Outcome, PackageState, RunInfo
from tasks.domain.model import Update as MissingUpdate
from tasks.domain.states import Classification, Compliance
from tasks.records import page_schema as tables
from tasks.records import schema, statements
from tasks.records.encoding import row_encoding
from tasks.records.encoding.row_encoding import RowValues
from tasks.records.machine_rows import summarize_answer
from tasks.records.storage.column_types import to_index_key

_UNKNOWN_STATE: RowValues = {
    "answered_at": None,
    "compliance": Compliance.NOT_ASSESSED.value,
    "critical": 0,
    "security": 0,
    "other": 0,
    "withheld": 0,
    "reboot": "unknown",
    "reboot_since": None,
    "services_to_restart": 0,
    "problems": 0,
    "findings": 0,
    "os_id": "",
    "os_version": "",
    "os_name": "",
    "manager": "",
    "details": None,
}


SavedUpdates = set[tuple[str, str]]
"""Names and versions of updates whose CVEs are stored."""


def save_machine_state(connection: Connection, assessment: Assessment) -> bool:
    """Bring the row of a machine up to date. An assessment that is older than the row's changes nothing of it.

    The usual case is one statement per table, because each machine of each run pays for it.

    Args:
        connection: a connection in a transaction, with the lock of the machine's assessments.
        assessment: an assessment of the machine, with or without an answer.

    Returns:
        Whether the assessment is the machine's newest one with an answer.
    """
    dialect, attempt = connection.dialect.name, _build_attempt(assessment)
    if assessment.packages is None:
        connection.execute(_build_state_upsert(dialect, tuple(attempt)), {**_UNKNOWN_STATE, **attempt})
        return False
    answer = _build_answer(assessment, assessment.packages)
    upsert = _build_state_upsert(dialect, (*attempt, *answer))
    is_kept = connection.execute(upsert, {**attempt, **answer}).first() is not None
    if not is_kept:  # a later try is known; but if that failed, this may be the newest answer
        late = {**answer, "of_machine": assessment.machine, "of_at": assessment.at}
        is_kept = connection.execute(_build_late_update(tuple(answer)), late).rowcount > 0
    if is_kept:
        day = {"day": assessment.at.astimezone(UTC).date(), "machine": assessment.machine}
        day |= {name: answer[name] for name in ("compliance", "critical", "security", "other", "reboot")}
        connection.execute(statements.build_upsert(dialect, tables.machine_days, ("day", "machine")), day)
    return is_kept


@cache
def _build_state_upsert(dialect: str, changes: tuple[str, ...]) -> TextClause:
    """Return a statement that inserts a row, or changes some columns of a row that is not newer."""
    return statements.build_upsert(dialect, tables.machine_states, ("machine",), newest_by="at", changes=changes)


@cache
def _build_late_update(changes: tuple[str, ...]) -> Update:
    table = tables.machine_states
    is_newer = table.c.answered_at.is_(None) | (table.c.answered_at <= bindparam("of_at"))
    query = table.update().where(table.c.machine == bindparam("of_machine"), is_newer)
    return query.values({name: bindparam(name) for name in changes})


def save_last_run(connection: Connection, outcome: Outcome, run: RunInfo | None) -> None:
    """Store that a run is the newest of a machine, unless a later one is known or the run only reads.

    Args:
        connection: a connection in a transaction.
        outcome: what the run did on the machine.
        run: the run, if its row may not be stored yet; None: the row counts.
    """
    run_facts = (run.kind, run.started_at) if run is not None else None
    if run_facts is None:
        query = select(schema.runs.c.kind, schema.runs.c.started_at).where(schema.runs.c.id == outcome.run_id)
        run_facts = connection.execute(query).tuples().one_or_none()
    kind, began = run_facts or ("", None)
    at = outcome.started_at or outcome.ended_at or began
    if kind in READ_ONLY_RUN_KINDS or at is None:
        return
    row = {"machine": outcome.machine, "run_id": outcome.run_id, "kind": kind, "state": outcome.state.value, "at": at}
    table = tables.machine_last_runs
    connection.execute(statements.build_upsert(connection.dialect.name, table, ("machine",), newest_by="at"), row)


def _build_attempt(assessment: Assessment) -> RowValues:
    error = assessment.error
    return {
        "machine": assessment.machine,
        "run_id": assessment.run_id,
        "at": assessment.at,
        "error_kind": error.kind if error else "",
        "error_message": error.message if error else "",
    }


def _build_answer(assessment: Assessment, packages: PackageState) -> RowValues:
    facts, counts = assessment.facts, _count_updates(packages.updates)
    findings = facts.findings if facts else ()
    return {
        "answered_at": assessment.at,
        "compliance": assessment.compliance.value,
        **counts,
        "reboot": packages.reboot.answer.value,
        "reboot_since": packages.reboot.since,
        "services_to_restart": len(packages.services_to_restart),
        "problems": len(packages.problems) + len(packages.repository_problems),
        "findings": sum(finding.level.is_problem for finding in findings),
        "os_id": facts.os_id if facts else "",
        "os_version": facts.os_version if facts else "",
        "os_name": facts.os_name if facts else "",
        "manager": packages.manager,
        "details": json.dumps(summarize_answer(assessment), separators=(",", ":")),
    }


def _count_updates(updates: tuple[MissingUpdate, ...]) -> RowValues:
    critical = sum(update.classification is Classification.CRITICAL for update in updates)
    security = sum(update.classification in _SECURITY for update in updates)
    return {
        "critical": critical,
        "security": security,
        "other": len(updates) - critical - security,
        "withheld": sum(bool(update.remark) for update in updates),
    }


_SECURITY = frozenset({Classification.SECURITY, Classification.SECURITY_ESM})


def save_update_cves(connection: Connection, assessments: Iterable[Assessment], stored: SavedUpdates) -> SavedUpdates:
    """Store the CVEs of the updates of all assessments of a transaction.

    Args:
        connection: a connection in a transaction.
        assessments: all assessments that the transaction stores.
        stored: updates whose CVEs are stored. All machines of a fleet lack the same updates, so most are.

    Returns:
        The updates whose CVEs this transaction stores.
    """
    updates = (
        update
        for assessment in assessments
        if assessment.packages is not None
        for update in assessment.packages.updates
    )
    fresh = {(update.name, update.available): update.cves for update in updates if update.cves}
    unstored = fresh.keys() - stored
    # The order is fixed: two transactions that wait for each other's rows in different orders would be a deadlock.
    rows = [
        {"name": name, "version": version, "cve": cve}
        for name, version in sorted(unstored)
        for cve in sorted(set(fresh[name, version] or ()))
    ]
    if rows:
        statement = statements.build_insert(connection.dialect.name, tables.update_cves).on_conflict_do_nothing()
        connection.execute(statement, rows)
    return unstored


_PENDING = schema.assessment_updates


def replace_pending_updates(connection: Connection, assessment: Assessment, number: int) -> None:
    """Replace the pending updates of a machine.

    Args:
        connection: a connection in a transaction, with the lock of the machine's assessments.
        assessment: the machine's newest assessment with an answer.
        number: the number of its row.
    """
    of_machine = {"of": assessment.machine}
    stored = connection.execute(_build_since_query(), of_machine).tuples()
    since = {build_update_key(name, update_id, ""): at for name, update_id, at in stored}
    connection.execute(statements.build_delete(_PENDING.c.machine), of_machine)
    update_rows = row_encoding.encode_pending_updates(assessment, number)
    for row in update_rows:
        key = build_update_key(to_index_key(row["name"]), row["update_id"], "")
        row["since"] = since.get(key) or assessment.at
    if update_rows:
        connection.execute(insert(_PENDING), update_rows)


@cache
def _build_since_query() -> Select[tuple[str, str, object]]:
    return select(_PENDING.c.name, _PENDING.c.update_id, _PENDING.c.since).where(_PENDING.c.machine == bindparam("of"))
