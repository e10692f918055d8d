"""Builds the rows of components on machines, from the file, the enrolments and what the records know. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime

from flows.components.component_file import Catalogue
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.domain.components import (
    AutomaticUpgrade,
    Component,
    ComponentEnrolment,
    ComponentStanding,
    ComponentTry,
    InstalledComponent,
)
from tasks.domain.rows.components import ComponentRow
from tasks.rules.components.choice import ComponentChoice, choose_version
from tasks.rules.components.order import find_prerequisite

InstalledComponents = Mapping[str, Mapping[str, InstalledComponent]]
"""Machine -> name of the component -> what the machine said last."""


@dataclass(frozen=True, slots=True)
class ComponentKnowledge:
    """What is known of the components of a fleet.

    Attributes:
        installed: what machines said at their last answer.
        answered_at: when that was, by machine.
        tries: by component.
        changing: by component, the machines that a run without an end has begun to change, each with the run.
    """

    catalogue: Catalogue = field(default_factory=Catalogue)
    enrolments: tuple[ComponentEnrolment, ...] = ()
    installed: InstalledComponents = field(default_factory=dict)
    answered_at: Mapping[str, datetime] = field(default_factory=dict)
    tries: Mapping[str, Sequence[ComponentTry]] = field(default_factory=dict)
    changing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def find_installed(self, component: str, machine: str) -> InstalledComponent | None:
        """Return what a machine has, by the newest word of its own: an assessment, or the run that changed it last."""
        if run := self.changing.get(component, {}).get(machine):
            reason = f"run {run} has begun to change it, and its end was not seen. If its process died: "
            return InstalledComponent(component, problem=f"{reason}fleetpatch resume {run}")
        installed = self.installed.get(machine, {}).get(component)
        last = next((one for one in reversed(self.tries.get(component, ())) if one.machine == machine), None)
        answered_at = self.answered_at.get(machine)
        if last is None or last.was_refused or (answered_at is not None and answered_at >= last.at):
            return installed
        if last.version_after is not None:
            return InstalledComponent(component, last.version_after)
        if installed is not None and (last.version_before or installed.version != last.version_before):
            reason = f"run {last.run_id} has changed it, and did not see what it left. Ask it: "
            return InstalledComponent(component, problem=f"{reason}fleetpatch assess {machine}")
        return installed


def find_enrolled_scopes(
    machines: Sequence[Machine], component: str, enrolments: Sequence[ComponentEnrolment]
) -> dict[str, tuple[str, ...]]:
    """Return the machines on which a component is enrolled, each with the scopes that select it.

    A scope that can't be parsed any more selects nobody: it was valid when it was stored.
    """
    scopes: dict[str, tuple[str, ...]] = {}
    for enrolment in enrolments:
        if enrolment.component != component:
            continue
        try:
            scope, limit = Scope.parse(enrolment.scope), Scope.parse(enrolment.role_scope or "*")
        except InventoryError:
            continue
        for machine in machines:
            if scope.matches(machine) and limit.matches(machine):
                scopes[machine.name] = (*scopes.get(machine.name, ()), enrolment.scope)
    return scopes


def choose_for_machine(
    knowledge: ComponentKnowledge, component: Component, machine: Machine, now: datetime
) -> ComponentChoice:
    """Return how a component stands on a machine by its last answer, and what it would get by itself."""
    installed = knowledge.find_installed(component.name, machine.name)
    tries = knowledge.tries.get(component.name, ())
    return choose_version(component, installed, machine.os, tries, machine.name, now)


def find_held_back(
    knowledge: ComponentKnowledge, component: Component, inventory: Inventory, now: datetime
) -> dict[str, str]:
    """Return the machines on which a component waits for another one, each with the reason."""
    others = {other.name: other for other in knowledge.catalogue.components if other.name in component.after}
    enrolled = {name: find_enrolled_scopes(inventory.machines, name, knowledge.enrolments).keys() for name in others}
    held_back: dict[str, str] = {}
    for machine in inventory.machines:
        choices = {
            name: choose_for_machine(knowledge, other, machine, now)
            for name, other in others.items()
            if machine.name in enrolled[name]
        }
        name = find_prerequisite(component, {name: choice.standing for name, choice in choices.items()})
        if name:
            choice = choices[name]
            told = f"it waits for {name}, which is to come before it: {choice.standing}"
            held_back[machine.name] = f"{told}: {choice.reason}".rstrip(": ")
    return held_back


def build_component_rows(
    knowledge: ComponentKnowledge, machines: Sequence[Machine], now: datetime, *, members_only: bool = False
) -> Iterator[ComponentRow]:
    """Yield the row of each component on each machine whose system can have it, in the order of the file.

    With ``members_only``, of the machines where it is enrolled or that have told of it.
    """
    for component in knowledge.catalogue.components:
        scopes = find_enrolled_scopes(machines, component.name, knowledge.enrolments)
        last_tries = {one.machine: one for one in knowledge.tries.get(component.name, ())}  # the newest counts
        for machine in machines:
            told = component.name in knowledge.installed.get(machine.name, {})
            if members_only and machine.name not in scopes and not told:
                continue
            choice = choose_for_machine(knowledge, component, machine, now)
            yield _build_row(
                component,
                machine,
                choice,
                scopes.get(machine.name, ()),
                knowledge.find_installed(component.name, machine.name),
                knowledge.answered_at.get(machine.name),
                last_tries.get(machine.name),
            )


def count_unsettled(rows: Iterable[ComponentRow]) -> Counter[ComponentStanding]:
    """Return how many enrolled components are on machines that can't tell their version, or can't get the next one."""
    return Counter(
        row.standing for row in rows if row.automatic is AutomaticUpgrade.ENABLED and row.standing.is_unsettled
    )


def _build_row(
    component: Component,
    machine: Machine,
    choice: ComponentChoice,
    scopes: tuple[str, ...],
    installed: InstalledComponent | None,
    answered_at: datetime | None,
    last: ComponentTry | None,
) -> ComponentRow:
    is_supported = choice.standing is not ComponentStanding.NOT_SUPPORTED
    automatic = AutomaticUpgrade.ENABLED if scopes else AutomaticUpgrade.DISABLED
    return ComponentRow(
        machine=machine.name,
        component=component.name,
        kind=component.kind,
        automatic=automatic if is_supported else AutomaticUpgrade.NOT_SUPPORTED,
        scopes=scopes,
        standing=choice.standing,
        installed=installed.version if installed is not None else None,
        available=choice.target.version if choice.target is not None else None,
        newest=next((known.version for known in reversed(component.versions) if not known.is_kept), None),
        reason=choice.reason,
        not_before=choice.not_before,
        answered_at=answered_at if installed is not None else None,
        last_run_id=last.run_id if last is not None else None,
        last_version=last.version if last is not None else None,
        last_succeeded=last.succeeded if last is not None else None,
        last_reason=(last.reason or None) if last is not None else None,
        last_at=last.at if last is not None else None,
    )
