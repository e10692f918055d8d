"""Records which policy holds for a fleet, so that no process begins a run without it."""

from flows.ports.audit import read_os_actor
from tasks.domain.protocols.clock import SystemClock
from tasks.records.audit.deployed_policies import is_deployed, record_deployed_policy
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.rules.policy.model import Policy


def is_policy_recorded(fleet: str, policy: Policy) -> bool:
    """Return whether a policy is the one that was recorded last. Without a file nothing is looked at.

    Raises:
        RecordsError: the records can't be read.
    """
    if not policy.files:
        return True
    with open_records(fleet=fleet) as records:
        return is_deployed(SqlAuditLog(records.database), fleet, policy.files)


def record_policy(fleet: str, policy: Policy) -> bool:
    """Record a policy, or that there is none any more. Return whether that is news.

    Raises:
        RecordsError: the records can't be read or written.
    """
    actor = read_os_actor()
    who = (actor.who, actor.source, actor.claimed, actor.address)
    with open_records(fleet=fleet) as records:
        return record_deployed_policy(SqlAuditLog(records.database), fleet, policy.files, who, SystemClock().now())
