"""The policies that `fleetpatch deploy` has recorded, as entries of the audit log. Of each fleet the newest holds."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tasks.domain.errors import RecordsError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.rules.policy.decision import DeployedPolicy
from tasks.rules.policy.model import PolicyFile

DEPLOY_POLICY_ACT: Final = "deploy policy"
_MOST: Final = 1000
_PATH_LENGTH: Final = 200
"""Characters of a path, which is only for people. A detail has few files, and must stay whole."""


def read_deployed_policies(log: SqlAuditLog) -> tuple[DeployedPolicy, ...]:
    """Return the policies that hold for a process with these records, the newest first.

    Raises:
        RecordsError: the records can't be read, or an entry is damaged.
    """
    policies = (_parse_entry(entry) for entry in _read_newest(log))
    return tuple(policy for policy in policies if policy.files)


def record_deployed_policy(
    log: SqlAuditLog, fleet: str, files: Sequence[PolicyFile], actor: tuple[str, str, str, str], now: datetime
) -> bool:
    """Record the policy files of a fleet. Return whether they are others than before.

    Args:
        log: the audit log.
        fleet: the name of the set of configurations.
        files: none: no policy holds any more.
        actor: who deploys: the proven name, how it is proven, the claimed name, the address.
        now: the present time.
    """
    if is_deployed(log, fleet, files):
        return False
    who, source, claimed, address = actor
    detail = json.dumps([[file.path[:_PATH_LENGTH], file.digest] for file in files])
    log.append(
        AuditEntry(
            at=now,
            who=who,
            address=address,
            act=DEPLOY_POLICY_ACT,
            subject=fleet,
            detail=detail,
            result=AuditResult.DONE,
            source=source,
            claimed=claimed,
        )
    )
    return True


def is_deployed(log: SqlAuditLog, fleet: str, files: Sequence[PolicyFile]) -> bool:
    """Return whether these files, or none, are those that were recorded last for a fleet.

    Raises:
        RecordsError: the records can't be read, or an entry is damaged.
    """
    newest_files = next((_parse_entry(entry).files for entry in _read_newest(log) if entry.subject == fleet), ())
    return {(file.path, file.digest) for file in newest_files} == {
        (file.path[:_PATH_LENGTH], file.digest) for file in files
    }


def keep_deployed_policies(log: SqlAuditLog, through: int, now: datetime) -> None:
    """Record again what a cut would remove: a policy that was deployed holds until the next deploy.

    Where the log has no such number, nothing is cut.

    ``through``: the number of the newest entry that will be removed.
    """
    last = max((entry.number for entry in log.read(1)), default=0)
    for entry in reversed(_read_newest(log)):
        if entry.number <= through <= last:
            log.append(replace(entry, at=now, message=f"again, because entry {entry.number} is cut"))


def _read_newest(log: SqlAuditLog) -> Sequence[AuditEntry]:
    """Return the newest entry of each fleet, the newest first."""
    newest: dict[str, AuditEntry] = {}
    for entry in log.read(_MOST, act=DEPLOY_POLICY_ACT):
        newest.setdefault(entry.subject, entry)
    return list(newest.values())


def _parse_entry(entry: AuditEntry) -> DeployedPolicy:
    try:
        files = tuple(PolicyFile(str(path), str(digest)) for path, digest in json.loads(entry.detail))
    except (ValueError, TypeError) as error:
        raise RecordsError(
            f"entry {entry.number} of the audit log does not say which policy was deployed: it was changed",
            hint="Nothing begins. Find out who can write the database, then deploy again: fleetpatch deploy.",
        ) from error
    return DeployedPolicy(entry.subject, entry.at.astimezone(UTC), files)
