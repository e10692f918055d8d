"""What a machine says of its health, before it is changed and since, and the services that it starts late."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tasks.domain.errors import ConnectionLost
from tasks.domain.model import Finding, Outcome
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, UpdateState
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine

SCRIPT = "fake_health"
REMEDY = "Look at it."


def record(level: str, message: str, check: str = "packages") -> ScriptRecord:
    return {"kind": "finding", "check": check, "level": level, "message": message, "remedy": REMEDY}


@pytest.fixture
def machine(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> SimMachine:
    monkeypatch.setattr(FakeManager, "health_script", Script(SCRIPT))
    machine = fleet.add("web", [FakePackage("a")])
    machine.answer(SCRIPT, ())
    return machine


def say(machine: SimMachine, *before: ScriptRecord, since: tuple[ScriptRecord, ...] | None = None) -> list[str]:
    """Have a machine say this before it is changed, and this afterwards. Returns what it was asked."""
    asked: list[str] = []

    def answer(script: Script) -> tuple[ScriptRecord, ...]:
        asked.append(str(script.params.get("since", "")))
        return before if since is None or not asked[-1] else since

    machine.answer(SCRIPT, answer)
    return asked


def told(outcome: Outcome) -> list[tuple[str, FindingLevel]]:
    return [(each.message, each.level) for each in outcome.findings if each.remedy == REMEDY]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_machine_that_can_not_be_changed_safely_is_left(fleet: SimFleet, machine: SimMachine, dry_run: bool) -> None:
    say(machine, record("block", "it is damaged"))
    report = fleet.patch(dry_run=dry_run)
    outcome = outcome_of(report, "web")
    assert (outcome.state, outcome.reason) == (OperationState.FAILED, "pre-check packages: it is damaged")
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert not machine.jobs()


def test_a_plan_shows_what_the_pre_check_would_warn_of(fleet: SimFleet, machine: SimMachine) -> None:
    say(machine, record("warn", "it is a little damaged"))
    (plan,) = fleet.patch(dry_run=True).plans
    assert "pre-check would warn: packages: it is a little damaged" in plan.notes


def test_what_was_so_before_is_told_once(fleet: SimFleet, machine: SimMachine) -> None:
    damage = record("warn", "it is a little damaged")
    say(machine, damage, since=(damage, record("warn", "it stopped without a shutdown", "event log")))
    outcome = outcome_of(fleet.patch(), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert told(outcome) == [
        ("it is a little damaged", FindingLevel.WARN),
        ("it stopped without a shutdown", FindingLevel.WARN),
    ]


def test_what_an_update_has_damaged_fails_the_machine(fleet: SimFleet, machine: SimMachine) -> None:
    say(machine, since=(record("block", "it is damaged"),))
    outcome = outcome_of(fleet.patch(), "web")
    assert (outcome.state, result_of(outcome, "a").state) == (OperationState.FAILED, UpdateState.INSTALLED)


def test_the_machine_is_asked_by_its_own_clock(fleet: SimFleet, machine: SimMachine) -> None:
    machine.world.skew_seconds = 120
    asked = say(machine)
    began: list[datetime] = []
    original = fleet.watch.on_progress

    def note(name: str, step: str, fraction: float | None, message: str) -> None:
        if step == "precheck" and fraction == 0.0 and not message:
            began.append(fleet.clock.now())
        original(name, step, fraction, message)  # type: ignore[arg-type]

    fleet.watch.on_progress = note  # type: ignore[method-assign,assignment]
    fleet.patch()
    before, since = asked
    assert before == ""
    assert abs(float(since) - 120 - began[0].astimezone(UTC).timestamp()) < 2


def test_a_machine_that_does_not_say_how_it_is_is_patched(fleet: SimFleet, machine: SimMachine) -> None:
    machine.answer(SCRIPT, (), seconds=600)
    outcome = outcome_of(fleet.patch(), "web")
    assert outcome.state is OperationState.SUCCEEDED
    (finding,) = [each for each in outcome.findings if each.check == "health"]
    assert finding.message == "not known: the machine has not answered in 90 s"


def test_a_connection_that_is_lost_is_no_health(fleet: SimFleet, machine: SimMachine) -> None:
    machine.fail(ConnectionLost("cut"), on=SCRIPT)
    outcome = outcome_of(fleet.patch(), "web")
    assert outcome.state is OperationState.FAILED
    assert "cut" in outcome.reason


RUNS = ("Backup", "Database")


def services(machine: SimMachine, tell: Callable[[float, bool], dict[str, object]]) -> None:
    """Have a machine tell of its services, by its uptime and whether it was rebooted."""

    def facts(_: Script) -> list[ScriptRecord]:
        told = tell(machine.uptime, machine.boots.count > 0)
        return [{**each, **told} if each["kind"] == "services" else each for each in machine._facts()]

    machine.answer("facts", facts)


def services_findings(outcome: Outcome) -> list[Finding]:
    return [each for each in outcome.findings if each.check == "services"]


@pytest.mark.parametrize(
    ("starts_after", "level"), [(130.0, FindingLevel.GOOD), (900.0, FindingLevel.WARN)]
)  # they are due after 120 s, and then have come_back_seconds = 10 s
def test_services_that_the_system_starts_late_are_waited_for(
    fleet: SimFleet, starts_after: float, level: FindingLevel
) -> None:
    machine = fleet.add("web", [FakePackage("a")])

    def tell(uptime: float, rebooted: bool) -> dict[str, object]:
        late = ["Backup"] if rebooted and uptime < starts_after else []
        return {"running": [each for each in RUNS if each not in late], "late": late, "late_start": 120}

    services(machine, tell)
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS), "web")
    (finding,) = services_findings(outcome)
    assert finding.level is level, finding
    assert 120 < machine.uptime < 200


def test_a_service_that_has_ended_by_itself_is_not_waited_for(fleet: SimFleet) -> None:
    machine = fleet.add("web", [FakePackage("a")])
    ended = {"running": ["Database"], "ended": ["Backup"], "late_start": 120}
    services(machine, lambda _, rebooted: ended if rebooted else {"running": list(RUNS)})
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS), "web")
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert machine.uptime < 60


def test_a_service_that_ran_and_fails_at_the_boot_fails_the_machine(fleet: SimFleet) -> None:
    machine = fleet.add("web", [FakePackage("a")])
    services(machine, lambda _, rebooted: {"running": ["Backup"] if rebooted else list(RUNS)})
    machine.boots.up_after = 30.0
    original = machine._go_down

    def go_down() -> None:
        original()
        machine.failed_services = ("Database", "Other")

    machine._go_down = go_down  # type: ignore[method-assign]
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS), "web")
    assert outcome.state is OperationState.FAILED
    (finding,) = services_findings(outcome)
    assert finding.message == "failed since patching: Database"


def test_the_kernel_before_and_after_is_in_the_outcome(fleet: SimFleet) -> None:
    machine = fleet.add("web", [FakePackage("a")])

    def facts(_: Script) -> list[ScriptRecord]:
        release = "6.2" if machine.boots.count else "6.1"
        return [{**each, "release": release} if each["kind"] == "kernel" else each for each in machine._facts()]

    machine.answer("facts", facts)
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS), "web")
    assert (outcome.kernel_before, outcome.kernel_change) == ("6.1", "6.1 -> 6.2")


def test_a_machine_that_was_not_visited_has_no_kernel_afterwards(fleet: SimFleet) -> None:
    fleet.add("web", [])
    assert outcome_of(fleet.patch(), "web").kernel_change == ""
