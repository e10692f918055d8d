"""Describes figures in words. All reports and commands use the same words."""

from typing import Final

from tasks.domain.model import MachinePlan
from tasks.reports.formatting import (
    NOT_KNOWN,
    format_count,
    format_minutes,
)
from tasks.rules.runs.figures import PlanFigures, compute_min_seconds

_FROM_EARLIER_RUNS = "from earlier runs"


def describe_cves(count: int | None) -> str:
    """Return the number of fixed CVEs: "3 CVEs", or "CVEs not known" for None."""
    return f"CVEs {NOT_KNOWN}" if count is None else format_count(count, "CVE")


def describe_reboots(figures: PlanFigures) -> str:
    """Return the expected number of reboots: "2 reboots and 3 more possible", "1 reboot possible", "0 reboots"."""
    if not figures.possible_reboots:
        return format_count(figures.reboots, "reboot")
    if not figures.reboots:
        return f"{format_count(figures.possible_reboots, 'reboot')} possible"
    return f"{format_count(figures.reboots, 'reboot')} and {figures.possible_reboots} more possible"


def describe_minutes_range(least: float | None, most: float) -> str:
    """Return predicted seconds as minutes; as a range if a reboot may be necessary: "under 1 min to 7 min"."""
    first, last = format_minutes(most if least is None else least), format_minutes(most)
    return last if first == last else f"{first} to {last}"


def describe_prediction(plan: MachinePlan) -> str:
    """Return the predicted duration of a machine."""
    return describe_minutes_range(compute_min_seconds(plan), plan.prediction.total_seconds)


def describe_prediction_basis(basis: str) -> str:
    """Return how reliable a prediction is."""
    if basis == "defaults":
        return "a cautious guess: no earlier run of it is known"
    if basis.startswith("defaults; learned"):
        return "partly from earlier runs, partly a cautious guess"
    return _FROM_EARLIER_RUNS if basis == "learned" else f"from {basis}"


def describe_slowest_machine(figures: PlanFigures) -> str:
    """Return the predicted duration of the slowest machine and how reliable it is; "" if there is no such machine."""
    plan = figures.slowest_plan
    if plan is None:
        return ""
    basis = describe_prediction_basis(plan.prediction.basis)
    return f"the slowest machine takes about {describe_prediction(plan)} ({basis})"


RUN_KIND_TITLES: Final = {"patch": "Patch run", "stage": "Download", "plan": "Plan", "assess": "Assessment"}
