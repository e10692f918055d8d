"""What people and programs do with machines outside of runs: order changes, and say who patches them."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.flow_runs import ORDER_FLOW
from fleetpatch.acts.policy_checks import check_order
from fleetpatch.acts.run_acts import MAX_KEY_LENGTH, complete_parameters, digest_key, find_site_of, start_recorded
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.audit import record_act
from fleetpatch.web.context import WebContext, get_context
from flows.engine.run_info import select_machines
from flows.owner_change import OwnerOrder, OwnerReport, change_owners
from flows.policy.enforcement import build_starter
from flows.ports.caller import Actor
from flows.request.order_request import OrderRequest
from inventory.loader import find_inventory
from inventory.machine import PatchOwner
from inventory.name_lists import join_first_names
from tasks.domain.errors import RequestError
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog

OWNER_ACT = "change owner"


def start_order(request: Request, wanted: OrderRequest, key: str) -> str:
    """Start an order, and return the id of its flow run. Sent again with its key, it is started once.

    Raises:
        KeyUsedBefore: the key was used for other values.
        PolicyRefused: a rule of the policy or the scope of the person's role forbids it.
        RequestError: its machines are of several sites, so no worker reaches all of them.
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    name = get_identity(request).name
    with record_act(request, wanted.act, wanted.scope, join_first_names(wanted.only_machines, 50)):
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise RequestError("the request has no key that makes it unique", hint="Open the form again.")
        check_order(request, wanted)
        inventory = get_context(request).fleet.read(ACT_WAIT_SECONDS).inventory
        sites = {machine.site for machine in select_machines(wanted, inventory)} if inventory is not None else set()
        if len(sites) > 1:
            message = f"these machines are of several sites: {join_first_names(sorted(sites))}"
            raise RequestError(message, hint="Select those of one site. Its own worker reaches them.")
        title = f"{wanted.act} {wanted.scope[:80]} for {name or 'somebody'}"
        whole_key = digest_key(wanted.act, name, key)
        site = find_site_of(request, wanted)
        return start_recorded(request, ORDER_FLOW, complete_parameters(request, wanted), whole_key, title, site)[0]


def find_own_inventory(context: WebContext) -> Path:
    """Return the inventory of the pages. Raise InventoryError if there is none."""
    return find_inventory(context.settings.inventory)


def set_owner(request: Request, machines: Sequence[str], owner: PatchOwner, *, dry_run: bool) -> OwnerReport:
    """Write into the inventory who patches machines; with ``dry_run`` only say what would be written.

    Raises:
        InventoryError: the inventory or the policy has problems, or a name is of no machine. Nothing was written.
        PolicyRefused: a rule of the policy or the scope of the person's role forbids it. Nothing was written.
        RecordsError: the audit log can't be read or written.
    """
    context, identity = get_context(request), get_identity(request)
    log = SqlAuditLog(context.records.database)
    order = OwnerOrder(
        source=find_own_inventory(context),
        machines=tuple(machines),
        owner=owner,
        actor=Actor(identity.name, identity.source, address=identity.address),
        append=log.append,
        clock=context.clock,
        starter=build_starter(identity.name, identity.scopes.get(Role.RUN, "")),
        deployed=() if dry_run else read_deployed_policies(log),
        configurations=context.settings.configurations,
        dry_run=dry_run,
    )
    if dry_run:
        return change_owners(order)
    with record_act(request, OWNER_ACT, join_first_names(machines, 50), owner.value):
        return change_owners(order)
