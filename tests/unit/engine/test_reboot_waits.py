"""No machine is rebooted under somebody else's package transaction: it is waited for, as long as the window allows."""

from datetime import timedelta
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from tasks.domain.errors import HostKeyMismatch
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, RebootState, Step, UpdateState
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.reboot_guard import HOLDER
from tests.support.sim_machine import SimMachine


class Said(LoggingListener):
    """A watcher that keeps what is said of reboots."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.told: list[str] = []

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        if step is Step.REBOOT and message:
            self.messages.append(message)

    def on_message(self, message: str) -> None:
        self.told.append(message)


def asks(fleet: SimFleet, **package: Any) -> SimMachine:
    """Add a machine whose one update asks for a reboot."""
    return fleet.add("web", [FakePackage("a", asks_reboot=True, **package)])


def locked(machine: SimMachine, seconds: float) -> None:
    """Let somebody else change packages from now on."""
    now = machine.fake_clock.now()
    machine.world.locks = (*machine.world.locks, (now, now + timedelta(seconds=seconds)))


def with_the_order(machine: SimMachine, then: Any, *, first: bool = True) -> None:
    """Let something happen just before a reboot's order arrives."""
    begun: list[str] = []

    def order(script: Script) -> ScriptRecord:
        if not begun or not first:
            then()
        begun.append("")
        return machine._reboot(script)

    machine.answer("reboot", order)


@pytest.mark.parametrize("policy", [RebootPolicy.IF_REQUIRED, RebootPolicy.ALWAYS])
def test_a_reboot_waits_for_somebody_elses_transaction(fleet: SimFleet, policy: RebootPolicy) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=policy is RebootPolicy.IF_REQUIRED)])
    fleet.watch = said = Said()
    web.on_start("install", 0.5, lambda: locked(web, 300))
    began = fleet.clock.now()

    outcome = outcome_of(fleet.patch(reboot=policy), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED)
    assert outcome.reboot_result is not None
    assert f"ordered after {HOLDER} (waited " in outcome.reboot_result.reason
    assert web.boots.ordered_at[0] >= began + timedelta(seconds=300)
    assert len(web.boots.orders) == 1
    waiting = [message for message in said.messages if message.startswith("waiting: ")]
    assert waiting
    assert all(HOLDER in message and "the reboot can wait until 04:45 UTC" in message for message in waiting)
    assert [told for told in said.told if "waiting" in told] == [f"web: {waiting[0]}"]


