"""Runs of the simulated fleet whose controller dies, and that are taken up again."""

from dataclasses import replace

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest
from tasks.domain.model import RunReport
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.steps.context.run_control import StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet
from tests.support.mortal import Life, mortal_events, mortal_machine, mortal_provider, mortal_records

RUN = "20260310-010000-aaaaaa"


def begin(fleet: SimFleet, request: PatchRequest, life: Life, control: StopToken | None = None) -> RunReport:
    """Carry a run out, for as long as the controller lives."""
    return _campaign(fleet, request, life, control).execute()


def resume(fleet: SimFleet, life: Life | None = None, control: StopToken | None = None) -> RunReport:
    """Take the run up again, in a new process."""
    history = FakeHistory(fleet.records)
    past = read_resume_state(history, RUN)  # type: ignore[arg-type]  # the fake tells what the real one does
    return _campaign(fleet, parse_recorded_request(past.run), life or Life(), control, resume_state=past).execute()


def resume_unless_ended(fleet: SimFleet) -> RunReport:
    """Take the run up again, unless its process died after it had recorded the end: then return that."""
    history = FakeHistory(fleet.records)
    is_over = history.find_run(RUN).state not in UNFINISHED_RUN_STATES
    return history.read_report(RUN) if is_over else resume(fleet)


def _campaign(
    fleet: SimFleet, request: PatchRequest, life: Life, control: StopToken | None, **more: object
) -> FleetRun:
    ports = fleet.ports()
    mortal = replace(
        ports,
        stop_token=control or StopToken(),
        records=mortal_records(ports.records, life),
        events=mortal_events(ports.events, life),
        connect=lambda machine: mortal_machine(ports.connect(machine), life),
        open_provider=lambda machine: mortal_provider(ports.open_provider(machine), life),
    )
    return FleetRun(request, mortal, LocalRunner(), run_id=RUN, **more)  # type: ignore[arg-type]


def two_machines() -> SimFleet:
    """One that is rebooted and one with a failing package, in two waves."""
    fleet = SimFleet()
    fleet.add("first", [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    fleet.add("second", [FakePackage("a", seconds=20), FakePackage("bad", fails="no"), FakePackage("c")])
    return fleet


def end_state(fleet: SimFleet, report: RunReport) -> object:
    """What matters of an end: versions and boots on the machines, and what the report says of them."""
    machines = {name: (m.world.whole(), m.boots.count, m.world.state().problems) for name, m in fleet.machines.items()}
    told = {
        outcome.machine: (outcome.state, outcome.reboot, {r.update.id: r.state for r in outcome.updates})
        for outcome in report.outcomes
    }
    return machines, told


def undisturbed() -> tuple[int, object]:
    """Return how many calls a run makes that nothing happens to, and how it ends."""
    life = Life()
    fleet = two_machines()
    report = begin(fleet, fleet.request(waves={"size": 1, "failure_budget_count": 5}), life)
    return life.calls, end_state(fleet, report)
