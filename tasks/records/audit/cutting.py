"""Removes the oldest entries of the audit log. The chain goes on, and its first entry's gap is a recorded one."""

from dataclasses import replace
from datetime import datetime

from tasks.domain.errors import RequestError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.deployed_policies import keep_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.seals_and_heads import CUT_ACT
from tasks.records.audit.verification import AuditState, describe_verification, verify_log
from tasks.records.storage.database import Database

_SOUND = frozenset({AuditState.INTACT, AuditState.END_UNKNOWN})


def cut_log(
    database: Database,
    through: int,
    now: datetime,
    actor: tuple[str, str, str, str],
    reason: str,
    *,
    accept_faults: bool = False,
) -> tuple[AuditEntry, int]:
    """Remove all entries up to a number, and record that at the end of the log.

    Args:
        database: the records' database.
        through: the number of the newest entry that is removed.
        now: the present time.
        actor: who does it: the proven name, how it is proven, the claimed name, the address.
        reason: why.
        accept_faults: also if the log is broken or cut short. What was wrong is recorded.

    Returns:
        The entry that records it, and how many entries were removed.

    Raises:
        RequestError: the log is not intact, the number is larger than its last, or the reason is empty.
    """
    log = SqlAuditLog(database)
    verification = verify_log(log)
    state = describe_verification(verification, 5)[:1500]
    if not reason.strip():
        raise RequestError("a cut of the audit log needs a reason", hint="Say it with --reason TEXT.")
    if verification.state not in _SOUND and not accept_faults:
        raise RequestError(
            f"the audit log is not intact: {state}",
            hint="Look at it first: fleetpatch audit verify. --accept-faults cuts it, and keeps what was wrong.",
        )
    who, source, claimed, address = actor
    acceptance = reason.strip() if verification.state in _SOUND else f"{reason.strip()} (accepted: {state})"
    draft = AuditEntry(
        at=now,
        who=who,
        address=address,
        act=CUT_ACT,
        subject=f"entries up to {through}",
        detail="",
        result=AuditResult.DONE,
        message=acceptance,
        source=source,
        claimed=claimed,
    )
    keep_deployed_policies(log, through, now)
    return log.cut(through, lambda detail: replace(draft, detail=detail))