def test_a_reboot_that_was_pending_before_waits_too_and_leaves_time_to_install(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("from before")
    locked(web, 1000)

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert web.boots.count == 1
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_somebody_who_never_ends_before_an_early_reboot_does_not_keep_it_from_going_on(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("from before")
    web.lock_at_reboot_question(1e6)

    report = fleet.patch(reboot_pending_first=True, minutes=120)

    outcome = outcome_of(report, "web")
    assert web.boots.orders == []
    assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED)
    assert "; another process locked the package manager until no time was left" in result_of(outcome, "a").reason
    assert report.run.window is not None
    assert fleet.clock.now() <= report.run.window.end


def test_somebody_who_never_ends_is_told_when_the_window_holds_no_reboot_any_more(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.on_start("install", 0.5, lambda: locked(web, 1e6))

    report = fleet.patch(minutes=60)

    outcome = outcome_of(report, "web")
    assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED)
    assert HOLDER in outcome.reason
    assert "(waited 44 min" in outcome.reason
    assert "the reboot needs about 15 min" in outcome.reason
    assert web.boots.orders == []
    assert report.run.window is not None
    (ended,) = [step.ended_at for step in outcome.steps if step.step is Step.REBOOT]
    assert ended <= report.run.window.end - timedelta(minutes=14)
    assert fleet.clock.now() <= report.run.window.end


def test_a_run_that_is_asked_to_stop_waits_no_longer(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.on_start("install", 0.5, lambda: locked(web, 1e6))
    web.on_start("install", 600, lambda: fleet.control.request_stop("enough"))
    began = fleet.clock.now()

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.REQUIRED
    assert "the run was asked to stop: enough" in outcome.reason
    assert HOLDER in outcome.reason
    assert fleet.clock.now() - began < timedelta(seconds=700)


def test_somebody_who_begins_between_the_question_and_the_order_is_waited_for(fleet: SimFleet) -> None:
    web = asks(fleet)
    with_the_order(web, lambda: locked(web, 200))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1
    first, second = web.boots.ordered_at
    assert second - first >= timedelta(seconds=200)
    assert web.boots.count == 1


def test_an_order_that_the_machine_gives_up_before_it_goes_down_is_given_again(fleet: SimFleet) -> None:
    web = asks(fleet)

    def inhibit() -> None:
        web.at(1, lambda: setattr(web.guard, "inhibitor", "backup (pid 7) keeps it up"))
        web.at(200, lambda: setattr(web.guard, "inhibitor", ""))

    with_the_order(web, inhibit)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert len(web.boots.orders) == 2
    assert web.boots.count == 1
    assert outcome.reboot_result is not None
    assert "ordered after backup (pid 7) keeps it up (waited 3 min" in outcome.reboot_result.reason


@pytest.mark.parametrize(
    ("policy", "state"),
    [(RebootPolicy.IF_REQUIRED, RebootState.REQUIRED), (RebootPolicy.ALWAYS, RebootState.NOT_NEEDED)],
)
def test_an_order_that_was_refused_is_no_reboot_when_the_machine_is_lost_as_we_wait(
    fleet: SimFleet, policy: RebootPolicy, state: RebootState
) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=state is RebootState.REQUIRED)])

    def begins() -> None:
        locked(web, 300)
        web.at(60, lambda: web.fail(HostKeyMismatch("another key"), on="reboot_obstacles"))

    with_the_order(web, begins)

    outcome = outcome_of(fleet.patch(reboot=policy), "web")

    assert (outcome.reboot, web.boots.count) == (state, 0)
    assert "another key" in outcome.reason


