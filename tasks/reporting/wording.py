"""Figures in words, the same words wherever people read them."""

from tasks.model import Plan
from tasks.reporting.text import NOT_KNOWN, minutes, plural
from tasks.rules.figures import PlanFigures, least_seconds

_EARLIER = "from earlier runs"


def say_cves(count: int | None) -> str:
    """Return how many CVEs are fixed: "3 CVEs", or "CVEs not known"."""
    return f"CVEs {NOT_KNOWN}" if count is None else plural(count, "CVE")


def say_reboots(figures: PlanFigures) -> str:
    """Return how many reboots are expected: "2 reboots and perhaps 3 more", "perhaps 1 reboot", "0 reboots"."""
    if not figures.perhaps:
        return plural(figures.reboots, "reboot")
    if not figures.reboots:
        return f"perhaps {plural(figures.perhaps, 'reboot')}"
    return f"{plural(figures.reboots, 'reboot')} and perhaps {figures.perhaps} more"


def say_span(least: float | None, most: float) -> str:
    """Return predicted seconds in minutes; both ends when a reboot may be needed: "under 1 min to 7 min"."""
    first, last = minutes(most if least is None else least), minutes(most)
    return last if first == last else f"{first} to {last}"


def say_predicted(plan: Plan) -> str:
    """Return how long a machine is predicted to take."""
    return say_span(least_seconds(plan), plan.prediction.total)


def say_basis(basis: str) -> str:
    """Return how far a prediction can be trusted."""
    if basis == "defaults":
        return "a cautious guess: no earlier run of it is known"
    if basis.startswith("defaults; learned"):
        return "partly from earlier runs, partly a cautious guess"
    return _EARLIER if basis == "learned" else f"from {basis}"


def say_slowest(figures: PlanFigures) -> str:
    """Return how long the machine takes that takes longest, and how far that can be trusted; "" when there is none."""
    plan = figures.slowest
    if plan is None:
        return ""
    return f"the slowest machine takes about {say_predicted(plan)} ({say_basis(plan.prediction.basis)})"
