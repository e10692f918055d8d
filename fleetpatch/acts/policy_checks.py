"""Says early what the policy and the scope of a role forbid, so that people learn it before a run is started.

The engine decides by the same functions when the run begins (``flows.execution``), whatever these pages have seen.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from fastapi import Request
from pydantic import ValidationError

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.flow_runs import ASSESS_FLOW, ORDER_FLOW, PATCH_FLOW, RESUME_FLOW, FlowRunStatus
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.context import get_context
from flows.engine.run_info import select_machines
from flows.policy.enforcement import build_refusal, build_starter, enforce_act_policy, enforce_policy
from flows.policy.policy_file import load_policy
from flows.request.order_request import OrderRequest
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.errors import EmptyScopeError, InventoryError
from tasks.domain.errors import CannotRun, RunNotFound
from tasks.domain.model import RunInfo
from tasks.rules.policy.decision import check_role_scope
from tasks.rules.policy.model import Policy, RiskyOption

_REQUESTS: Final[Mapping[str, type[PatchRequest] | type[AssessRequest] | type[OrderRequest]]] = {
    PATCH_FLOW: PatchRequest,
    ASSESS_FLOW: AssessRequest,
    ORDER_FLOW: OrderRequest,
}


def check_request(request: Request, wanted: AssessRequest | PatchRequest) -> None:
    """Refuse a request that the policy or the person's role forbids now.

    Raises:
        PolicyRefused: it does, with the rule.
        InventoryError: the policy can't be read: no run begins.
    """
    context, identity = get_context(request), get_identity(request)
    now = context.clock.now()

    def read_policy() -> Policy:
        return load_policy(now.date(), context.settings.configurations)

    inventory = context.fleet.read(ACT_WAIT_SECONDS).inventory
    if inventory is None:  # the run reads its own, and asks the policy then
        return
    starter = build_starter(identity.name, identity.scopes.get(Role.RUN, ""))
    try:
        own_path = context.settings.configurations
        enforce_policy(wanted, inventory, starter, now, read_policy=read_policy, configurations=own_path)
    except EmptyScopeError:
        return  # the form and the API say that in their own words


def check_order(request: Request, wanted: OrderRequest) -> None:
    """Refuse an order that the policy or the person's role forbids now.

    Raises:
        PolicyRefused: it does, with the rule.
        InventoryError: the policy or the scope is not usable.
    """
    context, identity = get_context(request), get_identity(request)
    inventory = context.fleet.read(ACT_WAIT_SECONDS).inventory
    if inventory is None:  # the flow reads its own, and asks the policy then
        return
    now, starter = context.clock.now(), build_starter(identity.name, identity.scopes.get(Role.RUN, ""))
    act = RiskyOption.HOTPATCH if wanted.act.is_about_hotpatches else RiskyOption.OWN_UPDATERS
    machines = select_machines(wanted, inventory)
    enforce_act_policy(act, machines, inventory, now, (), starter, context.settings.configurations)


def require_machines_of_run(request: Request, role: Role, run: RunInfo) -> None:
    """Refuse an act on a run with a machine outside of the scope of the person's role.

    Raises:
        CannotRun: the role is limited, and the inventory can't be read here.
        PolicyRefused: a machine is outside, or in no inventory any more.
    """
    scope = get_identity(request).scopes.get(role, "")
    if not scope:
        return
    context = get_context(request)
    inventory = context.fleet.read(ACT_WAIT_SECONDS).inventory
    if inventory is None:
        raise CannotRun("the inventory can't be read here", hint="Your role is limited to machines of it.")
    report = context.history.read_report(run.id)
    require_machines(
        request,
        role,
        {
            *(plan.machine for plan in report.plans),
            *(name for wave in report.waves for name in wave.machines),
            *(outcome.machine for outcome in report.outcomes),
        },
    )


def require_machines_of_request(
    request: Request, role: Role, wanted: AssessRequest | PatchRequest | OrderRequest
) -> None:
    """Refuse an act on a request that selects a machine outside of the scope of the person's role.

    Raises:
        CannotRun: the role is limited, and the machines of the request are not known here.
        PolicyRefused: a machine is outside.
    """
    if not get_identity(request).scopes.get(role, ""):
        return
    context = get_context(request)
    inventory, own_path = context.fleet.read(ACT_WAIT_SECONDS).inventory, context.settings.inventory
    if inventory is None or (
        wanted.inventory is not None and (own_path is None or wanted.inventory != own_path.absolute())
    ):
        raise CannotRun("the inventory can't be read here", hint="Your role is limited to machines of it.")
    try:
        machines = select_machines(wanted, inventory)
    except InventoryError as error:
        raise CannotRun(error.message, hint="Ask somebody whose role is not limited.") from error
    require_machines(request, role, [machine.name for machine in machines])


def require_machines_of_flow_run(request: Request, waiting: FlowRunStatus) -> None:
    """Refuse to cancel a flow run with a machine outside of the scope of the person's role ``run``.

    Raises:
        CannotRun: the role is limited, and it can't be said which machines the flow run is about.
        PolicyRefused: a machine is outside.
        RecordsError: the records can't be read.
    """
    if not get_identity(request).scopes.get(Role.RUN, ""):
        return
    try:
        if waiting.flow == RESUME_FLOW:
            run = get_context(request).history.find_run(str(waiting.parameters["run_id"]))
            require_machines_of_run(request, Role.RUN, run)
            return
        run_request = _REQUESTS[waiting.flow].model_validate(waiting.parameters["request"])
    except (KeyError, ValidationError, RunNotFound) as error:
        raise CannotRun(
            f"it can't be said which machines flow run {waiting.id} is about",
            hint="Ask somebody whose role is not limited.",
        ) from error
    require_machines_of_request(request, Role.RUN, run_request)


def require_machines(request: Request, role: Role, names: Iterable[str]) -> None:
    """Refuse an act on machines of which one is outside of the scope of the person's role.

    Raises:
        CannotRun: the role is limited, and a machine is in no inventory here.
        PolicyRefused: a machine is outside.
    """
    if not get_identity(request).scopes.get(role, ""):
        return
    identity, context = get_identity(request), get_context(request)
    inventory = context.fleet.read().inventory
    machines_by_name = {machine.name: machine for machine in inventory.machines} if inventory is not None else {}
    starter = build_starter(identity.name, identity.scopes[role])
    missing = sorted(name for name in names if name not in machines_by_name)
    machines = [machines_by_name[name] for name in names if name in machines_by_name]
    if missing or not machines:
        raise CannotRun(
            f"it can't be said whether your role may touch {', '.join(missing[:5]) or 'this run'}",
            hint="It is in no inventory here. Ask somebody whose role is not limited.",
        )
    if refusals := check_role_scope(starter, machines, role.value):
        raise build_refusal(refusals)
