"""The entries of the audit log about what people do, and their recording around an act."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flows.ports.caller import Actor
from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, PolicyRefused, RecordsError
from tasks.domain.protocols.clock import Clock
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.reports.sanitizing import sanitize_to_one_line

logger = logging.getLogger(__name__)

MAX_LENGTH: Final = 2000
"""Characters of each text of an entry."""

_FLOW_RUN: Final = re.compile(r'"flow_run": "([^"\\]+)"')
"""In the detail of an entry, which is JSON. A long one is cut off and can't be parsed; quotes in a text are escaped."""
AuditAppender = Callable[[AuditEntry], object]
"""Stores an entry of the audit log. Raises RecordsError."""


def append_nowhere(entry: AuditEntry) -> None:
    """Store nothing: for runs without records of their own."""


def build_entry(
    actor: Actor, clock: Clock, act: str, subject: str, detail: str, result: AuditResult, message: str = ""
) -> AuditEntry:
    """Return an entry whose texts are each on one line, so that nobody can forge further entries."""
    names = (actor.who, actor.address, act, subject, detail)
    who, address, act, subject, detail = (sanitize_to_one_line(text, MAX_LENGTH) for text in names)
    return AuditEntry(
        at=clock.now(),
        who=who,
        address=address,
        act=act,
        subject=subject,
        detail=detail,
        result=result,
        message=sanitize_to_one_line(message, MAX_LENGTH),
        source=actor.source,
        claimed=sanitize_to_one_line(actor.claimed, MAX_LENGTH),
    )


@dataclass(slots=True)
class RecordedAct:
    """How an act has ended, beyond that it raised no error."""

    result: AuditResult = AuditResult.DONE  # what became of it
    message: str = ""  # why it failed or was refused


@contextmanager
def record_act(
    append: AuditAppender, actor: Actor, clock: Clock, act: str, subject: str, detail: str = ""
) -> Iterator[RecordedAct]:
    """Record an act: "begun" before the block, then how it ended, or "failed" with the error.

    The detail must have no secrets.

    Raises:
        RecordsError: the log can't be written. Then nothing may be done.
    """
    append(build_entry(actor, clock, act, subject, detail, AuditResult.BEGUN))
    ended = RecordedAct()
    try:
        yield ended
    except BaseException as error:
        message = error.message if isinstance(error, FleetpatchError) else f"{type(error).__name__}: {error}"
        result = AuditResult.REFUSED if isinstance(error, PolicyRefused) else AuditResult.FAILED
        record_end(append, build_entry(actor, clock, act, subject, detail, result, message))
        raise
    record_end(append, build_entry(actor, clock, act, subject, detail, ended.result, ended.message))


def record_end(append: AuditAppender, entry: AuditEntry) -> None:
    """Store how an act ended. What is done is done: that this can't be stored must not make it look undone."""
    try:
        append(entry)
    except RecordsError as error:
        logger.warning("the audit log lacks that %s %s is %s: %s", entry.act, entry.subject, entry.result, error)


def find_flow_runs_of_run(audit: SqlAuditLog, run_id: str) -> tuple[str, ...]:
    """Return the ids of the flow runs that have begun or resumed a run, oldest first. One that did neither is missing.

    Raises:
        RecordsError: the audit log can't be read.
    """
    begun = audit.read_of_subject("run", run_id, AuditResult.BEGUN)
    found = (_FLOW_RUN.search(entry.detail) for entry in begun)
    return tuple(dict.fromkeys(match[1] for match in found if match is not None))
