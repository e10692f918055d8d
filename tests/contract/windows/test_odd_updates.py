"""Updates as some catalogues have them: titles of any kind, one article for two, one listed twice, one that is gone."""

from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.states import OperationState, RebootPolicy, UpdateState
from tests.contract.windows.update_machine import UpdateMachine, guid, of_kind, offer, one
from tests.contract.windows.windows_fleet import WindowsFleet, results
from tests.lab.windows.scenario import Scenario, Update
from tests.lab.windows.state import change_state

ODD = "Tür \"Ψ\" 'x' 😀 $(Get-Date) `n %PATH% | ; & <b>\u202etxt.exe\u2028\nnext line \\ | rev 7 "


def test_titles_of_any_kind_are_installed_and_told_in_one_line() -> None:
    updates = (Update(guid(1), ODD + "long " * 60), Update(guid(2), ODD), Update(guid(3), ""))
    with WindowsFleet.opened(Scenario(updates=updates)) as fleet:
        outcome = fleet.patch(reboot=RebootPolicy.NEVER)
        state = fleet.warm.windows.read_state()
    assert outcome.state is OperationState.SUCCEEDED, (outcome.reason, outcome.findings)
    assert [each["installs"] for each in state["updates"].values()] == [1, 1, 1]
    for result in outcome.updates:
        assert result.state is UpdateState.INSTALLED
        assert result.update.name.isprintable()
        assert len(result.update.name) <= 500


def test_two_updates_of_one_article_are_told_apart() -> None:
    updates = (offer(1, install_hresult=0x80070643), Update(guid(2), offer(1).title, kbs=offer(1).kbs))
    with WindowsFleet.opened(Scenario(updates=updates)) as fleet:
        outcome = fleet.patch(reboot=RebootPolicy.NEVER)
    found = {result.update.id: result.state for result in outcome.updates}
    assert found == {guid(1): UpdateState.FAILED, guid(2): UpdateState.INSTALLED}
    assert {result.update.name for result in outcome.updates} == {"KB5000001"}


def test_an_update_that_is_listed_twice_is_installed_once_in_its_newest_revision() -> None:
    twice = (offer(1, revision=201), offer(1), offer(2), offer(2))
    with WindowsFleet.opened(Scenario(updates=twice)) as fleet:
        outcome = fleet.patch(reboot=RebootPolicy.NEVER)
        state = fleet.warm.windows.read_state()
    assert outcome.state is OperationState.SUCCEEDED, (outcome.reason, outcome.findings)
    assert len(outcome.updates) == 2
    assert results(outcome)["KB5000001"].update.available == "rev 201"
    assert [each["installs"] for each in state["updates"].values()] == [1, 1]


def test_an_update_that_is_gone_does_not_keep_those_before_it_from_their_download() -> None:
    with UpdateMachine.opened(offer(1), offer(2)) as machine:
        first, second = machine.pending().values()
        with change_state(machine.warm.windows.folder) as state:
            state["updates"][second.id]["installed"] = True  # by a person
        status = machine.follow(machine.start(one(0, first, second), kind=JobKind.STAGE))
        (end,) = of_kind(status, "transaction_ended")
        assert machine.done("download") == [first.id]
        assert "no longer offered" in str(end["error"])
