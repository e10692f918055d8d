"""The engine over simulated machines: what happens when all is well, and when something about the updates is not."""

import pytest

from inventory.machine import Limits, PatchOwner
from tasks.domain.model import Outcome
from tasks.domain.states import Classification, OperationState, RebootState, Step, UpdateState, YesNoUnknown
from tests.support.fake_packages import FakePackage, lab_packages
from tests.support.fleet import SimFleet, outcome_of, result_of


def steps_of(outcome: Outcome) -> list[Step]:
    return [record.step for record in outcome.steps]


def test_everything_chosen_is_installed_and_the_machine_validated(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert {result.state for result in outcome.updates} == {UpdateState.INSTALLED}
    assert web.world.whole() == {"a": "2.0", "b": "2.0"}
    assert steps_of(outcome) == [Step.ASSESS, Step.PRECHECK, Step.INSTALL, Step.REBOOT, Step.VALIDATE]
    assert fleet.records.outcomes["20260310-010000-aaaaaa", "web"] == outcome


def test_what_was_not_selected_stays_and_says_why(fleet: SimFleet) -> None:
    web = fleet.add("web", lab_packages())

    outcome = outcome_of(fleet.patch("lab-sec"), "web")

    assert result_of(outcome, "lab-sec").state is UpdateState.INSTALLED
    assert web.world.whole()["lab-plain"] == "1.0"
    others = [result for result in outcome.updates if result.update.id != "lab-sec"]
    assert len(others) == len(lab_packages()) - 1
    assert all(result.reason and result.state is not UpdateState.INSTALLED for result in others)


def test_a_failing_update_fails_alone(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("bad", fails="disk on fire"), FakePackage("good"), FakePackage("fine")])

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert result_of(outcome, "bad").state is UpdateState.FAILED
    assert "disk on fire" in result_of(outcome, "bad").reason
    assert result_of(outcome, "good").state is UpdateState.INSTALLED
    assert web.world.whole() == {"good": "2.0", "fine": "2.0"}


@pytest.mark.parametrize(
    ("policy", "asks", "orders", "state"),
    [
        ("IfRequired", True, 1, RebootState.COMPLETED),
        ("IfRequired", False, 0, RebootState.NOT_NEEDED),
        ("Never", True, 0, RebootState.REQUIRED),
        ("Always", False, 1, RebootState.COMPLETED),
    ],
)
def test_reboot_policies(fleet: SimFleet, policy: str, asks: bool, orders: int, state: RebootState) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=asks)])

    outcome = outcome_of(fleet.patch(reboot=policy), "web")

    assert web.boots.count == len(web.boots.orders) == orders
    assert outcome.reboot is state
    if orders:
        assert outcome.reboot_result is not None
        assert (outcome.reboot_result.boot_id_before, outcome.reboot_result.boot_id_after) == (
            "web-boot-1",
            "web-boot-2",
        )


