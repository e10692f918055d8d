"""The flow change_machines: orders that people start at the pages or by the API, carried out by a worker."""

from collections.abc import Sequence

from prefect.runtime import flow_run

from flows.composition import open_ports
from flows.engine.run_info import select_machines
from flows.order_acts import carry_out_act
from flows.orders.carrying_out import ChangeResult
from flows.ports.audit import record_act
from flows.ports.caller import Caller, current_caller, find_actor
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.request.order_request import OrderRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import Machine
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.states import ChangeState
from tasks.records.setup import open_records
from tasks.reports.formatting import format_count


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
            return carry_out_act(
                request.act, machines, ports, records, caller, order_id=order_id, at_once=request.at_once
            )


def _require_own_site(machines: Sequence[Machine]) -> None:
    others = sorted({machine.site for machine in machines} - {find_site()})
    if others:
        hint = f"Select machines of one site. Those of {others[0]} are changed by its own worker."
        raise RequestError(f"this worker reaches the site {find_site()}, and not {', '.join(others)}", hint=hint)
