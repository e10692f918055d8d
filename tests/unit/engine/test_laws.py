"""The laws, over random fleets, requests and faults: whatever happens to machines, these things hold."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from inventory.machine import Limits, PatchOwner
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    ManagerBusy,
    PrivilegeError,
    ProtocolViolation,
    RecordsError,
    Unreachable,
)
from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.records import PUBLISH_ACT, JournalMark
from tasks.domain.states import Classification, OperationState, RebootPolicy, Step, UpdateState
from tasks.rules.updates.results import REMOVED_REASON
from tasks.steps.machine.machine_lock import LOCK_LEFT_ACT
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.sim_machine import Begun, SimMachine

RESERVE = timedelta(minutes=15)
MINUTES = (2, 16.5, 17, 18, 19, 20, 22, 25, 60, 240)
SLACK = timedelta(milliseconds=1)  # seconds since the epoch, as floats
ERRORS: tuple[Callable[[], FleetpatchError], ...] = (
    lambda: Unreachable("gone"),
    lambda: ConnectionLost("cut"),
    lambda: DeadlineExceeded("late"),
    lambda: AuthenticationFailed("refused"),
    lambda: PrivilegeError("no root"),
    lambda: ProtocolViolation("nonsense"),
    lambda: ManagerBusy("locked"),
)


@dataclass
class Case:
    """A fleet, and what is asked of it."""

    fleet: SimFleet = field(repr=False)
    fields: dict[str, Any]
    pending: dict[str, set[str]]
    faults: dict[str, list[str]]
    packages: dict[str, str]


def rarely(draw: st.DrawFn, one_in: int) -> bool:
    """Return a rare True: hypothesis likes a range's ends too well."""
    return draw(st.sampled_from([False] * (one_in - 1) + [True]))


@st.composite
def package_lists(draw: st.DrawFn) -> list[FakePackage]:
    count = draw(st.integers(0, 6))
    packages = []
    for number in range(count):
        half = rarely(draw, 13)
        packages.append(
            FakePackage(
                f"p{number}",
                installed="2.0" if half else "1.0",
                broken=half,
                classification=draw(st.sampled_from([Classification.SECURITY, Classification.OTHER])),
                seconds=draw(st.sampled_from([0.5, 20.0, 60.0, 400.0, 4000.0])),
                fails=draw(st.sampled_from(["", "", "", "", "", "", "no"])),
                asks_reboot=draw(st.booleans()),
                held=rarely(draw, 9),
                group=draw(st.sampled_from(["", "g"])),
                needs=(f"p{number - 1}",) if number and rarely(draw, 5) else (),
                removes=("p0",) if number and rarely(draw, 10) else (),
            )
        )
    return packages


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fleet = SimFleet()
    done: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 3))):
        machine = fleet.add(
            f"m{number}",
            draw(package_lists()),
            skew_seconds=draw(st.sampled_from([0.0] * 8 + [-200.0, 200.0, 3600.0])),
            owner=draw(st.sampled_from([PatchOwner.FLEETPATCH] * 8 + [PatchOwner.OS, PatchOwner.MANUAL])),
            limits=Limits(max_reboots=draw(st.sampled_from([None, 0, 1]))),
        )
        if rarely(draw, 4):
            machine.world.shelf.reboot_reasons.append("before")
        machine.world.mitigated_by = "live patches" if rarely(draw, 4) else ""
        done[machine.name] = draw(st.lists(faults(machine, fleet), min_size=0 if rarely(draw, 3) else 1, max_size=2))
    if not rarely(draw, 4):
        fleet.teach(transaction_seconds=draw(st.sampled_from([5.0, 60.0])), install_seconds_per_update=30.0)
    start = draw(st.sampled_from([None] * 8 + [-30.0, 90.0]))
    fields = {
        "minutes": draw(st.sampled_from(MINUTES)),
        "start": None if start is None else fleet.clock.now() + timedelta(minutes=start),
        "reboot": draw(st.sampled_from(list(RebootPolicy))),
        "reboot_if_live_patched": not rarely(draw, 3),
        "reboot_pending_first": draw(st.booleans()),
        "repair": draw(st.booleans()),
        "stage": draw(st.booleans()),
        "allow_removals": rarely(draw, 5),
        "max_reboots": draw(st.integers(0, 2)),
        "waves": {"size": draw(st.integers(1, 3)), "failure_budget_count": draw(st.sampled_from([3, 3, 1, 0]))},
    }
    pending = {name: {u.id for u in machine.world.state().updates} for name, machine in fleet.machines.items()}
    packages = {
        name: f"{machine.world.packages} {machine.world.skew_seconds}" for name, machine in fleet.machines.items()
    }
    return Case(fleet, fields, pending, done, packages)


