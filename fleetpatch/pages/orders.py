"""Orders to machines: the newest ones, and what became of one on each of its machines."""

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse

from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.states import ChangeState
from tasks.records.machine_orders import SqlMachineOrders

router = build_viewers_router()


@router.get("/orders")
def list_orders(request: Request, machine: str = "") -> HTMLResponse:
    """Show the newest orders, or those to a machine."""
    rows = SqlMachineOrders(get_context(request).records.database).read_newest(machine=machine)
    return render_page(request, "orders.html.j2", rows=rows, machine=machine)


@router.get("/orders/{order_id}")
def show_order(request: Request, order_id: str) -> HTMLResponse:
    """Show an order. While a machine is being changed, the page asks again."""
    rows = SqlMachineOrders(get_context(request).records.database).read_order(order_id)
    if not rows:
        raise HTTPException(404, "There is no such order, or it has not begun.")
    is_going_on = any(row.result is ChangeState.BEGUN for row in rows)
    return render_page(request, "order.html.j2", order_id=order_id, rows=rows, is_going_on=is_going_on)