def test_an_order_that_is_given_up_because_no_command_works_has_failed(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.boots.down_after = None
    with_the_order(web, lambda: setattr(web.guard, "given_up_reason", None))
    said = {"kind": "given_up", "about": "failed", "why": "no command to reboot with has worked"}
    web.answer(
        "reboot_obstacles",
        lambda _: [{"kind": "boot", "boot_id": web.boot_id}, *([said] if web.boots.orders else [])],
    )
    began = fleet.clock.now()

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "refused: no command to reboot with has worked" in outcome.reason
    assert fleet.clock.now() - began < timedelta(seconds=60)


def test_packages_that_are_left_half_done_are_waited_for_only_for_a_while(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.world.packages.append(other := FakePackage("other", installed="2.0"))
    with_the_order(web, lambda: setattr(other, "broken", True))

    outcome = outcome_of(fleet.patch("a"), "web")

    assert outcome.reboot is RebootState.REQUIRED
    assert "its packages are in a broken state, and no process changes them: other 2.0 is half-configured" in (
        outcome.reboot_result.reason if outcome.reboot_result else ""
    )
    assert web.boots.count == 0


def test_packages_that_somebody_finishes_a_moment_later_keep_nothing_back(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.world.packages.append(other := FakePackage("other", installed="2.0"))

    def unpack() -> None:
        other.broken = True
        web.at(60, lambda: setattr(other, "broken", False))

    with_the_order(web, unpack)

    assert outcome_of(fleet.patch("a"), "web").reboot is RebootState.COMPLETED


def test_a_machine_that_its_administrator_reboots_meanwhile_is_not_rebooted_again(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.on_start("install", 0.5, lambda: locked(web, 600))

    def by_hand() -> None:
        web.world.locks = ()
        web.power_cut()
        web.world.rebooted()
        web.cut(30)

    web.on_start("install", 300, by_hand)

    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED)
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 0
    assert f"it was rebooted, and not by this run, while the reboot waited: {HOLDER}" in outcome.reboot_result.reason
    assert web.boots.orders == []


def test_the_line_that_is_cut_while_it_waits_ends_nothing(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.on_start("install", 0.5, lambda: locked(web, 600))
    web.on_start("install", 100, lambda: web.cut(200))

    assert outcome_of(fleet.patch(), "web").reboot is RebootState.COMPLETED


def test_a_reboot_that_is_known_to_be_slow_is_not_ordered_into_the_windows_end(fleet: SimFleet) -> None:
    web = asks(fleet, seconds=10)
    fleet.teach(reboot_seconds=1500.0, transaction_seconds=10.0, install_seconds_per_update=5.0)
    web.on_start("install", 1, lambda: locked(web, 3600 - 35 * 60))

    outcome = outcome_of(fleet.patch(minutes=60), "web")

    assert outcome.reboot is RebootState.REQUIRED
    assert "the reboot needs about 37 min 30 s" in outcome.reason
    assert web.boots.orders == []


def test_nothing_is_installed_into_the_time_that_a_slow_reboot_needs(fleet: SimFleet) -> None:
    asks(fleet)
    fleet.teach(reboot_seconds=1500.0)

    outcome = outcome_of(fleet.patch(minutes=37), "web")

    assert outcome.state is OperationState.NOT_STARTED
    assert "37 min 30 s are kept for a reboot" in outcome.reason


def test_a_reboot_that_is_known_to_be_quick_may_use_the_time_that_was_kept_for_it(fleet: SimFleet) -> None:
    web = asks(fleet, seconds=10)
    fleet.teach(reboot_seconds=40.0)
    web.on_start("install", 1, lambda: locked(web, 50 * 60))

    outcome = outcome_of(fleet.patch(minutes=60), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert web.boots.count == 1


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (
            RebootPolicy.IF_REQUIRED,
            "nothing was installed, and without an installation this run does not do a reboot that was already pending",
        ),
        (RebootPolicy.NEVER, "the reboot policy is Never"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_reboot_that_is_required_and_not_taken_is_told_also_when_nothing_was_to_be_installed(
    fleet: SimFleet, policy: RebootPolicy, why: str, held: bool
) -> None:
    package = FakePackage("a", held=True) if held else FakePackage("a", installed="2.0")
    web = fleet.add("web", [package])
    web.world.shelf.reboot_reasons.append("from before")

    report = fleet.patch(reboot=policy)

    outcome = outcome_of(report, "web")
    message = f"a reboot is still required: the machine asks for a reboot (from before); {why}"
    (finding,) = [finding for finding in outcome.findings if finding.check == "pending-reboot"]
    assert (finding.message, outcome.reboot) == (message, RebootState.REQUIRED)
    if policy is RebootPolicy.NEVER:  # its owner has decided that
        assert (finding.level, outcome.state) == (FindingLevel.REMARK, OperationState.SUCCEEDED)
        assert to_run_exit_code(report) is ExitCode.SUCCESS
    else:
        assert (finding.level, message in outcome.reason) == (FindingLevel.WARN, True)
        assert to_run_exit_code(report) is ExitCode.WARNINGS
    assert web.boots.orders == []


@pytest.mark.parametrize("kind", ["plan", "assess"])
def test_a_look_at_a_machine_warns_of_no_reboot_that_it_would_not_have_taken(fleet: SimFleet, kind: str) -> None:
    web = fleet.add("web", [FakePackage("a", installed="2.0")])
    web.world.shelf.reboot_reasons.append("from before")

    report = fleet.assess() if kind == "assess" else fleet.patch(dry_run=True)

    assert all(finding.check != "pending-reboot" for outcome in report.outcomes for finding in outcome.findings)


def test_a_boot_that_asks_a_person_since_the_wait_began_keeps_a_machine_from_its_reboot(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.on_start("install", 0.5, lambda: locked(web, 300))
    until = fleet.clock.now() + timedelta(seconds=300)
    whole = {"kind": "survey", "ignores_devices": False, "fstab_is_proven": True}
    data = {"kind": "crypt", "name": "data", "key": "none", "options": "luks", "tokens": "", "needed": True}
    web.answer("next_boot", lambda _: [whole] if fleet.clock.now() < until else [data, whole])

    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.reboot, web.boots.count) == (RebootState.REQUIRED, 0)
    assert "its boot asks for the passphrase, PIN or key of an encrypted volume: data" in outcome.reason
