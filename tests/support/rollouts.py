"""A fleet in the middle of a rollout: twelve locations in four phases, a failure, and machines that wait."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from deployments.preview.automatic_status import AutomaticStatus
from flows.request.automatic_request import AutomaticRequest, RiskRuleRequest
from tasks.domain.states import Classification, OperationState
from tasks.records.automatic.opt_outs import OptOut
from tasks.records.feeds.risk_feeds import FeedProblem, RiskFeeds
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.forecast import find_next_runs
from tasks.rules.automatic.model import (
    ActiveRun,
    DueUpdate,
    FleetView,
    HeldUpdate,
    MachineView,
    Phase,
    Rollout,
    RolloutState,
    RunPlan,
    Try,
)
from tasks.rules.automatic.progress import RolloutProgress, measure_rollout

NOW = datetime(2026, 11, 23, 22, 40, tzinfo=UTC)
BEGIN = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
PHASES = (("fra",), ("ams", "ber", "cph", "dub"), ("hel", "lis", "lon", "mad"), ("osl", "par", "waw"))
SIZES = {
    "fra": 3,
    "ams": 14,
    "ber": 9,
    "cph": 1,
    "dub": 6,
    "hel": 8,
    "lis": 4,
    "lon": 30,
    "mad": 11,
    "osl": 5,
    "par": 12,
    "waw": 7,
}
ZONES = {"dub": "Europe/Dublin", "hel": "Europe/Helsinki", "lis": "Europe/Lisbon", "lon": "Europe/London"}
VERSIONS = {"openssl": "3.0.15-1", "linux-image-amd64": "6.1.119-1", "sudo": "1.9.13p3-1+deb12u1"}
REQUEST = AutomaticRequest(
    risk_rules=[RiskRuleRequest(due_days=3, known_exploited=True), RiskRuleRequest(due_days=7, cvss=9, epss=0.5)]
)


def make_rollout(state: RolloutState = RolloutState.ROLLING_FORWARD, message: str = "") -> Rollout:
    """Return a rollout whose first phase is done, and whose second one runs."""
    phases = [Phase(number, locations) for number, locations in enumerate(PHASES, 1)]
    first = BEGIN + timedelta(hours=11, minutes=45)
    phases[0] = replace(phases[0], started_at=first, ended_at=first + timedelta(hours=3, minutes=10))
    phases[1] = replace(phases[1], started_at=first + timedelta(hours=48))
    ended = None if state is RolloutState.ROLLING_FORWARD else NOW
    return Rollout("rollout-0007", BEGIN, frozenset(VERSIONS.items()), tuple(phases), state, ended, message)


def make_view(rollout: Rollout | None = None) -> FleetView:
    """Return what is known of the fleet."""
    running = tuple(f"ber-{number}" for number in range(1, 5))
    plan = RunPlan("rollout-0007/2/ber", "rollout-0007", 2, "ber", "", "Europe/Berlin", running, NOW, 235)
    return FleetView(
        machines=tuple(_make_machines()),
        rollouts=(rollout or make_rollout(),),
        tries=tuple(_make_tries()),
        active_runs=(ActiveRun("20261123-2205-a1", running, plan), ActiveRun("20261123-2101-b2", ("lon-7",))),
        held_updates=(
            HeldUpdate("nginx", "1.22.1-9+deb12u3", "2 of 3 machines failed: the service did not start", BEGIN),
        ),
    )


def make_progress(rollout: Rollout | None = None) -> RolloutProgress:
    """Return how far this rollout is."""
    shown = rollout or make_rollout()
    return measure_rollout(REQUEST.to_policy(), make_view(shown), shown, NOW)


def make_status(request: AutomaticRequest = REQUEST) -> AutomaticStatus:
    """Return what `fleetpatch automatic` shows of this fleet."""
    policy, view = request.to_policy(), make_view()
    return AutomaticStatus(
        now=NOW,
        request=request,
        view=view,
        decision=decide(policy, view, NOW),
        progress=make_progress(),
        next_runs=find_next_runs(policy, view, NOW),
        pauses=(OptOut("lon-3", "ada", "end of the quarter", BEGIN, NOW + timedelta(days=8)),),
        feeds=RiskFeeds(problems=(FeedProblem("/srv/feeds/epss_scores.csv", "is empty", "Copy it again."),)),
    )


def _make_machines() -> Iterator[MachineView]:
    pending = tuple(
        DueUpdate(name, version, Classification.SECURITY, BEGIN - timedelta(days=2), cves=("CVE-2024-3094",))
        for name, version in VERSIONS.items()
    )
    other = DueUpdate("vim", "9.0", Classification.OTHER, BEGIN)
    for location, size in SIZES.items():
        for number in range(1, size + 1):
            name = f"{location}-{number}"
            seen = NOW - (timedelta(days=9) if name == "ams-14" else timedelta(hours=3))
            is_done = location == "fra" or (location == "ams" and 1 < number < 14)
            yield MachineView(
                name,
                location,
                zone=ZONES.get(location, "Europe/Berlin"),
                opted_out="paused by ada: end of the quarter" if name == "lon-3" else "",
                last_seen=seen,
                assessed_at=seen,
                asked_at=NOW - timedelta(hours=3),
                is_healthy=True,
                pending=(other,) if is_done else (*pending, other),
            )


def _make_tries() -> Iterator[Try]:
    for location in ("fra", "ams"):
        for number in range(1, min(SIZES[location], 13) + 1):
            at = NOW - timedelta(hours=44 if location == "fra" else 1)
            state = OperationState.FAILED if f"{location}-{number}" == "ams-1" else OperationState.SUCCEEDED
            is_failed = state is OperationState.FAILED
            yield Try(
                "rollout-0007",
                f"run-{location}",
                f"{location}-{number}",
                state,
                at,
                installed=() if is_failed else tuple(VERSIONS.items()),
                failed_updates=(("openssl", "3.0.15-1", "dpkg returned 1"),) if is_failed else (),
                reason="openssl failed" if is_failed else "",
            )
