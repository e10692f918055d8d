"""Changes the enrolment of machines for hotpatches, and switches the systems' own updaters, as people order it."""

from collections.abc import Sequence

from flows.composition import read_own_secret
from flows.engine.run_info import build_run_id
from flows.hotpatch.arc_settings import find_azure_arc
from flows.hotpatch.baseline_file import load_baseline_calendar
from flows.hotpatch.changes import EnrolmentOrder, change_enrolments
from flows.orders.carrying_out import ChangeResult, Order
from flows.policy.enforcement import build_starter, enforce_act_policy
from flows.ports.caller import Caller, find_starter_name
from flows.ports.ports import Ports
from flows.request.order_request import OrderAct
from flows.updaters import switch_updaters
from inventory.machine import Machine
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.sql_records import SqlRecords
from tasks.rules.hotpatch import HotpatchAction
from tasks.rules.own_updaters import UpdaterAction
from tasks.rules.policy.model import RiskyOption


def carry_out_act(
    act: OrderAct,
    machines: Sequence[Machine],
    ports: Ports,
    records: SqlRecords,
    caller: Caller,
    *,
    order_id: str = "",
    at_once: int = 20,
    dry_run: bool = False,
    arc: tuple[str | None, str | None] = (None, None),
) -> tuple[ChangeResult, ...]:
    """Carry out an act on machines, if the policy allows it. The policy is not asked about a dry run.

    ``order_id``: "" for a new one. ``arc``: Azure Arc's group and token, see ``find_azure_arc``.

    Raises:
        InventoryError: the policy can't be read.
        PolicyRefused: a rule of the policy or the scope of a role forbids it.
        RequestError: a freeze or the group of Azure Arc is not valid.
    """
    now, by = ports.clock.now(), find_starter_name(caller)
    if not dry_run:
        risk = RiskyOption.HOTPATCH if act.is_about_hotpatches else RiskyOption.OWN_UPDATERS
        deployed, starter = ports.read_deployed_policies(), build_starter(by, caller.scope)
        enforce_act_policy(risk, machines, ports.inventory, now, deployed, starter)
    journal = SqlMachineOrders(records.database)
    order = Order(order_id or build_run_id(now), act.value, by, journal, dry_run, at_once)
    if not act.is_about_hotpatches:
        return switch_updaters(UpdaterAction(act.verb), machines, ports, order)
    enrolment_order = EnrolmentOrder(
        action=HotpatchAction(act.verb),
        order=order,
        store=SqlHotpatchEnrolments(records.database),
        calendar=load_baseline_calendar(),
        provider=find_azure_arc(read_own_secret, ports.clock, *arc),
    )
    return change_enrolments(machines, ports, enrolment_order)
