"""A repair is told as what it was: done, of these packages, and followed by what follows an installation."""

from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of


def half_configured(name: str = "half") -> FakePackage:
    return FakePackage(name, installed="2.0", broken=True)


def test_what_was_repaired_is_a_result_of_its_own(fleet: SimFleet) -> None:
    fleet.add("web", [half_configured(), FakePackage("a")])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    mended = result_of(outcome, "half")
    assert (mended.state, mended.version_after) == (UpdateState.REPAIRED, "2.0")
    assert "was half-configured" in mended.reason
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_what_was_broken_is_not_told_as_broken_now(fleet: SimFleet) -> None:
    fleet.add("web", [half_configured(), FakePackage("a")])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert outcome.reason == "1 package repaired, 1 update installed"
    assert "not healthy" not in outcome.reason
    (told,) = [finding for finding in outcome.findings if finding.check == "packages"]
    assert told.level is FindingLevel.GOOD
    assert "repaired" in told.message


def test_a_reboot_and_validation_follow_a_repair_alone(fleet: SimFleet) -> None:
    web = fleet.add("web", [half_configured()])
    web.on_start("repair", 1, lambda: web.world.shelf.reboot_reasons.append("the package asks for it"))

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert [record.step for record in outcome.steps][-2:] == [Step.REBOOT, Step.VALIDATE]
    assert outcome.reboot is RebootState.COMPLETED
    assert outcome.reason == "1 package repaired, nothing to install, rebooted"


def test_each_transaction_has_a_number_of_its_own(fleet: SimFleet) -> None:
    fleet.add("web", [half_configured(), FakePackage("a"), FakePackage("b", fails="no")])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert outcome.install is not None
    numbers = [transaction.number for transaction in outcome.install.transactions]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 1


def test_a_package_that_is_repaired_and_then_updated_has_one_result(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("half", installed="1.5", broken=True)])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    result = result_of(outcome, "half")
    assert (result.state, result.version_after) == (UpdateState.INSTALLED, "2.0")
    assert "was half-configured at 1.5" in result.reason
