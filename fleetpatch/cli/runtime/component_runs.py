"""Carries out the runs that upgrade components, or groups of images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from fleetpatch.cli.runtime.error_description import describe_error
from fleetpatch.cli.runtime.exit_codes import ExitCode, find_worst_exit_code
from fleetpatch.cli.runtime.run_session import run_request_in_session
from flows.components.fleet_components import require_component
from flows.components.overview import ComponentKnowledge, build_component_rows, count_unsettled
from flows.components.upgrades import (
    ComponentUpgrade,
    UpgradeResult,
    carry_out,
    plan_enrolled_upgrades,
    plan_upgrade,
    require_own_files,
)
from flows.request.patch_request import WindowRequest
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import Component, ComponentStanding
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import Clock

FleetOpener = Callable[[], AbstractContextManager[tuple[ComponentKnowledge, Inventory, Sequence[Machine]]]]
"""Opens what is known of components, the inventory, and the machines that are wanted of it."""


@dataclass(frozen=True, slots=True)
class UpgradeOrder:
    """What a person orders."""

    name: str | None  # of a component; None: all that are enrolled, one after the other
    version: str = ""  # the version that it gets; "": by itself
    minutes: float = 720.0
    roll_back: bool = True  # whether the version before is put back on a machine that is not healthy
    dry_run: bool = False
    noun: str = "component"  # what the name is of, for errors


@dataclass(frozen=True, slots=True)
class UpgradeOutcome:
    """What became of the runs."""

    results: tuple[UpgradeResult, ...]  # of the components that were due
    # How many enrolled components are on machines that get nothing, by their standing.
    unsettled: Mapping[ComponentStanding, int]
    exit_code: ExitCode  # the worst one


def run_upgrades(
    order: UpgradeOrder, open_fleet: FleetOpener, records: str | None, clock: Clock, *, as_flow: bool
) -> UpgradeOutcome:
    """Plan each component when the run before has ended, carry it out, and return what became of all.

    Raises:
        FleetpatchError: nothing could begin.
    """
    if order.version and order.name is None:
        raise RequestError(f"--to needs a {order.noun}", hint=f"Name the {order.noun}, too.")
    codes, is_stopped = list[ExitCode](), [False]

    def plan_one(component: Component) -> ComponentUpgrade | None:
        # what the run before did is known only now
        with open_fleet() as (knowledge, fleet, machines):
            require_own_files(component)
            return _plan(order, component, knowledge, fleet, machines, clock.now())

    def run_one(planned: ComponentUpgrade) -> RunReport:
        result = run_request_in_session(planned.request, planned.machines, as_flow=as_flow, records=records)
        codes.append(result.exit_code)
        is_stopped[0] = result.was_interrupted
        return result.report

    with open_fleet() as (knowledge, _, _):
        catalogue = knowledge.catalogue
    components: Sequence[Component] = catalogue.components
    if order.name is not None:
        components = (require_component(catalogue, order.name),)
    results = tuple(carry_out(components, plan_one, run_one, lambda: is_stopped[0]))
    unsettled: Mapping[ComponentStanding, int] = {}
    if order.name is None:
        with open_fleet() as (knowledge, _, machines):
            unsettled = count_unsettled(build_component_rows(knowledge, machines, clock.now()))
    codes += [describe_error(result.error).exit_code for result in results if result.error is not None]
    codes += [ExitCode.WARNINGS] if unsettled else []
    return UpgradeOutcome(results, unsettled, find_worst_exit_code(codes))


def _plan(
    order: UpgradeOrder,
    component: Component,
    knowledge: ComponentKnowledge,
    fleet: Inventory,
    machines: Sequence[Machine],
    now: datetime,
) -> ComponentUpgrade | None:
    window = WindowRequest(minutes=order.minutes)
    if order.name is None:
        enrolled = plan_enrolled_upgrades(
            knowledge, machines, fleet, now, window=window, path=fleet.source, dry_run=order.dry_run
        )
        return next((one for one in enrolled if one.component.name == component.name), None)
    return plan_upgrade(
        knowledge,
        component,
        machines,
        fleet,
        now,
        wanted=order.version,
        window=window,
        path=fleet.source,
        dry_run=order.dry_run,
        roll_back=order.roll_back,
    )
