"""Enrols components, and ends that: for the command, the pages and the API."""

from typing import Protocol

from flows.components.component_file import Catalogue
from flows.components.fleet_components import require_component
from inventory.machine import Inventory
from inventory.name_lists import format_count
from inventory.scope import Scope
from tasks.domain.components import ComponentEnrolment
from tasks.domain.errors import RequestError

MAX_SCOPE_LENGTH = 1500


class ComponentStore(Protocol):
    """Where enrolments are kept."""

    def enrol(self, enrolment: ComponentEnrolment) -> bool:
        """Store an enrolment. Return whether it was not so before."""

    def unenrol(self, component: str, scope: str) -> bool:
        """End an enrolment. Return whether there was one."""

    def read_enrolments(self) -> tuple[ComponentEnrolment, ...]:
        """Return all enrolments."""


def enrol(store: ComponentStore, catalogue: Catalogue, inventory: Inventory, enrolment: ComponentEnrolment) -> str:
    """Enrol a component on the machines of a scope, and return what became of it, in words.

    Raises:
        InventoryError: the scope is not valid, or selects no machine.
        RecordsError: it can't be stored.
        RequestError: there is no such component, or no machine of the scope can have it.
    """
    name, scope = enrolment.component, enrolment.scope
    component = require_component(catalogue, name)
    if len(scope) > MAX_SCOPE_LENGTH:
        raise RequestError(
            f"this scope has {len(scope)} characters, and {MAX_SCOPE_LENGTH} are allowed",
            hint="Give the machines a tag, and select them by it.",
        )
    machines = [machine for machine in Scope.parse(scope).select_machines(inventory) if machine.os is component.family]
    if not machines:
        raise RequestError(
            f"{name} is a component of {component.family}, and no machine of {scope!r} has that system",
            hint="Choose another scope, or correct `system` in components.yaml.",
        )
    is_new = store.enrol(enrolment)
    how = "enrolled" if is_new else "was enrolled already"
    return f"{name} {how} in {scope}: {format_count(len(machines), 'machine')} now"


def unenrol(store: ComponentStore, name: str, scope: str) -> str:
    """End an enrolment, and return what became of it, in words. The file need not have the component any more.

    Raises:
        RecordsError: it can't be stored.
        RequestError: there is no such enrolment.
    """
    if store.unenrol(name, scope):
        return f"{name} is no longer enrolled in {scope.strip()}"
    scopes = [repr(known.scope) for known in store.read_enrolments() if known.component == name]
    hint = f"It is enrolled in: {', '.join(scopes)}." if scopes else "`fleetpatch components list` shows what is."
    raise RequestError(f"{name} is not enrolled in {scope!r}", hint=hint)
