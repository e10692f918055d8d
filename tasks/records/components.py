"""Stores which components are upgraded by themselves, and reads what became of their upgrades."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import case, delete, exists, func, select, true

from tasks.domain.components import COMPONENT_PREFIX, DISK_PREFIX, ComponentEnrolment, ComponentTry
from tasks.domain.images import IMAGE_PREFIX
from tasks.domain.model import RunInfo
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import OperationState, UpdateState
from tasks.records import page_schema, schema
from tasks.records.encoding.codec import decode
from tasks.records.statements import UNFINISHED_STATES, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.components.tries import BAD_STATES, NOT_TRIED

_CHANGING_ACTS = (JobKind.INSTALL.value, JobKind.ROLL_BACK.value, ProviderAct.REPLACE_OS_DISK.value)
_ENROLMENTS, _RESULTS = page_schema.component_enrolments, schema.update_results


class SqlComponents:
    """Components in the database of the records. All threads of a process may share an object.

    Every method raises RecordsError if the database cannot be reached.

    Args:
        database: the database of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def enrol(self, enrolment: ComponentEnrolment) -> bool:
        """Enrol a component on the machines of a scope. Return whether it was not so before.

        Blanks around a scope make no difference.
        """
        text = f"{enrolment.component}\0{enrolment.scope.strip()}\0{enrolment.role_scope}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        row = {
            "digest": digest,
            "component": enrolment.component,
            "scope": enrolment.scope.strip(),
            "role_scope": enrolment.role_scope,
            "who": enrolment.by,
            "at": enrolment.at,
        }
        with self._database.begin_write(f"enrol the component {enrolment.component}") as connection:
            known = connection.execute(select(_ENROLMENTS.c.digest).where(_ENROLMENTS.c.digest == digest)).first()
            if known is None:
                upsert_row(connection, _ENROLMENTS, row)
        return known is None

    def unenrol(self, component: str, scope: str) -> bool:
        """End all enrolments of a component with a scope, whoever made them. Return whether there was one."""
        statement = delete(_ENROLMENTS).where(
            _ENROLMENTS.c.component == component, _ENROLMENTS.c.scope == scope.strip()
        )
        with self._database.begin_write(f"end the enrolment of the component {component}") as connection:
            return connection.execute(statement.returning(_ENROLMENTS.c.digest)).first() is not None

    def read_enrolments(self) -> tuple[ComponentEnrolment, ...]:
        """Return all enrolments, by component, the oldest first."""
        query = select(_ENROLMENTS).order_by(_ENROLMENTS.c.component, _ENROLMENTS.c.at, _ENROLMENTS.c.digest)
        rows = self._database.read_rows("read the enrolments of components", query)
        return tuple(ComponentEnrolment(row.component, row.scope, row.who, row.at, row.role_scope) for row in rows)

    def read_tries(self, component: str) -> tuple[ComponentTry, ...]:
        """Return the upgrades of a component that runs have begun, the oldest first, as long as the records keep them.

        They are the outcomes of these runs. See tasks/rules/components/tries.py.
        """
        outcomes, runs = schema.outcomes, schema.runs
        disk = _RESULTS.alias()
        # a new OS disk got the version again: that is no try of it
        has_new_disk = (disk.c.outcome == _RESULTS.c.outcome) & disk.c.update_id.startswith(DISK_PREFIX)
        is_of_its_run = true() if component.startswith(IMAGE_PREFIX) else ~exists().where(has_new_disk)
        ended_at = func.coalesce(outcomes.c.ended_at, outcomes.c.started_at)
        is_unchanged = (_RESULTS.c.state == UpdateState.FAILED.value) & _RESULTS.c.version_after.is_not_distinct_from(
            _RESULTS.c.installed
        )
        query = (
            select(
                _RESULTS.c.machine,
                _RESULTS.c.run_id,
                _RESULTS.c.available,
                _RESULTS.c.installed,
                _RESULTS.c.version_after,
                _RESULTS.c.state,
                _RESULTS.c.reason,
                outcomes.c.state.label("outcome_state"),
                outcomes.c.reason.label("outcome_reason"),
                ended_at.label("ended_at"),
                case((is_unchanged, outcomes.c.document)).label("unchanged_document"),
            )
            .join(outcomes, outcomes.c.number == _RESULTS.c.outcome)
            .join(runs, runs.c.id == _RESULTS.c.run_id)
            .where(
                _RESULTS.c.name == component,
                _RESULTS.c.update_id == f"{COMPONENT_PREFIX}{component}",
                _RESULTS.c.state.not_in([state.value for state in NOT_TRIED]),
                runs.c.kind == "patch",
                ended_at.is_not(None),
                is_of_its_run,
            )
            .order_by(ended_at, _RESULTS.c.number)
        )
        rows = self._database.read_rows(f"read the upgrades of the component {component}", query)
        return tuple(_build_try(component, row) for row in rows)

    def read_changing(self) -> dict[str, dict[str, str]]:
        """Return the machines that runs without an end have begun to change: component -> machine -> run."""
        runs, journal, outcomes = schema.runs, schema.journal, schema.outcomes
        is_done = exists().where(outcomes.c.run_id == journal.c.run_id, outcomes.c.machine == journal.c.machine)
        query = (
            select(runs.c.document, journal.c.machine)
            .join(journal, journal.c.run_id == runs.c.id)
            .where(
                runs.c.kind == "patch",
                runs.c.state.in_(UNFINISHED_STATES),
                journal.c.act.in_(_CHANGING_ACTS),
                journal.c.machine != "",
                ~is_done,
            )
        )
        changing: dict[str, dict[str, str]] = {}
        for document, machine in self._database.read_rows("read the open runs of components", query):
            run = decode(RunInfo, document)
            if component := str(run.request.get("component") or ""):
                changing.setdefault(component, {})[machine] = run.id
        return changing

    def read_components_of_runs(self, site: str, since: datetime) -> frozenset[str]:
        """Return the components that patch runs of a site, begun since a time, have upgraded or were to upgrade."""
        begun = self._read_runs(since)
        return frozenset(
            str(run.request["component"]) for run in begun if run.site == site and run.request.get("component")
        )

    def read_run_ids(self, component: str, since: datetime, limit: int) -> tuple[str, ...]:
        """Return the patch runs of a component that began since a time, the newest first, at most so many."""
        ids = [run.id for run in self._read_runs(since) if run.request.get("component") == component]
        return tuple(ids[:limit])

    def read_image_run_ids(self, since: datetime) -> tuple[str, ...]:
        """Return the patch runs of groups of images that began since a time, the newest first."""
        begun = self._read_runs(since)
        return tuple(run.id for run in begun if str(run.request.get("component") or "").startswith(IMAGE_PREFIX))

    def _read_runs(self, since: datetime) -> Iterator[RunInfo]:
        """Return the patch runs that began since a time, the newest first."""
        runs = schema.runs
        query = select(runs.c.document).where(runs.c.kind == "patch", runs.c.started_at >= since)
        rows = self._database.read_rows("read the runs of components", query.order_by(runs.c.started_at.desc()))
        return (decode(RunInfo, row.document) for row in rows)


def _build_try(component: str, row: Sequence[object]) -> ComponentTry:
    machine, run_id, version, before, after, state, reason, outcome_state, outcome_reason, at, unchanged = row
    succeeded = state == UpdateState.INSTALLED and OperationState(str(outcome_state)) not in BAD_STATES
    why = "" if succeeded else str(reason or outcome_reason)
    was_refused = unchanged is not None and not (json.loads(str(unchanged)).get("install") or {}).get("transactions")
    names = str(machine), str(run_id), str(version)
    versions = str(before or ""), None if after is None else str(after)
    return ComponentTry(component, *names, at, succeeded, why, was_refused, *versions)  # type: ignore[arg-type]  # a moment
