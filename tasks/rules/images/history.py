"""What the report of a run says of the upgrade of a group. Pure: there is no other truth than the run."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from tasks.domain.components import COMPONENT_PREFIX, DISK_PREFIX
from tasks.domain.images import IMAGE_PREFIX, RollingUpgradeState
from tasks.domain.model import RunReport
from tasks.domain.rows.images import ImageUpgradeRow, MachineImageUpgradeRow
from tasks.domain.states import OperationState, UpdateState
from tasks.rules.components.health import RolloutFault
from tasks.rules.components.tries import find_try

_BY_ITSELF: Final = "the schedule of "
_STATES: Final[Mapping[OperationState, RollingUpgradeState]] = {
    OperationState.IN_PROGRESS: RollingUpgradeState.ROLLING_FORWARD,
    OperationState.CANCELLED: RollingUpgradeState.CANCELLED,
    OperationState.SUCCEEDED: RollingUpgradeState.COMPLETED,
    OperationState.COMPLETED_WITH_WARNINGS: RollingUpgradeState.COMPLETED,
}


def build_upgrade_row(report: RunReport, begun: Collection[str]) -> ImageUpgradeRow:
    """Return the row of a run that upgrades a group.

    Args:
        report: of the run, as far as it is.
        begun: machines whose OS disk was ordered to be replaced.
    """
    run = report.run
    tries = {outcome.machine: attempt for outcome in report.outcomes if (attempt := find_try(outcome)) is not None}
    failed = [attempt for attempt in tries.values() if not attempt.succeeded]
    upgraded = [attempt for attempt in failed if not attempt.was_refused]
    back = sum(row.put_back is True for row in build_machine_rows(report))
    planned = {plan.machine: plan.chosen[0].available for plan in report.plans if plan.chosen}
    in_progress = {name for name in begun if name not in tries} if run.ended_at is None else set()
    state = _STATES.get(run.state, RollingUpgradeState.FAULTED)
    message = _find_message(report)
    fault = _find_fault(state, message, has_failed=bool(upgraded), was_refused=len(failed) > len(upgraded))
    if fault:
        state = RollingUpgradeState.FAULTED
    return ImageUpgradeRow(
        run_id=run.id,
        group=str(run.request.get("component", "")).removeprefix(IMAGE_PREFIX),
        version=next((attempt.version for attempt in tries.values()), next(iter(planned.values()), None)),
        state=state,
        error=fault or None,
        message=message,
        started_by="Platform" if run.started_by.startswith(_BY_ITSELF) else "User",
        starter=run.started_by,
        started_at=run.started_at,
        ended_at=run.ended_at,
        successful=len(tries) - len(failed),
        failed=len(failed),
        in_progress=len(in_progress),
        pending=sum(name not in tries and name not in in_progress for name in planned),
        rolled_back=back,
        not_rolled_back=len(upgraded) - back,
        components=_count_components(report),
    )


def build_machine_rows(report: RunReport, error: str | None = None) -> Iterator[MachineImageUpgradeRow]:
    """Yield the row of each machine whose turn has ended in a run that upgrades a group.

    Args:
        report: of the run, as far as it is.
        error: Azure's error code of the run; None: it has none.
    """
    for outcome in report.outcomes:
        if (attempt := find_try(outcome)) is None:
            continue
        result = next(one for one in outcome.updates if one.update.name == attempt.component)
        is_back = result.version_after == (result.update.installed or "")
        yield MachineImageUpgradeRow(
            run_id=report.run.id,
            machine=outcome.machine,
            group=attempt.component.removeprefix(IMAGE_PREFIX),
            version_before=result.update.installed or None,
            version=attempt.version,
            version_after=result.version_after or None,
            state=result.state,
            is_healthy=attempt.succeeded,
            put_back=None if attempt.succeeded or attempt.was_refused else is_back,
            error=error,
            reason=attempt.reason,
            ended_at=attempt.at,
        )


def _count_components(report: RunReport) -> tuple[str, ...]:
    """Return the components that came again, each with the number of machines that have it on their new disk."""
    counts = Counter(
        f"{result.update.name} {result.update.available}"
        for outcome in report.outcomes
        for result in outcome.updates
        if result.update.id.startswith(COMPONENT_PREFIX)
        and not result.update.id.startswith(DISK_PREFIX)
        and result.state is UpdateState.INSTALLED
    )
    return tuple(f"{name}: {count}" for name, count in sorted(counts.items()))


def _find_message(report: RunReport) -> str:
    """Return why the run ended early, or what it says of itself, or ""."""
    reasons = [outcome.reason for outcome in report.outcomes if outcome.state is OperationState.NOT_STARTED]
    stops = [reason for reason in reasons if any(fault in reason for fault in RolloutFault)]
    return next(iter(stops), "") or report.run.message or next(iter(reasons), "")


def _find_fault(state: RollingUpgradeState, message: str, *, has_failed: bool, was_refused: bool) -> str:
    named = next((fault.value for fault in RolloutFault if fault in message), "")
    if named or state in {RollingUpgradeState.ROLLING_FORWARD, RollingUpgradeState.CANCELLED}:
        return named
    if has_failed:
        return RolloutFault.FAILED
    if state is not RollingUpgradeState.FAULTED and not was_refused:
        return ""
    return RolloutFault.TIME if "no time left" in message else RolloutFault.INTERNAL