def test_a_machine_that_may_not_reboot_any_more_is_left_alone(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)], limits=Limits(max_reboots=0))

    outcome = outcome_of(fleet.patch(), "web")

    assert web.boots.orders == []
    assert outcome.reboot is RebootState.REQUIRED
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_pending_reboot_is_taken_first(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("an old kernel")

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert web.boots.count == 1
    assert steps_of(outcome)[:4] == [Step.ASSESS, Step.PRECHECK, Step.REBOOT, Step.INSTALL]


def test_a_pending_reboot_that_fails_ends_the_machines_run(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("an old kernel")
    web.boots.up_after = None

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    assert outcome.state is OperationState.FAILED
    assert outcome.reboot is RebootState.FAILED
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert "reboot" in result_of(outcome, "a").reason
    assert web.installs() == []


def test_a_machine_rebooted_first_whose_time_ran_out_is_not_called_untouched(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("an old kernel")
    web.boots.up_after = 1500

    outcome = outcome_of(fleet.patch(minutes=40, reboot_pending_first=True), "web")

    assert web.boots.count == 1
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert outcome.reboot is RebootState.COMPLETED
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED


def test_a_machine_with_broken_packages_is_not_rebooted(fleet: SimFleet) -> None:
    web = fleet.add(
        "web",
        [FakePackage("kernel", asks_reboot=True, changes_boot=True), FakePackage("initrd", fails="no room on /boot")],
    )

    outcome = outcome_of(fleet.patch(), "web")

    assert web.boots.orders == []
    assert outcome.reboot is RebootState.REQUIRED
    assert outcome.reboot_result is not None
    assert "broken state" in outcome.reboot_result.reason
    assert outcome.state is OperationState.FAILED


@pytest.mark.parametrize("owner", [PatchOwner.OS, PatchOwner.MANUAL])
def test_what_others_patch_is_never_touched(fleet: SimFleet, owner: PatchOwner) -> None:
    theirs = fleet.add("theirs", [FakePackage("a")], owner=owner)
    fleet.add("ours", [FakePackage("a")])

    report = fleet.patch()

    assert theirs.calls == []
    outcome = outcome_of(report, "theirs")
    assert outcome.state is OperationState.NOT_STARTED
    assert owner.value in outcome.reason
    assert outcome_of(report, "ours").state is OperationState.SUCCEEDED


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a"), FakePackage("held", held=True)])

    report = fleet.patch(dry_run=True)

    assert report.run.kind == "plan"
    assert report.run.state is OperationState.SUCCEEDED
    assert web.world.whole() == {"a": "1.0", "held": "1.0"}
    assert not [call for call in web.calls if call.verb == "start"]
    assert fleet.records.journal == []
    (plan,) = report.plans
    assert [update.id for update in plan.chosen] == ["a"]
    assert result_of(outcome_of(report, "web"), "held").state is UpdateState.EXCLUDED


def test_a_plan_in_which_a_machine_did_not_answer_is_no_success(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")]).cut(10_000)

    report = fleet.patch(dry_run=True)

    assert report.run.state is OperationState.FAILED
    assert outcome_of(report, "web").state is OperationState.FAILED


def test_an_assessment_changes_nothing_and_is_remembered(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", classification=Classification.SECURITY), FakePackage("b")])
    fleet.add("gone", []).cut(10_000)

    report = fleet.assess()

    assert outcome_of(report, "web").state is OperationState.SUCCEEDED
    assert outcome_of(report, "web").reason.startswith("pending updates: 1 critical or security, 1 other")
    assert not [call for call in web.calls if call.verb == "start"]
    by_name = {assessment.machine: assessment for assessment in fleet.records.assessments.values()}
    assert by_name["web"].packages is not None
    assert by_name["gone"].error is not None
    assert by_name["gone"].error.kind == "Unreachable"


def test_interrupted_packages_block_unless_repair_is_allowed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True), FakePackage("a")])

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.installs() == []
    assert "half" in outcome.reason


def test_interrupted_packages_are_repaired_when_that_is_allowed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True), FakePackage("a")])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert outcome.state is not OperationState.FAILED, outcome.reason
    assert web.world.whole() == {"half": "2.0", "a": "2.0"}


def test_interrupted_packages_are_repaired_even_when_nothing_is_pending(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True)])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert outcome.state is not OperationState.FAILED, outcome.reason
    assert web.world.whole() == {"half": "2.0"}


def test_a_repair_that_does_not_help_ends_the_machines_run(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True, fails="for good"), FakePackage("a")])

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert outcome.state is OperationState.FAILED
    assert "did not help" in outcome.reason
    assert outcome.error is not None
    assert f"fleetpatch show {outcome.run_id} --machine web --log" in outcome.error.hint
    assert web.installs() == []
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED


def test_an_update_that_would_remove_a_package_is_left_out(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("keeper"), FakePackage("bully", removes=("keeper",)), FakePackage("a")])

    outcome = outcome_of(fleet.patch("bully", "a"), "web")

    assert result_of(outcome, "bully").state is UpdateState.BLOCKED
    assert web.world.whole() == {"keeper": "1.0", "bully": "1.0", "a": "2.0"}


def test_a_dependency_comes_along_and_is_told(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a", needs=("b",)), FakePackage("b")])

    outcome = outcome_of(fleet.patch("a"), "web")

    assert result_of(outcome, "b").state is UpdateState.INSTALLED
    assert "dependency" in result_of(outcome, "b").reason
    assert outcome.install is not None
    assert outcome.install.unasked == ("b 1.0 -> 2.0",)


def test_a_machine_that_can_not_tell_about_reboots_stays_up(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.reboot_answer = YesNoUnknown.UNKNOWN

    outcome = outcome_of(fleet.patch(), "web")

    assert web.boots.orders == []
    assert outcome.reboot is RebootState.UNKNOWN
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_policy_to_reboot_always_that_was_not_kept_is_told(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")], limits=Limits(max_reboots=0))

    outcome = outcome_of(fleet.patch(reboot="Always"), "web")

    assert outcome.reboot is RebootState.NOT_NEEDED
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "not rebooted although the reboot policy is Always" in outcome.reason
