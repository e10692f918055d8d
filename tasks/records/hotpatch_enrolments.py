"""Stores what people last asked for on each machine: to enrol it for hotpatches or live patches, or to end that."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from sqlalchemy import select

from tasks.domain.states import HotpatchStatus
from tasks.records import schema
from tasks.records.statements import build_insert
from tasks.records.storage.database import Database
from tasks.rules.hotpatch import EnrolmentRequest, HotpatchAction

_ENROLMENTS = schema.hotpatch_enrolments
_NAMES_PER_QUERY = 500  # SQLite limits the variables of a statement


class SqlHotpatchEnrolments:
    """The last request of each machine, in the database of the records. All threads of a process may share an object.

    Args:
        database: the database of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_requests(self, machines: Sequence[str]) -> Mapping[str, EnrolmentRequest]:
        """Return the last request of each of these machines that has one.

        Raises:
            RecordsError: the database cannot be reached.
        """
        return dict(self._iterate_requests(machines))

    def save_request(self, machine: str, request: EnrolmentRequest, status: HotpatchStatus | None) -> None:
        """Store the request of a machine, with its status then. It replaces the one before.

        Raises:
            RecordsError: the database cannot be written.
        """
        document = {
            "action": request.action.value,
            "by": request.by,
            "notBefore": request.not_before.isoformat() if request.not_before else None,
            "failure": request.failure,
        }
        row = {"status": status.value if status else "", "at": request.at, "document": json.dumps(document)}
        with self._database.begin_write(f"store the enrolment of {machine}") as connection:
            insertion = build_insert(connection.dialect.name, _ENROLMENTS).values(row | {"machine": machine})
            connection.execute(insertion.on_conflict_do_update(index_elements=["machine"], set_=row))

    def _iterate_requests(self, machines: Sequence[str]) -> Iterator[tuple[str, EnrolmentRequest]]:
        with self._database.begin_read("read enrolments for hotpatches") as connection:
            for start in range(0, len(machines), _NAMES_PER_QUERY):
                names = machines[start : start + _NAMES_PER_QUERY]
                for row in connection.execute(select(_ENROLMENTS).where(_ENROLMENTS.c.machine.in_(names))):
                    document = json.loads(row.document)
                    first_day = document.get("notBefore")
                    yield (
                        row.machine,
                        EnrolmentRequest(
                            action=HotpatchAction(document["action"]),
                            at=row.at,
                            by=document.get("by", ""),
                            not_before=date.fromisoformat(first_day) if first_day else None,
                            failure=document.get("failure", ""),
                        ),
                    )
