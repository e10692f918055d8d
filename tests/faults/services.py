"""What must hold of services: those that run replaced files are told, and restarted once, in time, as asked."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome, RunInfo
from tasks.domain.states import OperationState, Step
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK
from tasks.steps.machine.facts import MAX_ROUND_TRIP_SECONDS
from tasks.steps.service_restarts import RESTART_SECONDS_PER_SERVICE
from tests.faults.kinds import CLOCKS
from tests.faults.machine import FaultyMachine
from tests.faults.world import World

NEVER = "dbus.service"
SLACK = timedelta(
    seconds=1 + MAX_ROUND_TRIP_SECONDS / 2
)  # the machine's clock is known to that; orders have whole seconds


def untold(world: World, outcome: Outcome, machine: FaultyMachine) -> Iterator[str]:
    """Nobody is told that all is well while services run replaced files, or while packages could not be judged."""
    if world.records.runs[outcome.run_id].kind != "patch":
        return
    outdated = machine.world.services.outdated
    validated = any(each.step is Step.VALIDATE and each.state is OperationState.SUCCEEDED for each in outcome.steps)
    told = any(each.check == SERVICE_RESTART_CHECK for each in outcome.findings)
    if outdated and (outcome.state is OperationState.SUCCEEDED or (validated and not told)):
        yield f"services run replaced files, and the report does not say so: {outdated}"
    alone = len({each.run_id for each in world.controllers}) == 1
    if outcome.state is OperationState.SUCCEEDED and alone and not machine.world.was_judged:
        yield "another process was changing packages at the last check, and the report does not say so"


def restarts(world: World, run: RunInfo, machine: FaultyMachine) -> Iterator[str]:
    """No service was restarted twice, against the request, or when the window could not hold it."""
    request = PatchRequest.model_validate(dict(run.request))
    machine.world.services.catch_up()
    jobs = {each.job.id for each in machine.orders.jobs if each.run_id == run.id}
    found = [(at, unit) for at, unit, job_id in machine.world.services.restarted if job_id in jobs]
    twice = [unit for unit, count in Counter(unit for _, unit in found).items() if count > 1]
    if twice and not machine.has_forgotten:
        yield f"services were restarted more than once: {twice}"
    if found and request.restart_services == "Never":
        yield f"services were restarted without a request: {found}"
    if any(unit == NEVER for _, unit in found):
        yield f"{NEVER} was restarted"
    kinds = {fault.kind for fault in world.struck}
    honest = not any(group <= kinds for group in CLOCKS)
    window = run.window
    if window is None or not honest:
        return
    for at, unit in found:
        if not window.start - SLACK <= at <= window.end - timedelta(seconds=RESTART_SECONDS_PER_SERVICE) + SLACK:
            yield f"{unit} was restarted at {at:%H:%M:%S}; the window ends at {window.end:%H:%M:%S}"
