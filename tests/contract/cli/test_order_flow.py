"""The body of the flow change_machines: who ordered what, on which machines, and what became of it. No server."""

from contextlib import nullcontext
from typing import Any

import pytest

import flows.order_flow
from flows.order_flow import execute_order
from flows.ports.caller import Caller
from flows.request.order_request import OrderAct, OrderRequest
from tasks.domain.errors import PolicyRefused, RequestError
from tasks.domain.states import ChangeState, HotpatchStatus
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Stage
from tests.contract.cli.test_hotpatch import Enrolled, pro
from tests.contract.cli.test_own_updaters import Updating

BOB = {"name": "bob", "source": "pages"}


@pytest.fixture(autouse=True)
def _simulated_ports(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.order_flow, "open_ports", lambda _request, caller: nullcontext(stage.ports(caller)))


def order(stage: Stage, act: OrderAct, *names: str, **caller: Any) -> Any:
    request = OrderRequest(scope="*", act=act, only_machines=list(names))
    return execute_order(request, Caller(records_url=stage.url, **{**BOB, **caller}), "flow-run-1")


def test_machines_of_the_selection_are_changed_and_the_rest_is_left(stage: Stage) -> None:
    web, other = Enrolled(stage, "web", pro()), Enrolled(stage, "other", pro())
    (result,) = order(stage, OrderAct.ENROLL, "web")
    assert (result.state, result.status) == (ChangeState.CHANGED, HotpatchStatus.ENABLED)
    assert (len(web.jobs), other.jobs) == (1, [])
    with open_records(stage.url) as records:
        (row,) = SqlMachineOrders(records.database).read_order("flow-run-1")
    assert (row.machine, row.act, row.by, row.result) == ("web", "hotpatch enroll", "bob", ChangeState.CHANGED)
    assert row.ended_at is not None
    (again,) = order(stage, OrderAct.ENROLL, "web")  # Prefect starts the flow run again
    assert (again.state, len(web.jobs)) == (ChangeState.UNCHANGED, 1)


def test_updaters_are_switched_by_the_same_flow(stage: Stage) -> None:
    web = Updating(stage)
    (result,) = order(stage, OrderAct.UPDATERS_OFF, "web")
    assert (result.state, web.is_on) == (ChangeState.CHANGED, False)


def test_the_scope_of_the_role_holds_where_the_work_is_done(stage: Stage) -> None:
    """Attacker: who may start flow runs in Prefect. Way: a flow run beside the pages. Must hold: the role's scope."""
    web = Enrolled(stage, "web", pro())
    with pytest.raises(PolicyRefused, match="limited to env=test"):
        order(stage, OrderAct.ENROLL, "web", scope="env=test")
    assert web.jobs == []


def test_machines_of_another_site_are_not_touched(stage: Stage) -> None:
    web = Enrolled(stage, "web", pro(), site="hamburg")
    with pytest.raises(RequestError, match="reaches the site default, and not hamburg"):
        order(stage, OrderAct.ENROLL, "web")
    assert web.machine.calls == []
