"""Hotpatches and live patches of the fleet: the list, its filters, and changes for a selection."""

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.order_acts import start_order
from fleetpatch.acts.run_acts import build_key
from fleetpatch.machines.hotpatch_list import list_hotpatch_machines
from fleetpatch.machines.machine_list import KINDS, count_facets, filter_machines, sort_machines
from fleetpatch.pages.machines import Filters
from fleetpatch.pages.paging import build_page
from fleetpatch.pages.selection import Form, list_filter_fields, read_selection, read_value
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from flows.request.order_request import OrderAct, OrderRequest
from tasks.domain.errors import RequestError
from tasks.rules.hotpatch import BaselineCalendar, describe_releases

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]

ACT_TITLES: Final = {
    OrderAct.ENROLL: "Enroll",
    OrderAct.ENABLE: "Enable",
    OrderAct.DISABLE: "Disable",
    OrderAct.UNENROLL: "Unenroll",
    OrderAct.UPDATERS_ON: "Switch the own updater on",
    OrderAct.UPDATERS_OFF: "Switch the own updater off",
}
EFFECTS: Final = {
    OrderAct.ENROLL: "Each is enrolled by the means of its vendor. Some need a restart afterwards, which is not done.",
    OrderAct.ENABLE: "Enrolled machines receive hotpatches or live patches again.",
    OrderAct.DISABLE: "They stay enrolled, and receive no hotpatches or live patches.",
    OrderAct.UNENROLL: "The enrolment ends. Windows gets hotpatches again only from the next baseline on.",
    OrderAct.UPDATERS_ON: "Each updates itself from now on, as its own settings say. Nothing is installed for that.",
    OrderAct.UPDATERS_OFF: "None updates itself any more. An update that is being installed now is not stopped.",
}
HOTPATCH_ACTS: Final = (OrderAct.ENROLL, OrderAct.ENABLE, OrderAct.DISABLE, OrderAct.UNENROLL)
FILTER_TITLES: Final = {"hotpatch": "Hotpatch", "kind": "Kind", "os": "System", "owner": "Patched by"}


@router.get("/hotpatch")
def show_hotpatches(request: Request, filters: Filters, page: int = 1) -> HTMLResponse:
    """Show the enrolment of machines, the next updates, and which machines they reboot."""
    context = get_context(request)
    snapshot, today = context.fleet.read(), context.clock.now().date()
    machines = sort_machines(filter_machines(snapshot, filters), "name")
    calendar = snapshot.baselines or BaselineCalendar()
    return render_page(
        request,
        "hotpatch.html.j2",
        snapshot=snapshot,
        page=build_page(request, list_hotpatch_machines(snapshot, machines, today), page),
        filters=filters,
        facets=count_facets(snapshot, filters),
        filter_titles=FILTER_TITLES,
        value_titles={"kind": KINDS},
        hidden=list_filter_fields(request),
        acts=[(act.value, ACT_TITLES[act]) for act in HOTPATCH_ACTS],
        releases=describe_releases(calendar, today),
        stale=calendar.describe_age(today),
    )


@router.post("/hotpatch")
def change_hotpatches(request: Request, values: Form, _: Runner) -> Response:
    """Say what a change does to the selected machines, and after a confirmation order it."""
    return ask_or_start_order(request, values, "/hotpatch")


def ask_or_start_order(request: Request, values: dict[str, list[str]], back: str) -> Response:
    """Show the last question of an order; with ``confirmed``, start it.

    Raises:
        RequestError: the act is unknown, or nothing that could be changed is selected.
        FleetpatchError: it could not be started.
    """
    try:
        act = OrderAct(read_value(values, "act"))
    except ValueError:
        raise RequestError("the act is unknown", hint="Choose one in the list.") from None
    names = read_selection(values, get_context(request).fleet.read())
    if read_value(values, "confirmed"):
        wanted = OrderRequest(scope="*", act=act, only_machines=list(names))
        return RedirectResponse(f"/starting/{start_order(request, wanted, read_value(values, 'once'))}", 303)
    return render_page(
        request,
        "order_confirm.html.j2",
        title=ACT_TITLES[act],
        effect=EFFECTS[act],
        names=names,
        fields={"act": act.value, "once": build_key()},
        action=back,
        back=back,
        diff="",
        refused=(),
    )
