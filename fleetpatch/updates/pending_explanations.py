"""Lists what a machine lacks, since when, why no run has installed it, and what comes next of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fleetpatch.machines.automatic_patching import AutomaticState
from fleetpatch.machines.snapshot import FleetMachine, FleetSnapshot
from fleetpatch.updates.selection_forecast import Forecaster
from inventory.data_class import dataclass
from tasks.domain.model import PackageState, Update
from tasks.domain.states import SUCCESSFUL_UPDATE_STATES, Classification
from tasks.records.queries.explanations import AVAILABLE_REASON, Explanation
from tasks.records.queries.updates import PendingUpdateRow
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class ExplainedUpdate:
    """An update that a machine lacks."""

    update: Update
    since: datetime | None  # since when an assessment has found it pending; None if that is not known
    reason: str  # why it is not installed, by the newest run that considered it; else by the assessment
    state: str  # what that run says of it; "" without such a run
    run_id: str  # that run; "" for none


def list_pending_updates(
    explanations: Iterable[Explanation], missing_since: Mapping[tuple[str, str], datetime]
) -> tuple[ExplainedUpdate, ...]:
    """Return what a machine lacks, critical and security updates first.

    Args:
        explanations: of the machine, as History.explain_updates returns them: pending updates, then runs, newest first.
        missing_since: since when it lacks a fix, by the machine's and the update's name.
    """
    pending: list[Explanation] = []
    by_update: dict[str, Explanation] = {}
    for explanation in explanations:
        if explanation.is_from_assessment:
            pending.append(explanation)
        else:
            by_update.setdefault(explanation.update.id, explanation)
    patches = (_build_pending(update, by_update.get(update.update.id), missing_since) for update in pending)
    return tuple(sorted(patches, key=_get_rank))


def _build_pending(
    pending: Explanation, result: Explanation | None, missing_since: Mapping[tuple[str, str], datetime]
) -> ExplainedUpdate:
    update = pending.update
    since = missing_since.get((pending.machine, update.name))
    # A hold or a block that the machine reports now says more than what a run found earlier. And once a run has
    # installed an update, what is pending again came later.
    if result is None or result.state in SUCCESSFUL_UPDATE_STATES or update.remark:
        return ExplainedUpdate(update, since, pending.reason, "", "")
    return ExplainedUpdate(update, since, result.reason, result.state.value, result.run_id)


def _get_rank(pending: ExplainedUpdate) -> tuple[int, str]:
    update = pending.update
    rank = 0 if update.classification is Classification.CRITICAL else 1
    return (rank if update.classification.is_urgent else 2), update.name


def explain_waiting(
    fleet: FleetSnapshot,
    automatic: AutomaticState,
    machine: FleetMachine | None,
    pending: Sequence[ExplainedUpdate],
    packages: PackageState | None,
    database: Database,
) -> tuple[ExplainedUpdate, ...]:
    """Return what a machine lacks, with the reason why an update waits where the records only say that it is there.

    Args:
        fleet: the fleet.
        automatic: what automatic patching does.
        machine: the machine; None if it is not in the inventory any more.
        pending: what it lacks.
        packages: the answer that says so; None: it has never given one.
        database: the records.
    """
    if machine is None or packages is None:
        return tuple(pending)
    forecaster = Forecaster(fleet, automatic, {}, {machine.machine.name: packages}, database)
    return tuple(_explain(forecaster, machine, pending_update) for pending_update in pending)


def _explain(forecaster: Forecaster, machine: FleetMachine, pending: ExplainedUpdate) -> ExplainedUpdate:
    update = pending.update
    # What a request may allow is decided by the requests of its windows; a hold and a block are not.
    is_decided_by_request = pending.reason == update.remark and not update.held and not update.blocked
    if pending.reason != AVAILABLE_REASON and not is_decided_by_request:
        return pending
    row = PendingUpdateRow(
        assessment=0,
        machine=machine.machine.name,
        name=update.name,
        arch=update.arch,
        classification=update.classification.value,
        severity=update.severity,
        installed=update.installed,
        available=update.available,
        kb=update.kb,
        held=update.held,
        blocked=update.blocked,
        published=update.published,
        title=update.title,
        since=pending.since,
    )
    update_forecast = forecaster.forecast(row, machine)
    return replace(
        pending,
        reason=f"{update_forecast.why}, {update_forecast.window}" if update_forecast.window else update_forecast.why,
    )
