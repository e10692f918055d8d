"""Attacks on freezes and on the longest window by the time before a window, in which hooks may run."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.policy.enforcement import build_demands
from flows.request.request_parts import HooksRequest
from tasks.domain.model import Hook, HookResult, RunReport
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import OperationState
from tasks.rules.calendar.freezes import Freeze
from tests.support.fleet import SimFleet
from tests.unit.engine.hook_stage import RUN, Owner, asked_for, every_place, hook, small_fleet

BEFORE_RUN = HooksRequest.model_validate({"before_run": [hook("drain")]}).model_dump()


class TimedOwner(Owner):
    """Knows when each hook was called, and when each job of a machine was begun."""

    def __init__(self, fleet: SimFleet) -> None:
        super().__init__(fleet)
        self.moments: list[datetime] = []

    def call(self, hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        self.moments.append(self.fleet.clock.now())
        return super().call(hook, report, subject, deadline)


def patch(
    owner: TimedOwner, freezes: tuple[Freeze, ...], *, opens_in: float, lead: float, hooks: dict[str, object]
) -> RunReport:
    fleet = owner.fleet
    for machine in fleet.machines.values():
        machine.on_start("install", 0, lambda: owner.moments.append(fleet.clock.now()))
    asked = asked_for(fleet, hooks, start=fleet.clock.now() + timedelta(minutes=opens_in), minutes=240)
    asked = asked.model_copy(update={"window": asked.window.model_copy(update={"lead_minutes": lead})})
    ports = replace(owner.ports(), read_declared_freezes=lambda: freezes)
    return FleetRun(asked, ports, LocalRunner(), run_id=RUN).execute()


def test_a_hook_before_the_run_waits_for_the_end_of_a_freeze() -> None:
    """Attacker: who may start runs, and has work to do in a freeze.

    Way: a window after the freeze, a lead that is as long as can be, and a command before the run.
    What must hold: the command runs after the freeze.
    """
    owner = TimedOwner(small_fleet())
    begun = owner.fleet.clock.now()
    freeze = Freeze(begun - timedelta(days=2), begun + timedelta(hours=2), "the sale")
    report = patch(owner, (freeze,), opens_in=5 * 60, lead=7 * 24 * 60, hooks=BEFORE_RUN)
    assert report.run.state is OperationState.SUCCEEDED
    assert owner.asked == ["gate", "before_run/drain/run"]
    assert owner.moments[0] == freeze.end


def test_a_long_lead_makes_a_window_long() -> None:
    """Attacker: who may start runs, where a rule limits the window. Way: a lead of days, with a hook before the run.

    What must hold: this lead counts as a part of the window. A lead that is only for the approval does not.
    """
    fleet = small_fleet()
    asked = asked_for(fleet, BEFORE_RUN)
    asked = asked.model_copy(update={"window": asked.window.model_copy(update={"lead_minutes": 10_080})})
    window = asked.window.to_window(fleet.clock.now())
    inventory = fleet.ports().inventory
    assert build_demands(asked, window, inventory).lead_minutes == 10_080
    plain = asked.model_copy(update={"hooks": HooksRequest()})
    assert build_demands(plain, window, inventory).lead_minutes == 0


@settings(max_examples=40, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(-60, 60), st.integers(1, 60)), min_size=1, max_size=3),
    opens_in=st.integers(30, 200),
    lead=st.integers(0, 200),
)
def test_no_hook_and_no_job_begins_in_a_freeze(spans: list[tuple[int, int]], opens_in: int, lead: int) -> None:
    """Attacker: who may start runs. Way: any window and any lead, around any freezes.

    What must hold: no hook and no job of a machine begins at a moment of a freeze.
    """
    owner = TimedOwner(small_fleet())
    begun = owner.fleet.clock.now()
    freezes = tuple(
        Freeze(begun + timedelta(minutes=start), begun + timedelta(minutes=start + length)) for start, length in spans
    )
    patch(owner, freezes, opens_in=opens_in, lead=lead, hooks=every_place())
    assert not [
        (moment, freeze) for moment in owner.moments for freeze in freezes if freeze.start <= moment < freeze.end
    ]
