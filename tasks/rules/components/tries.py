"""What the outcome of a machine says of the upgrade of its component. Pure."""

from tasks.domain.components import COMPONENT_PREFIX, DISK_PREFIX, ComponentTry
from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, UpdateState

NOT_TRIED = frozenset({UpdateState.NOT_ATTEMPTED, UpdateState.NOT_SELECTED, UpdateState.BLOCKED, UpdateState.EXCLUDED})
BAD_STATES = frozenset({OperationState.FAILED, OperationState.UNKNOWN})

COMPONENT_CHECK = "component"
"""The name of findings about the version of a component on a machine."""


def shows_version(outcome: Outcome) -> bool:
    """Return whether a version works on a machine: its upgrade succeeded, or it was current before the run."""
    attempt = find_try(outcome)
    if attempt is not None:
        return attempt.succeeded
    return outcome.state not in BAD_STATES and any(
        finding.check == COMPONENT_CHECK and finding.level is FindingLevel.GOOD for finding in outcome.findings
    )


def find_try(outcome: Outcome) -> ComponentTry | None:
    """Return the upgrade that a run began on a machine; None: it began none.

    What began and whose end was not seen has failed: absence is never health. With a new OS disk, the disk is what
    was tried, and not the components that came again.
    """
    of_components = [one for one in outcome.updates if one.update.id.startswith(COMPONENT_PREFIX)]
    disks = [one for one in of_components if one.update.id.startswith(DISK_PREFIX)]
    result = next(iter(disks or of_components), None)
    ended_at = outcome.ended_at or outcome.started_at
    if result is None or result.state in NOT_TRIED or outcome.install is None or ended_at is None:
        return None
    has_version_before = result.state is UpdateState.FAILED and result.version_after == result.update.installed
    succeeded = result.state is UpdateState.INSTALLED and outcome.state not in BAD_STATES
    return ComponentTry(
        component=result.update.name,
        machine=outcome.machine,
        run_id=outcome.run_id,
        version=result.update.available,
        at=ended_at,
        succeeded=succeeded,
        reason="" if succeeded else result.reason or outcome.reason,
        was_refused=has_version_before and not outcome.install.transactions,
        version_before=result.update.installed or "",
        version_after=result.version_after,
    )
