"""Somebody else's transaction begins or ends between two looks of ours: half of it is no damage, and no result."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import pytest

from tasks.domain.model import Outcome, PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.others import At, works
from tests.support.sim_machine import SimMachine


def patched(*packages: FakePackage, at: Step, then: Callable[[SimMachine], None], repair: bool = False) -> Outcome:
    fleet = SimFleet()
    web = fleet.add("web", packages)
    fleet.watch = At(at, lambda: then(web))
    return outcome_of(fleet.patch(repair=repair), "web")


@pytest.mark.parametrize("repair", [False, True])
def test_what_was_half_done_at_the_assessment_and_is_whole_now_stops_nothing(repair: bool) -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("other", installed="2.0", broken=True)])
    shelf = web.world.shelf
    fleet.watch = At(Step.PRECHECK, lambda: setattr(shelf["other"], "broken", False))

    outcome = outcome_of(fleet.patch(repair=repair), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert [each.update.id for each in outcome.updates] == ["a"], "and nobody is said to have repaired anything"


def test_what_is_still_half_done_at_the_precheck_fails_the_machine() -> None:
    outcome = patched(FakePackage("a"), FakePackage("other", broken=True), at=Step.PRECHECK, then=lambda _: None)
    assert outcome.state is OperationState.FAILED
    assert "other 1.0 is half-configured" in outcome.reason


@pytest.mark.parametrize("seconds", [200, 6000])
def test_who_is_at_work_at_the_precheck_is_waited_for_and_the_plan_is_made_anew(seconds: int) -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    works(web, "b", seconds, becomes="2.0")

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert [(each.update.id, each.state) for each in outcome.updates] == [("a", UpdateState.INSTALLED)]
    precheck = next(record for record in outcome.steps if record.step is Step.PRECHECK)
    assert precheck.ended_at - precheck.started_at > timedelta(seconds=seconds - 50)


def test_who_is_at_work_until_the_window_ends_leaves_the_machine_as_it_is() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    works(web, "b", 50_000, becomes="2.0")

    outcome = outcome_of(fleet.patch(), "web")

    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert "being changed by dpkg (pid 7)" in outcome.reason
    assert web.begun() == []
    assert web.locked_by is None


def test_services_that_others_left_outdated_are_told_though_nothing_is_left_to_install() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    works(web, "b", 200, becomes="2.0")
    web.at(100, lambda: setattr(web.world.shelf["a"], "installed", "2.0"))
    web.at(100, lambda: web.world.services.outdated.append("nginx.service"))

    outcome = outcome_of(fleet.patch(restart_services="Never"), "web")

    assert outcome.updates == ()
    assert Step.PRECHECK in [record.step for record in outcome.steps]
    assert [each.level for each in outcome.findings if each.check == SERVICE_RESTART_CHECK] == [FindingLevel.WARN]
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason


def test_who_installs_the_very_same_updates_is_waited_for_and_no_failure() -> None:
    """Our job waits for the lock until his transaction has ended."""
    outcome = patched(
        FakePackage("a"), at=Step.INSTALL, then=lambda web: works(web, "a", 600, becomes="2.0"), repair=False
    )
    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert result_of(outcome, "a").reason.startswith("it was installed by others")
    assert outcome.state in (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS), outcome.reason


def test_who_does_not_end_leaves_updates_not_attempted_and_named() -> None:
    outcome = patched(FakePackage("a"), at=Step.INSTALL, then=lambda web: works(web, "a", 50_000))
    result = result_of(outcome, "a")
    assert result.state is UpdateState.NOT_ATTEMPTED
    assert result.reason.endswith("its state now is not known: packages were being changed by dpkg (pid 7)")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason


def test_who_leaves_it_broken_is_waited_for_and_it_is_installed() -> None:
    outcome = patched(FakePackage("a"), at=Step.INSTALL, then=lambda web: works(web, "a", 600, ends_broken=True))
    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


@pytest.mark.parametrize(("seconds", "helps"), [(100, True), (50_000, False)])
def test_a_repair_is_told_as_done_only_once_that_could_be_seen(seconds: float, helps: bool) -> None:
    """Somebody begins just as ours has ended, or has kept it from beginning."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("half", installed="2.0", broken=True)])
    web.on_start("repair", 1, lambda: works(web, "half", seconds))

    outcome = outcome_of(fleet.patch(repair=True), "web")

    if helps:
        assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    else:
        assert outcome.state is OperationState.FAILED
        assert "whether the repair helped is not known: packages were being changed by dpkg (pid 7)" in outcome.reason
        assert not web.installs()


@pytest.mark.parametrize(("seconds", "told"), [(300, ""), (50_000, "whether it is whole now is not known")])
def test_what_was_repaired_and_is_half_done_by_somebody_afterwards_has_not_failed(seconds: float, told: str) -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("half", installed="2.0", broken=True)])
    web.on_start("install", 1, lambda: works(web, "half", seconds))

    result = result_of(outcome_of(fleet.patch(repair=True), "web"), "half")

    assert result.state is UpdateState.REPAIRED, result.reason
    assert told in result.reason