@st.composite
def faults(draw: st.DrawFn, machine: SimMachine, fleet: SimFleet) -> str:
    """Something that happens to a machine, done to it at once; the result only names it."""
    kind = draw(st.sampled_from(["call", "job", "job", "job", "boots", "boots", "services", "disk"]))
    match kind:
        case "call":
            return draw(failing_calls(machine))
        case "job":
            return draw(trouble_in_a_job(machine, fleet))
        case "boots":
            return draw(odd_boots(machine))
        case "services":
            machine.gone_after_reboot = ("tcp/443",)
        case "disk":
            machine.free_kib = 100
    return kind


@st.composite
def failing_calls(draw: st.DrawFn, machine: SimMachine) -> str:
    on = draw(st.sampled_from(["", "start", "look", "facts", "reboot", "fake_installed", "fake_assess"]))
    error = draw(st.sampled_from(ERRORS))()
    first, times, lost = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 30])), draw(st.booleans())
    for call in range(times):
        machine.fail(error, on=on, call=first + call, after_the_act=lost)
    return f"{times} of {on or 'all'} from {first}: {type(error).__name__}, {lost}"


@st.composite
def trouble_in_a_job(draw: st.DrawFn, machine: SimMachine, fleet: SimFleet) -> str:
    work = draw(st.sampled_from(["stage", "install", "repair"]))
    seconds = draw(st.sampled_from([0.0, 3.0, 50.0]))
    troubles: dict[str, Callable[[], None]] = {
        "cut": lambda: machine.cut(300),
        "cut for good": lambda: machine.cut(100_000),
        "power cut": machine.power_cut,
        "stop": lambda: fleet.control.request_stop("asked"),
        "directory gone": machine._jobs.clear,
    }
    name = draw(st.sampled_from(sorted(troubles)))
    machine.on_start(work, seconds, troubles[name])
    return f"{name} {seconds:g} s into {work}"


@st.composite
def odd_boots(draw: st.DrawFn, machine: SimMachine) -> str:
    odd = draw(st.sampled_from(["stays up", "stays down", "same boot", "refuses", "can't", "slow"]))
    machine.boots.down_after = None if odd == "stays up" else 2.0
    machine.boots.up_after = {"stays down": None, "slow": 1500.0}.get(odd, 20.0)
    machine.boots.same_id = odd == "same boot"
    machine.boots.refuses = "not now" if odd == "refuses" else ""
    machine.boots.can = odd != "can't"
    return odd


@settings(max_examples=2 * settings().max_examples)
@given(cases())
def test_the_laws_hold(case: Case) -> None:
    fleet = case.fleet
    report = fleet.patch(**case.fields)
    assert Counter(outcome.machine for outcome in report.outcomes) == Counter(list(fleet.machines))
    for outcome in report.outcomes:
        event(f"{outcome.state}, {outcome.error.kind if outcome.error else 'no error'}")
        every_update_has_one_result(outcome, case.pending[outcome.machine])
        the_window_is_kept(case, report, outcome)
        reboots_are_counted(case, outcome)
        every_act_was_recorded_first(fleet, outcome.machine)
        the_report_is_what_the_database_says(outcome, fleet.machines[outcome.machine])
        strangers_are_not_asked(fleet, outcome)


def test_an_update_whose_package_another_one_removes_is_not_told_as_there() -> None:
    fleet = SimFleet()
    gone = FakePackage("gone")
    machine = fleet.add("m", [gone, FakePackage("heir", classification=Classification.SECURITY, removes=("gone",))])
    (outcome,) = fleet.patch(allow_removals=True).outcomes
    the_report_is_what_the_database_says(outcome, machine)
    (result,) = [each for each in outcome.updates if each.update.id == "gone"]
    assert (result.state, result.version_after) == (UpdateState.EXCLUDED, None)
    assert outcome.state is OperationState.SUCCEEDED


