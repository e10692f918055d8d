"""Azure's words for what is held."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.domain.states import Classification, ImpactType, MaintenanceStatus, OperationState, RebootPolicy
from tasks.rules.maintenance.model import (
    Application,
    ApplyCause,
    GroupState,
    HeldPackage,
    PackageEnd,
    WaitingUpdate,
)
from tasks.rules.maintenance.status import find_ended_status, find_impact, find_maintenance_status

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUN = Application("k", 1, ApplyCause.PERSON, "ann", NOW)
PACKAGE = HeldPackage(1, NOW)


@pytest.mark.parametrize(
    ("application", "is_frozen", "status"),
    [
        (None, False, MaintenanceStatus.PENDING),
        (RUN, False, MaintenanceStatus.IN_PROGRESS),
        (replace(RUN, is_stopping=True), False, MaintenanceStatus.CANCEL),
        (replace(RUN, ended_at=NOW, state=OperationState.CANCELLED), False, MaintenanceStatus.CANCELLED),
        (replace(RUN, ended_at=NOW, state=OperationState.FAILED), False, MaintenanceStatus.RETRY_NOW),
        (replace(RUN, ended_at=NOW, state=OperationState.FAILED), True, MaintenanceStatus.RETRY_LATER),
        (replace(RUN, ended_at=NOW, refusal="forbidden"), False, MaintenanceStatus.RETRY_LATER),
    ],
)
def test_status(application: Application | None, is_frozen: bool, status: MaintenanceStatus):
    state = GroupState("web", 1, PACKAGE, NOW, (application,) if application is not None else ())
    assert find_maintenance_status(state, is_frozen=is_frozen) is status


def test_no_package_and_packages_that_ended():
    assert find_maintenance_status(GroupState("web"), is_frozen=False) is MaintenanceStatus.NO_UPDATES_PENDING
    applied = replace(PACKAGE, ended_at=NOW, end=PackageEnd.APPLIED)
    assert find_ended_status(applied) is MaintenanceStatus.COMPLETED
    emptied = replace(applied, end=PackageEnd.EMPTIED)
    assert find_ended_status(emptied) is MaintenanceStatus.NO_UPDATES_PENDING


@pytest.mark.parametrize(
    ("requires_reboot", "policy", "guests", "impact"),
    [
        (True, RebootPolicy.IF_REQUIRED, None, ImpactType.RESTART),
        (None, RebootPolicy.IF_REQUIRED, None, ImpactType.RESTART),
        (False, RebootPolicy.IF_REQUIRED, None, ImpactType.NONE),
        (False, RebootPolicy.ALWAYS, None, ImpactType.RESTART),
        (True, RebootPolicy.NEVER, None, ImpactType.NONE),
        (True, RebootPolicy.IF_REQUIRED, ImpactType.REDEPLOY, ImpactType.REDEPLOY),
        (False, RebootPolicy.IF_REQUIRED, ImpactType.FREEZE, ImpactType.NONE),
    ],
)
def test_impact(requires_reboot: bool | None, policy: RebootPolicy, guests: ImpactType | None, impact: ImpactType):
    update = WaitingUpdate("linux", "2", Classification.OTHER, NOW, requires_reboot)
    assert find_impact([update], policy, guests) is impact
    assert find_impact([], RebootPolicy.ALWAYS) is ImpactType.NONE
