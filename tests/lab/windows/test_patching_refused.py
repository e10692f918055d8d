"""One run of the real engine on Windows machines that can't be reached, or don't let it in. Nothing changes there."""

from collections.abc import Iterator

import pytest

from tasks.domain.states import OperationState
from tests.lab.windows.accounts import Account
from tests.lab.windows.patching import WindowsFleet, offer
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.windows_host import ADMINISTRATOR, Options
from tests.support.local_powershell import require_pwsh

NAMES = ("OFF", "OTHER-CERTIFICATE", "WRONG-PASSWORD", "NO-ADMINISTRATOR", "FILTERED", "PINNED")
USER = Account("patcher", "Pa:ss w0rd!", administrator=False)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsFleet]:
    """The machines, after one run."""
    require_pwsh()
    scenarios = [
        Scenario(name=name, updates=(offer(1),), privilege="filtered" if name == "FILTERED" else "administrator")
        for name in NAMES
    ]
    options = {"NO-ADMINISTRATOR": Options(accounts=[USER]), "WRONG-PASSWORD": Options(lockout_threshold=3)}
    with WindowsFleet.opened(tmp_path_factory.mktemp("refused"), *scenarios, options=options) as it:
        it.find("OFF").host.power_off()
        it.find("OTHER-CERTIFICATE").host.show("self-signed")
        pinned = it.find("PINNED").host
        shown = pinned.show("self-signed")
        it.describe(PINNED={"winrm": {"scheme": "https", "certificate_thumbprint": [shown.sha256]}})
        it.find("WRONG-PASSWORD").host.accounts.change_password(ADMINISTRATOR.user, "another one")
        it.patch(minutes=1)
        yield it


@pytest.mark.parametrize("name", NAMES[:-1])
def test_nothing_was_changed(fleet: WindowsFleet, name: str) -> None:
    state = fleet.find(name).machine.read_state()

    assert [there["installed"] for there in state["updates"].values()] == [False]
    assert not state["journal"]
    assert not state["tasks"]


def test_a_machine_that_is_off_is_unreachable(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="OFF")

    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "Unreachable"


def test_a_certificate_that_nobody_has_signed_ends_it_before_the_login(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="OTHER-CERTIFICATE")

    assert "certificate" in outcome.reason
    assert fleet.find("OTHER-CERTIFICATE").host.accounts.logins == []


def test_a_certificate_that_is_pinned_needs_no_signature(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="PINNED")

    # it was asked; on a busy controller, the short window is over before anything is planned
    assert outcome.kernel_before == "20348.2700", outcome.reason
    assert outcome.state in {OperationState.COMPLETED_WITH_WARNINGS, OperationState.NOT_STARTED}, outcome.reason
    assert "no time" in (outcome.updates[0].reason if outcome.updates else outcome.reason)


def test_a_wrong_password_is_tried_once_in_a_run(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="WRONG-PASSWORD")

    assert outcome.error is not None
    assert outcome.error.kind == "AuthenticationFailed"
    assert fleet.find("WRONG-PASSWORD").host.accounts.wrong_passwords == 1


def test_a_login_without_administrator_rights_is_told_what_it_lacks(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="NO-ADMINISTRATOR")

    assert outcome.state is OperationState.FAILED
    assert "administrator" in outcome.reason.lower() or "denied" in outcome.reason.lower(), outcome.reason


def test_a_login_whose_rights_windows_has_taken_away_is_told_so(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="FILTERED")

    assert outcome.state is OperationState.FAILED
    assert "administrator" in outcome.reason.lower(), outcome.reason


def test_machines_are_told_apart(fleet: WindowsFleet) -> None:
    assert len({fleet.outcome(name=name).reason for name in NAMES}) == len(NAMES)