@settings(max_examples=2 * settings().max_examples)
@given(cases(), st.integers(1, 12))
def test_nothing_is_begun_unrecorded(case: Case, failing: int) -> None:
    fleet = case.fleet
    fleet.records.fail_append_at = failing
    raised = False
    try:
        fleet.patch(**case.fields)
    except RecordsError:
        raised = True
    assert raised is (fleet.records.appends >= failing) or fleet.records.failed_act in {
        LOCK_LEFT_ACT,
        PUBLISH_ACT,
    }  # it begins nothing
    for name in fleet.machines:
        every_act_was_recorded_first(fleet, name)


def every_update_has_one_result(outcome: Outcome, pending: set[str]) -> None:
    told = Counter(result.update.id for result in outcome.updates)
    assert max(told.values(), default=1) == 1
    if any(step.step is Step.ASSESS and step.state is OperationState.SUCCEEDED for step in outcome.steps):
        assert pending <= set(told)
    assert [r for r in outcome.updates if not r.reason and r.state is not UpdateState.INSTALLED] == []


def the_window_is_kept(case: Case, report: RunReport, outcome: Outcome) -> None:
    window, machine = report.run.window, case.fleet.machines[outcome.machine]
    assert window is not None
    never = case.fields["reboot"] is RebootPolicy.NEVER
    cut_off = window.end if never else max(window.start, window.end - RESERVE)
    for begun in machine.begun():
        assert window.start <= begun.at
        assert begun.at + predicted(case.fleet, begun) <= cut_off + SLACK, begun
    for ordered_at in machine.boots.ordered_at:
        assert window.start <= ordered_at <= window.end - RESERVE + SLACK
    if outcome.state is OperationState.NOT_STARTED:
        assert (machine.begun(), machine.boots.ordered_at) == ([], [])


def predicted(fleet: SimFleet, begun: Begun) -> timedelta:
    """How long a transaction was expected to take, as the journal has it."""
    (entry,) = [e for e in fleet.records.journal if e.key == begun.job_id and e.mark is JournalMark.BEFORE]
    parts: Any = entry.detail["transactions"]
    return timedelta(seconds=parts[str(begun.number)]["predicted"])


def reboots_are_counted(case: Case, outcome: Outcome) -> None:
    boots = case.fleet.machines[outcome.machine].boots
    (described,) = [machine for machine in case.fleet.described if machine.name == outcome.machine]
    own = described.limits.max_reboots
    assert len(boots.orders) <= (case.fields["max_reboots"] if own is None else own)
    assert max(Counter(boots.orders).values(), default=0) <= 1
    if case.fields["reboot"] is RebootPolicy.NEVER or not boots.can:
        assert boots.orders == []
    waits = not case.fields["reboot_if_live_patched"] and case.fleet.machines[outcome.machine].world.mitigated_by
    if waits and case.fields["reboot"] is not RebootPolicy.ALWAYS:
        assert boots.orders == []
    if boots.count:
        assert outcome.reboot_result is not None


def every_act_was_recorded_first(fleet: SimFleet, name: str) -> None:
    machine = fleet.machines[name]
    kept = Counter(
        (entry.act, entry.key)
        for entry in fleet.records.journal
        if entry.machine == name and entry.mark is JournalMark.BEFORE
    )
    assert max(kept.values(), default=1) == 1
    jobs = {(str(job.script.params["work"]), job.id) for job in machine.jobs()}
    assert jobs | {("reboot", boot_id) for boot_id in machine.boots.orders} <= set(kept)


def the_report_is_what_the_database_says(outcome: Outcome, machine: SimMachine) -> None:
    there = machine.world.whole()
    for result in outcome.updates:
        if result.state is UpdateState.INSTALLED:
            assert there.get(result.update.id) == result.version_after, result
        elif outcome.error is None and result.state is not UpdateState.FAILED:
            was_removed = result.reason.startswith(REMOVED_REASON)
            assert there.get(result.update.id) == (None if was_removed else result.update.installed), result


def strangers_are_not_asked(fleet: SimFleet, outcome: Outcome) -> None:
    (described,) = [machine for machine in fleet.described if machine.name == outcome.machine]
    if described.owner is not PatchOwner.FLEETPATCH:
        assert fleet.machines[outcome.machine].calls == []
