"""The audit log as lists show it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tasks.domain.rows.columns import Column, row


class AuditResult(StrEnum):
    """What became of an act."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


@row
class AuditEntry:
    """An act of a person or a program: "begun", then "done", "failed" or "refused".

    ``result`` is a word of ``AuditResult``. Whoever may write the table can write any text. ``source`` is "os",
    "token", "link", "oidc", "ldap", "session", "proxy", "loopback", "schedule", "automatic", "configuration"; or
    "prefect": somebody who may use Prefect, whom Prefect does not know.
    """

    number: Annotated[int, Column("Its place in the log, from 1; 0 before it is stored.")] = 0
    at: Annotated[datetime, Column("When it was done.", json_name="dateTime")]
    who: Annotated[str, Column("The name that the login proves. Empty: there was no login.")]
    source: Annotated[str, Column("What proves it: os, token, session, proxy, pages, schedule, prefect …")] = ""
    claimed: Annotated[str, Column("A name that was given without proof.")] = ""
    address: Annotated[str, Column("The browser's or program's address, or the command's computer and user id.")]
    act: Annotated[str, Column("What was done: approve, patch, login …")]
    subject: Annotated[str, Column("The run, the machine or the scope.", heading="of")]
    detail: Annotated[str, Column("More of it, without secrets.")]
    result: Annotated[str, Column("What became of it: begun, done, failed or refused.")]
    message: Annotated[str, Column("Why it failed or was refused.", is_prose=True)] = ""
    previous: Annotated[str, Column("The seal of the entry before it; empty for the first one.")] = ""
    key_id: Annotated[str, Column("Which key made the seal.")] = ""
    seal: Annotated[str, Column("The entry's place in the chain that `fleetpatch audit verify` checks.")] = ""
