"""What people and programs do with components: enrol, end that, upgrade. Forms and the API call the same functions."""

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.policy_checks import require_machines_of_request
from fleetpatch.acts.run_acts import start_patch
from fleetpatch.machines.component_list import read_fleet_components
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.audit import record_act
from fleetpatch.web.context import get_context
from flows.components.enrolments import enrol, unenrol
from flows.components.fleet_components import require_component
from flows.components.upgrades import plan_upgrade
from flows.request.read_requests import AssessRequest
from inventory.scope import Scope
from tasks.domain.components import ComponentEnrolment
from tasks.records.components import SqlComponents


def enrol_component(request: Request, name: str, scope: str) -> str:
    """Enrol a component on the machines of a scope, and return what became of it, in words.

    Raises:
        PolicyRefused: a machine of the scope is outside of the scope of the person's role.
        FleetpatchError: it was not done.
    """
    context = get_context(request)
    with record_act(request, "components enroll", name, scope):
        _require_own_machines(request, scope)
        knowledge, inventory = read_fleet_components(context.fleet.read(ACT_WAIT_SECONDS), context.records)
        identity, store = get_identity(request), SqlComponents(context.records.database)
        role_scope = identity.scopes.get(Role.RUN, "")
        enrolment = ComponentEnrolment(name, scope.strip(), identity.name, context.clock.now(), role_scope)
        return enrol(store, knowledge.catalogue, inventory, enrolment)


def unenrol_component(request: Request, name: str, scope: str) -> str:
    """End an enrolment, and return what became of it, in words.

    Raises:
        PolicyRefused: a machine of the scope is outside of the scope of the person's role.
        FleetpatchError: it was not done.
    """
    with record_act(request, "components unenroll", name, scope):
        _require_own_machines(request, scope)
        return unenrol(SqlComponents(get_context(request).records.database), name, scope)


def start_upgrade(request: Request, name: str, scope: str, version: str, key: str, *, dry_run: bool = False) -> str:
    """Start the run that upgrades a component on the machines of a scope, and return the id of its flow run.

    The machines must be those of one site. The policy, the role and the audit log are those of a patch run.

    Raises:
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    context = get_context(request)
    knowledge, inventory = read_fleet_components(context.fleet.read(ACT_WAIT_SECONDS), context.records)
    component = require_component(knowledge.catalogue, name)
    machines = Scope.parse(scope).select_machines(inventory)
    planned = plan_upgrade(
        knowledge, component, machines, inventory, context.clock.now(), wanted=version, dry_run=dry_run
    )
    return start_patch(request, planned.request, key)


def _require_own_machines(request: Request, scope: str) -> None:
    """Refuse a scope with a machine outside of the scope of the person's role, which holds at each upgrade as well."""
    require_machines_of_request(request, Role.RUN, AssessRequest(scope=scope.strip() or "*"))
