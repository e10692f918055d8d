"""Describes the limits of a rule in words. Pure."""

from tasks.rules.policy.model import OPTION_MEANINGS, PolicyFreeze, PolicyRule


def describe_limits(rule: PolicyRule) -> tuple[tuple[str, str], ...]:
    """Return the keys of what a rule limits, each with its words."""
    limits = (
        ("approval", rule.approvers is not None and f"by {', '.join(sorted(rule.approvers))}, never by the starter"),
        ("freezes", "; ".join(_describe_freeze(freeze) for freeze in rule.freezes)),
        ("forbid", "; ".join(f"{option} ({OPTION_MEANINGS[option]})" for option in sorted(rule.forbidden))),
        ("hooks", rule.hooks is not None and (f"only {', '.join(sorted(rule.hooks))}" if rule.hooks else "none")),
        ("classifications", rule.classifications and f"only {', '.join(sorted(rule.classifications))}"),
        ("reboots", rule.reboots and f"only {', '.join(sorted(rule.reboots))}"),
        ("longest_window", _describe_number(rule.longest_window_minutes, "minutes")),
        ("failure_budget_percent", _describe_number(rule.failure_budget_percent, "% of a run's machines")),
        ("unreachable_percent", _describe_number(rule.unreachable_percent, "% of a run's machines")),
        ("at_once_percent", _describe_number(rule.at_once_percent, "% of the rule's machines")),
    )
    return tuple((key, limit_text) for key, limit_text in limits if limit_text)


def _describe_number(value: float | None, unit: str) -> str:
    return f"at most {value:g} {unit}" if value is not None else ""


def _describe_freeze(freeze: PolicyFreeze) -> str:
    reason = f" ({freeze.reason})" if freeze.reason else ""
    return f"{freeze.start:%Y-%m-%d %H:%M} to {freeze.end:%Y-%m-%d %H:%M}{reason}"
