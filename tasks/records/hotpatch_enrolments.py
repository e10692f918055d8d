"""Stores what people last asked for on each machine: to enrol it for hotpatches or live patches, or to end that."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from sqlalchemy import select

from tasks.domain.states import HotpatchStatus
from tasks.records import page_schema
from tasks.records.statements import iterate_batches, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.hotpatch import EnrolmentRequest, HotpatchAction

_ENROLMENTS = page_schema.hotpatch_enrolments


class SqlHotpatchEnrolments:
    """The last request of each machine, in the database of the records.

    All threads of a process may share an object.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_requests(self, machines: Sequence[str]) -> Mapping[str, EnrolmentRequest]:
        """Return the last request of each of these machines that has one."""
        return dict(self._iterate_requests(machines))

    def save_request(self, machine: str, request: EnrolmentRequest, status: HotpatchStatus | None) -> None:
        """Store the request of a machine, with its status then. It replaces the one before."""
        document = {
            "action": request.action.value,
            "by": request.by,
            "notBefore": request.not_before.isoformat() if request.not_before else None,
            "failure": request.failure,
        }
        row = {
            "machine": machine,
            "status": status.value if status else "",
            "at": request.at,
            "document": json.dumps(document),
        }
        with self._database.begin_write(f"store the enrolment of {machine}") as connection:
            upsert_row(connection, _ENROLMENTS, row)

    def _iterate_requests(self, machines: Sequence[str]) -> Iterator[tuple[str, EnrolmentRequest]]:
        with self._database.begin_read("read enrolments for hotpatches") as connection:
            for names in iterate_batches(machines):
                for row in connection.execute(select(_ENROLMENTS).where(_ENROLMENTS.c.machine.in_(names))):
                    document = json.loads(row.document)
                    first_day = document.get("notBefore")
                    request = EnrolmentRequest(
                        action=HotpatchAction(document["action"]),
                        at=row.at,
                        by=document.get("by", ""),
                        not_before=date.fromisoformat(first_day) if first_day else None,
                        failure=document.get("failure", ""),
                    )
                    yield row.machine, request
