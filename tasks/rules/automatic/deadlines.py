"""Computes until when an update must be installed, since when it is missing, and what shortens a deadline. Pure."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, time, timedelta

from tasks.domain.model import UpdateKey
from tasks.rules.automatic.model import AutomaticPolicy, CveRisk, DueUpdate, RiskRule


def compute_due(policy: AutomaticPolicy, update: DueUpdate, risks: Mapping[str, CveRisk]) -> datetime:
    """Return the deadline of an update on its machine: the earliest that applies.

    A rule for exploited vulnerabilities counts from the day on which the catalogue took one in, if that is later than
    ``since``: nobody can keep a deadline that is over before anybody knows of it.
    """
    due_times = [update.since + timedelta(days=policy.due_days)]
    update_risks = [risks[cve] for cve in update.cves if cve in risks] if policy.risk_rules else []
    exploited_days = [risk.exploited_since for risk in update_risks if risk.exploited_since is not None]
    for rule in policy.risk_rules:
        start = update.since
        if rule.known_exploited and exploited_days:
            start = max(start, datetime.combine(min(exploited_days), time(), UTC))
        if (
            (not rule.known_exploited or exploited_days)
            and (rule.epss is None or any(risk.epss is not None and risk.epss >= rule.epss for risk in update_risks))
            and (rule.cvss is None or any(risk.cvss is not None and risk.cvss >= rule.cvss for risk in update_risks))
        ):
            due_times.append(start + timedelta(days=rule.due_days))
    return min(due_times)


def find_missing_since(
    known: Mapping[str, datetime],
    pending: Iterable[UpdateKey],
    released: Mapping[UpdateKey, datetime],
    now: datetime,
    installed: Collection[str] = (),
) -> dict[str, datetime]:
    """Return since when a machine lacks a fix, for each name of its pending updates.

    A newer version of an update that was pending already does not change the time, so it never postpones a deadline.
    A name that is no longer pending is left out: the machine has its fix.

    Args:
        known: the result of the last time, for this machine.
        pending: the updates that are pending on the machine now.
        released: their publications, or else first sights; one that has none is seen for the first time now.
        now: the current time, aware.
        installed: names of which the machine has installed a version since the last time. What is still pending of
            them was missing since the publication of that version only.
    """
    due_by_name: dict[str, datetime] = {}
    for name, version in pending:
        since = released.get((name, version), now)
        before = None if name in installed else known.get(name)
        due_by_name[name] = min(time for time in (since, before, due_by_name.get(name)) if time is not None)
    return due_by_name


def describe_risk_rule(rule: RiskRule) -> str:
    """Return a rule as a sentence: "due after 3 days if known to be exploited"."""
    conditions = [
        *(["known to be exploited"] if rule.known_exploited else []),
        *([f"EPSS at least {rule.epss:g}"] if rule.epss is not None else []),
        *([f"CVSS at least {rule.cvss:g}"] if rule.cvss is not None else []),
    ]
    days = f"due after {rule.due_days:g} day{'s' * (rule.due_days != 1)}"
    return f"{days} if {' and '.join(conditions)}" if conditions else f"{days}, all updates"
