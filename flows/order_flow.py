"""The flow change_machines: orders that people start at the pages or by the API, carried out by a worker."""

from collections.abc import Sequence

from prefect.runtime import flow_run

from flows.composition import open_ports, read_own_secret
from flows.engine.run_info import build_run_id, select_machines
from flows.hotpatch.arc_settings import find_azure_arc
from flows.hotpatch.baseline_file import load_baseline_calendar
from flows.hotpatch.changes import EnrolmentOrder, change_enrolments
from flows.orders.carrying_out import ChangeResult, Order
from flows.policy.enforcement import build_starter, enforce_act_policy
from flows.ports.audit import record_act
from flows.ports.caller import Caller, current_caller, find_actor, find_starter_name
from flows.ports.ports import Ports
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.request.order_request import OrderRequest
from flows.request.read_requests import AssessRequest
from flows.updaters import switch_updaters
from inventory.machine import Machine
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.states import ChangeState
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.formatting import format_count
from tasks.rules.hotpatch import HotpatchAction
from tasks.rules.own_updaters import UpdaterAction
from tasks.rules.policy.model import RiskyOption


class OrderFailed(FleetpatchError):
    """An order failed on a machine. The records say what became of each."""


@flow(name="change-machines", persist_result=False)
def change_machines(request: OrderRequest) -> str:
    """Change the enrolment for hotpatches, or switch the systems' own updaters, on machines.

    What becomes of each machine is in the records, under the id of the flow run. Prefect never repeats an order: a
    flow run that is started again looks at each machine anew, and finds what is done already.

    Args:
        request: what is done, on which machines of the site of the worker.

    Returns:
        How many machines were changed, in words.

    Raises:
        OrderFailed: it failed on a machine, or could not be begun on any.
        InventoryError: the inventory or the scope is not usable.
        PolicyRefused: a rule of the policy or the scope of a role forbids it.
        RequestError: a machine is of another site.
    """
    caller = name_starter(log_to_flow_run(current_caller()))
    results = execute_order(request, caller, str(flow_run.get_id() or ""))
    changed = sum(result.state in {ChangeState.CHANGED, ChangeState.UNCHANGED} for result in results)
    bad = [result for result in results if result.state in {ChangeState.FAILED, ChangeState.REFUSED}]
    told = f"{request.act}: {changed} of {format_count(len(results), 'machine')} are as wanted"
    if bad:
        first = bad[0]
        raise OrderFailed(f"{told}. {first.machine}: {first.message}", hint=first.remedy)
    return told


def execute_order(request: OrderRequest, caller: Caller, order_id: str = "") -> tuple[ChangeResult, ...]:
    """Carry out an order, with an entry in the audit log before and after.

    ``order_id`` is that of the flow run; "": a new one. See ``change_machines`` for the errors.
    """
    selection = AssessRequest(
        scope=request.scope, inventory=request.inventory, only_machines=request.only_machines, refresh=False
    )
    with open_records(caller.records_url) as records, open_ports(selection, caller) as ports:
        machines = select_machines(selection, ports.inventory)
        _require_own_site(machines)
        names = ", ".join(machine.name for machine in machines)
        with record_act(ports.append_audit, find_actor(caller), ports.clock, request.act.value, request.scope, names):
            act = RiskyOption.HOTPATCH if request.act.is_about_hotpatches else RiskyOption.OWN_UPDATERS
            starter = build_starter(find_starter_name(caller), caller.scope)
            now, deployed = ports.clock.now(), ports.read_deployed_policies()
            enforce_act_policy(act, machines, ports.inventory, now, deployed, starter)
            order = Order(
                order_id or build_run_id(now),
                request.act.value,
                find_starter_name(caller),
                SqlMachineOrders(records.database),
                at_once=request.at_once,
            )
            return _carry_out(request, machines, ports, order, records)


def _require_own_site(machines: Sequence[Machine]) -> None:
    others = sorted({machine.site for machine in machines} - {find_site()})
    if others:
        hint = f"Select machines of one site. Those of {others[0]} are changed by its own worker."
        raise RequestError(f"this worker reaches the site {find_site()}, and not {', '.join(others)}", hint=hint)


def _carry_out(
    request: OrderRequest, machines: Sequence[Machine], ports: Ports, order: Order, records: SqlRecords
) -> tuple[ChangeResult, ...]:
    if not request.act.is_about_hotpatches:
        return switch_updaters(UpdaterAction(request.act.verb), machines, ports, order)
    enrolment_order = EnrolmentOrder(
        action=HotpatchAction(request.act.verb),
        order=order,
        store=SqlHotpatchEnrolments(records.database),
        calendar=load_baseline_calendar(),
        provider=find_azure_arc(read_own_secret, ports.clock),
    )
    return change_enrolments(machines, ports, enrolment_order)
