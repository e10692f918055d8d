"""Says in words what shortens a deadline. Pure."""

from tasks.rules.automatic.model import RiskRule


def describe_risk_rule(rule: RiskRule) -> str:
    """Return a rule as a sentence: "due after 3 days if known to be exploited"."""
    conditions = [
        *(["known to be exploited"] if rule.known_exploited else []),
        *([f"EPSS at least {rule.epss:g}"] if rule.epss is not None else []),
        *([f"CVSS at least {rule.cvss:g}"] if rule.cvss is not None else []),
    ]
    days = f"due after {rule.due_days:g} day{'s' * (rule.due_days != 1)}"
    return f"{days} if {' and '.join(conditions)}" if conditions else f"{days}, all updates"