def test_a_service_that_somebody_upgrades_meanwhile_is_waited_for() -> None:
    def upgrades(web: SimMachine) -> None:
        web.listening = ("tcp/22",)
        works(web, "other", 300)
        web.at(290, lambda: setattr(web, "listening", ("tcp/22", "tcp/443")))

    outcome = patched(FakePackage("a"), FakePackage("other", installed="2.0"), at=Step.VALIDATE, then=upgrades)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_a_service_that_stays_away_fails_the_machine_all_the_same() -> None:
    def upgrades(web: SimMachine) -> None:
        web.listening = ("tcp/22",)
        works(web, "other", 300)

    outcome = patched(FakePackage("a"), FakePackage("other", installed="2.0"), at=Step.VALIDATE, then=upgrades)
    assert outcome.state is OperationState.FAILED
    assert "tcp/443" in outcome.reason


def test_what_was_half_done_after_the_installation_and_is_whole_at_validation_is_no_failure() -> None:
    def begins(web: SimMachine) -> None:
        web.world.shelf["other"].broken = True  # between two transactions of somebody's: nobody holds the lock

    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("other", installed="2.0")])
    web.on_start("install", 1, lambda: begins(web))
    seen: list[bool] = []

    def ends() -> None:
        seen.append(web.world.shelf["other"].broken)
        web.world.shelf["other"].broken = False

    fleet.watch = At(Step.VALIDATE, ends)

    outcome = outcome_of(fleet.patch(), "web")

    assert seen == [True]
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_a_reboot_that_is_asked_for_after_the_decision_is_reported_as_required() -> None:
    def asks(web: SimMachine) -> None:
        works(web, "other", 100)
        web.at(90, lambda: web.world.shelf.reboot_reasons.append("linux-image was installed"))

    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("other", installed="2.0")])
    web.on_start("install", 1, lambda: asks(web))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.REQUIRED
    assert outcome.reboot_result is not None
    assert "linux-image was installed" in outcome.reboot_result.reason
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_what_somebody_changes_before_we_begin_is_not_held_against_the_installation() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    web.listening = ("tcp/22", "tcp/443", "tcp/8080")
    works(web, "b", 200, becomes="2.0")
    web.at(100, lambda: setattr(web, "listening", ("tcp/22", "tcp/443")))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_who_ends_as_packages_are_read_has_his_services_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded: list[SimMachine] = []
    really = FakeManager.assess

    def assess(self: FakeManager, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        for web in upgraded:
            web.listening = ("tcp/22", "tcp/443")
            web.world.others_end()
        return really(self, transport, refresh=refresh, deadline=deadline)

    def upgrades(web: SimMachine) -> None:
        web.listening = ("tcp/22",)
        web.world.half_done.append(web.world.shelf["other"])
        works(web, "other", 50_000)
        upgraded.append(web)

    monkeypatch.setattr(FakeManager, "assess", assess)
    outcome = patched(FakePackage("a"), FakePackage("other", installed="2.0"), at=Step.VALIDATE, then=upgrades)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_the_second_of_somebodys_transactions_is_waited_for_like_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins between two questions of ours: who is at work (nobody), and which versions are installed."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a")])
    fleet.watch = At(Step.INSTALL, lambda: works(web, "a", 400, becomes="2.0"))
    asked: list[str] = []
    really = FakeManager.read_installed_versions

    def installed(
        self: FakeManager, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        asked.append("")
        if len(asked) == 3:
            works(web, "a", 60)
        return really(self, transport, updates, deadline=deadline)

    monkeypatch.setattr(FakeManager, "read_installed_versions", installed)
    result = result_of(outcome_of(fleet.patch(), "web"), "a")
    assert len(asked) > 3
    assert result.state is UpdateState.INSTALLED, result.reason


def test_what_somebody_else_repairs_is_not_told_as_repaired_by_this_run() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("half", installed="2.0", broken=True)])
    fleet.watch = At(Step.INSTALL, lambda: works(web, "half", 400))

    outcome = outcome_of(fleet.patch(repair=True), "web")

    assert [(each.update.id, each.state) for each in outcome.updates] == [("a", UpdateState.INSTALLED)]
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert any("whole again, and not by this run" in each.message for each in outcome.findings)


@pytest.mark.parametrize("by_others", [("p0",), ("p0", "p1")])
def test_what_others_installed_since_the_assessment_is_not_told_as_this_runs(
    fleet: SimFleet, by_others: tuple[str, ...]
) -> None:
    web = fleet.add("web", [FakePackage("p0"), FakePackage("p1")])

    def install() -> None:
        for name in by_others:
            web.world[name].installed = web.world[name].available

    web.on_start("stage", 1, install)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED
    told = {result.update.id: (result.state, result.reason) for result in outcome.updates}
    note = "it was installed by others"
    others = note if len(by_others) == 2 else f"it came along with another update, or {note}"
    assert told["p0"] == (UpdateState.INSTALLED, others)
    assert told["p1"] == (UpdateState.INSTALLED, others if "p1" in by_others else "")
    asked = [name for job in web.installs() for name in job.script.params["tx_0_updates"]]
    assert asked == [name for name in ("p0", "p1") if name not in by_others]


def test_a_package_that_the_run_itself_left_half_done_is_read_once_more_at_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the first read explains why a version is missing, and no other process works, packages are not read again."""
    reads: list[bool] = []
    really = FakeManager.assess

    def assess(self: FakeManager, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        reads.append(refresh)
        return really(self, transport, refresh=refresh, deadline=deadline)

    monkeypatch.setattr(FakeManager, "assess", assess)
    fleet = SimFleet()
    fleet.add("web", [FakePackage("a", fails="no")])

    outcome = outcome_of(fleet.patch(), "web")

    assert result_of(outcome, "a").state in (UpdateState.FAILED, UpdateState.SETUP_FAILED)
    assert reads == [True, False, False], "the assessment, the result, and the validation"
