"""One tick of automatic patching: look at the fleet, decide, carry it out. It needs no flow run of its own."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final

from flows.automatic.actions import ActionRunner, TickWorld
from flows.automatic.fleet_view import build_fleet_view, read_snapshot
from flows.automatic.run_starter import RunStarter
from flows.automatic.wording import Announcer, describe_decision
from flows.engine.run_lease import LeaseRenewer, build_holder
from flows.policy.fleet_freezes import load_fleet_freezes
from flows.ports.caller import Caller, find_starter_name
from flows.request.automatic_request import AutomaticRequest
from flows.request.request_parts import FreezeRequest
from inventory.credentials import Credential
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.loader import find_inventory, load_inventory
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.protocols.clock import Clock
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.automatic.sightings import save_missing_fixes
from tasks.records.feeds.risk_feeds import describe_idle_rules, load_risk_feeds
from tasks.records.setup import open_records
from tasks.records.storage.database import Database
from tasks.rules.automatic.decision import decide, stop_for_foreign_rollout
from tasks.rules.automatic.model import AutomaticDecision, FleetView, Rollout, RolloutState, Tell
from tasks.steps.context.run_control import StopToken


def find_foreign_rollout(database: Database, view: FleetView) -> Rollout | None:
    """Return the rollout that is under way if this fleet has none of the machines in its runs: another controller's.

    Its machines are not in this inventory, so all its phases would look as if nobody were left to wait for: this
    controller would complete it at once, and the other one would then patch all its locations in one night.

    Locations may be renamed. They count only while no run has begun: then it is foreign if the fleet has none of them.

    Raises:
        RecordsError: the records can't be read.
    """
    rolling = next((rollout for rollout in view.rollouts if rollout.state is RolloutState.ROLLING_FORWARD), None)
    if rolling is None:
        return None
    locations = {location for phase in rolling.phases for location in phase.locations}
    runs = SqlAutomaticRuns(database).read_of_rollouts([rolling.id])
    patched = {name for run in runs for name in run.run.machines}
    has_place = any(machine.location in locations for machine in view.machines)
    has_machine = any(machine.name in patched for machine in view.machines)
    return None if (has_machine if patched else has_place) else rolling


TICK_LEASE: Final = "automatic-patching"
"""The lease that a tick holds, in the table of run leases: of two ticks at the same time, one works."""


@dataclass(frozen=True, slots=True)
class TickResult:
    """What a tick has seen and decided."""

    view: FleetView
    decision: AutomaticDecision
    at: datetime


def run_tick(
    request: AutomaticRequest,
    caller: Caller,
    starter: RunStarter,
    clock: Clock,
    read_credential: Callable[[str], Credential],
) -> TickResult:
    """Decide what automatic patching does now, and carry it out; with ``enabled`` off, only decide.

    A tick that runs twice, or that another one has died before, changes nothing more than one tick.

    The caller's listener gets what was decided and why.

    Raises:
        InventoryError: the inventory or the scope is not usable.
        LeaseHeld: another tick is at work.
        PatchError: Prefect does not answer.
        RecordsError: the records are not usable.
        RequestError: a freeze is not valid, or a deployment does not exist.
    """
    try:
        inventory = load_inventory(find_inventory(request.inventory))
        say = caller.listener.on_message
        with ExitStack() as stack:
            records = stack.enter_context(open_records(caller.records_url))
            still_holds_lease: Callable[[], bool] = lambda: True  # noqa: E731 - a tick that only shows needs no lease
            if request.enabled:
                lease = LeaseRenewer(records.leases, TICK_LEASE, StopToken(), build_holder(find_starter_name(caller)))
                still_holds_lease = stack.enter_context(lease).still_holds_lease
            now = clock.now()
            announcer = Announcer(request.notify, read_credential, say)
            world = TickWorld(
                records.database, inventory, request, starter, announcer, say, now, still_holds_lease=still_holds_lease
            )
            actions = ActionRunner(world)
            # What would happen is shown also while it is switched off.
            policy = replace(request.to_policy(), enabled=True)
            if request.enabled:
                actions.complete_earlier()
            snapshot = read_snapshot(records, inventory, policy, now)
            if request.enabled:
                save_missing_fixes(records.database, snapshot.missing.unsaved, snapshot.missing.fixed)
            feeds = load_risk_feeds(request.feeds, snapshot.cves, request.max_feed_age_days, now)
            freezes = (*request.freezes, *_read_common_freezes(now, say))
            view = build_fleet_view(
                records,
                inventory,
                policy,
                now,
                feeds.risks,
                freezes=freezes,
                snapshot=snapshot,
                require_seals=request.enabled,
            )
            decision = decide(policy, view, now)
            foreign = find_foreign_rollout(records.database, view)
            if foreign is not None:
                decision = stop_for_foreign_rollout(decision, view, foreign)
            problems = [*map(str, feeds.problems), *describe_idle_rules(policy.risk_rules, feeds)]
            feed_tells = (Tell(f"feed/{_build_digest(problem)}", f"risk feed: {problem}") for problem in problems)
            news = (tell for tell in feed_tells if tell.key not in view.announced)
            decision = replace(decision, actions=(*decision.actions, *news))
            managed, pending = len(view.machines), sum(bool(machine.pending) for machine in view.machines)
            unfinished = len(view.active_runs)
            counts = f"{managed} managed machines, {pending} with pending updates, {unfinished} unfinished runs"
            say(counts if request.enabled else "automatic patching is switched off; it would:")
            for line in describe_decision(decision):
                say(line)
            if request.enabled:
                actions.carry_out(decision)
        return TickResult(view, decision, now)
    except (InventoryError, RequestError) as error:
        if request.enabled:
            _tell_of_failure(request, caller, clock.now(), read_credential, error)
        raise


def _tell_of_failure(
    request: AutomaticRequest,
    caller: Caller,
    now: datetime,
    read_credential: Callable[[str], Credential],
    error: InventoryError | RequestError,
) -> None:
    """Tell people once a day that ticks fail: until somebody corrects the file, deadlines pass."""
    message = f"automatic patching can't go on: {error.message}"
    tell = Tell(f"tick-failed/{now:%Y%m%d}/{_build_digest(message)}", message)
    announcer = Announcer(request.notify, read_credential, caller.listener.on_message)
    with suppress(RecordsError), open_records(caller.records_url) as records:
        announcements = SqlAnnouncements(records.database)
        if tell.key not in announcements.read_keys() and announcer.tell([tell]):
            announcements.add(tell.key, tell.message, now)


def _read_common_freezes(now: datetime, say: Callable[[str], None]) -> tuple[FreezeRequest, ...]:
    """Return the freezes of the whole fleet as the files have them now: its runs would be refused in them."""
    try:
        return load_fleet_freezes(now.date()).common
    except InventoryError as error:
        say(f"the freezes of the configurations can't be read, those that were deployed hold: {error.message}")
        return ()


def _build_digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
