"""Builds the runs that upgrade components, one for each, and carries them out one after the other."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from flows.components.overview import ComponentKnowledge, choose_for_machine, find_enrolled_scopes, find_held_back
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import Component, ComponentStanding
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import RunReport
from tasks.domain.states import RebootPolicy
from tasks.rules.components.versions import find_listed_version
from tasks.steps.component_own_files import require_own_file

DEFAULT_WINDOW_MINUTES = 12 * 60.0
"""How long a run of a component may take. Each batch is watched for minutes, and batches are small."""


@dataclass(frozen=True, slots=True)
class ComponentUpgrade:
    """The run of one component.

    Attributes:
        machines: all machines of its scope: their health counts, whatever they get.
        due: those of them that get a version, by their last answer, or have not answered. The run asks them again.
        pending: those of the due ones that have answered.
        held_back: those of them that wait for another component, each with the reason.
    """

    component: Component
    request: PatchRequest
    machines: tuple[str, ...]
    due: tuple[str, ...]
    pending: tuple[str, ...]
    held_back: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """What became of the run of one component.

    Attributes:
        report: None: it did not begin.
        error: why not.
    """

    component: str
    report: RunReport | None = None
    error: FleetpatchError | None = None


def find_first_locations(
    component: Component, machines: Sequence[Machine], due: Sequence[str], pending: Sequence[str]
) -> list[str]:
    """Return the locations whose machines are first: the canary locations with due machines, or else the first by name.

    Machines without a location are not the canaries if there are others, and ones that never answered neither.
    """
    canaries = {machine.location for machine in machines if machine.name in due} & {*component.canary_locations}
    named = {machine.location for machine in machines if machine.name in (pending or due) and machine.location}
    return sorted(canaries) or sorted(named)[:1]


def plan_upgrade(
    knowledge: ComponentKnowledge,
    component: Component,
    machines: Sequence[Machine],
    inventory: Inventory,
    now: datetime,
    *,
    wanted: str = "",
    window: WindowRequest | None = None,
    path: Path | None = None,
    dry_run: bool = False,
    roll_back: bool = True,
) -> ComponentUpgrade:
    """Return the run that upgrades a component on machines.

    Args:
        knowledge: of the fleet.
        component: what is upgraded.
        machines: the machines of the scope. Those of other systems are left out.
        inventory: of the fleet.
        now: the present time.
        wanted: the version that a person orders; "": what comes by itself.
        window: of the run; None: it opens now.
        path: of the inventory.
        dry_run: plan only.
        roll_back: whether the version before is put back where the machine is not healthy.

    Raises:
        RequestError: the file does not have the version, or no machine can have the component.
    """
    require_version(component, wanted)
    supported = [machine for machine in machines if machine.os is component.family]
    if not supported:
        raise RequestError(
            f"{component.name} is a component of {component.family}, and no machine of the scope has that system",
            hint="Choose another scope.",
        )
    names = tuple(machine.name for machine in supported)
    held_back = {
        name: reason
        for name, reason in find_held_back(knowledge, component, inventory, now).items()
        if name in set(names)
    }
    choices = {machine.name: choose_for_machine(knowledge, component, machine, now) for machine in supported}
    # what was not asked yet may be due as well
    may_be_due = {ComponentStanding.PENDING, ComponentStanding.UNKNOWN}
    due = tuple(
        name
        for name, choice in choices.items()
        if name not in held_back and (choice.standing in may_be_due or bool(wanted))
    )
    pending = tuple(name for name in due if choices[name].standing is ComponentStanding.PENDING)
    image = component.image
    request = PatchRequest(
        scope="*",
        inventory=path,
        only_machines=list(names),
        component=component.name,
        component_version=wanted,
        reboot=RebootPolicy.NEVER,
        restart_services="Never",
        dry_run=dry_run,
        roll_back=roll_back,
        window=window or WindowRequest(minutes=DEFAULT_WINDOW_MINUTES),
        waves=WavesRequest(
            percent=component.limits.batch,
            round_down=True,
            pause_minutes=image.pause_minutes if image is not None else 0,
            keep_locations_apart=image is not None and not image.crosses_zones,
            first_locations=find_first_locations(component, supported, due, pending),
        ),
    )
    return ComponentUpgrade(component, request, names, due, pending, held_back)


def plan_enrolled_upgrades(
    knowledge: ComponentKnowledge,
    machines: Sequence[Machine],
    inventory: Inventory,
    now: datetime,
    *,
    window: WindowRequest | None = None,
    path: Path | None = None,
    dry_run: bool = False,
) -> Iterator[ComponentUpgrade]:
    """Yield the runs of all enrolled components that are due on some machine, each after those that it names."""
    for component in knowledge.catalogue.components:
        enrolled = find_enrolled_scopes(machines, component.name, knowledge.enrolments)
        members = [machine for machine in machines if machine.name in enrolled and machine.os is component.family]
        if not members:
            continue
        upgrade = plan_upgrade(knowledge, component, members, inventory, now, window=window, path=path, dry_run=dry_run)
        if upgrade.due or (dry_run and upgrade.held_back):
            yield upgrade


def carry_out(
    components: Sequence[Component],
    plan: Callable[[Component], ComponentUpgrade | None],
    run: Callable[[ComponentUpgrade], RunReport],
    is_stopping: Callable[[], bool],
) -> Iterator[UpgradeResult]:
    """Carry the runs of components out, one after the other, and yield what became of each.

    A component that fails does not stop the others. Each run is planned when the one before has ended: what failed
    there holds its dependants back on these machines.
    """
    for component in components:
        if is_stopping():
            return
        try:
            upgrade = plan(component)
            if upgrade is not None:
                yield UpgradeResult(component.name, run(upgrade))
        except FleetpatchError as error:
            yield UpgradeResult(component.name, error=error)


def require_version(component: Component, wanted: str) -> None:
    """Refuse a version that nobody can get.

    Raises:
        RequestError: the file does not have it, or it was withdrawn.
    """
    if not wanted:
        return
    version = find_listed_version(component.versions, wanted)
    known = ", ".join(known.version for known in component.versions if not known.is_kept)
    if version is None:
        raise RequestError(f"{component.name} has no version {wanted!r}", hint=f"There are: {known}.")
    if version.withdrawn:
        raise RequestError(
            f"{component.name} {version.version} was withdrawn: {version.withdrawn}", hint="Order another version."
        )


def require_own_files(component: Component) -> None:
    """Check the files of a component on this controller, before any machine gets one.

    Raises:
        RequestError: a file can't be read, or has another digest.
    """
    for version in component.versions:
        if not version.is_kept:  # it is asked for only where it goes back
            require_own_file(component, version)
