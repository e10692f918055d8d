"""Prefect's API returns at most 200 objects at a time: nothing is counted or decided by the first page."""

import ast
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Running

from fleetpatch.acts import flow_runs
from flows.prefect_api import deployment_changes
from flows.prefect_api.tags import build_fleet_tag
from flows.prefect_runtime import delivery, flow_run_states
from flows.prefect_runtime.delivery import MANY_TASK_RUNS, TaskRunDelivery
from tasks.domain.errors import CannotRun
from tests.support.fake_clock import FakeClock

ROOT = Path(__file__).parents[2]
PAGE = 200


class PagedServer:
    """Answers as Prefect's client does: never more than one page.

    Args:
        objects: all objects of every kind.
    """

    def __init__(self, objects: Sequence[Any]) -> None:
        self.objects = objects
        self.ended: list[UUID] = []
        self.is_silent_after: int | None = None
        self.questions = 0

    @contextmanager
    def open(self) -> Iterator[Any]:
        yield self

    def read_deployments(self, *, limit: int = PAGE, offset: int = 0, **_: Any) -> list[Any]:
        return list(self.objects[offset : offset + min(limit, PAGE)])

    read_flow_runs = read_deployments

    def read_deployment_by_name(self, name: str) -> Any:
        raise ObjectNotFound(KeyError(name))

    def read_task_runs(self, *, task_run_filter: Any = None, limit: int = PAGE, offset: int = 0, **_: Any) -> list[Any]:
        self.questions += 1
        if self.is_silent_after is not None and self.questions > self.is_silent_after:
            raise httpx.ConnectError("gone")
        found = self.objects if task_run_filter is None else self.find_ended(set(task_run_filter.id.any_))
        return list(found[offset : offset + min(limit, PAGE)])

    def request(self, method: str, path: str, *, json: dict[str, Any]) -> httpx.Response:
        """Answer how many task runs a filter finds, as the server does."""
        assert (method, path) == ("POST", "/task_runs/count")
        self.questions += 1
        if self.is_silent_after is not None and self.questions > self.is_silent_after:
            raise httpx.ConnectError("gone")
        assert set(json["task_runs"]["state"]["type"]["any_"]) == {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        return httpx.Response(200, json=len(self.find_ended({UUID(each) for each in json["task_runs"]["id"]["any_"]})))

    def find_ended(self, ids: Collection[UUID]) -> list[Any]:
        return [each for each in self.objects if each.id in ids and each.state.is_final()]

    def set_task_run_state(self, task_run_id: UUID, *_: Any, **__: Any) -> None:
        self.ended.append(task_run_id)


def make_task_runs(ended: int, running: int) -> list[Any]:
    return [
        SimpleNamespace(id=uuid4(), state=Completed() if number < ended else Running(), start_time=None, created=None)
        for number in range(ended + running)
    ]


def deliver(server: PagedServer, shown: int, unshown: int) -> TaskRunDelivery:
    """Return the delivery of steps; the server has all task runs that it has, and lacks the rest of those shown."""
    ids = [each.id for each in server.objects]
    ids += [uuid4() for _ in range(shown - len(ids))]
    delivery = TaskRunDelivery()
    for number, each in enumerate(ids):
        delivery.shown[each] = f"install machine-{number}"
    for number in range(unshown):
        delivery.unshown.append(f"validate machine-{number}")
    return delivery


@pytest.mark.parametrize(
    ("there", "shown", "unshown", "told"),
    [
        (2_500, 11_549, 2_451, "11\u202f500 task runs ("),  # the client noticed 2,451, the server lost the others
        (300, 1_200, 0, "900 task runs (install machine-300, install machine-301, "),  # nobody noticed any
        (1_200, 1_200, 0, ""),
        (1_200, 1_200, 3, "3 task runs (validate machine-0, validate machine-1, validate machine-2)"),
    ],
)
def test_task_runs_that_only_the_server_lost_are_counted(
    monkeypatch: pytest.MonkeyPatch, there: int, shown: int, unshown: int, told: str
) -> None:
    server = PagedServer(make_task_runs(there, 0))
    monkeypatch.setattr(delivery, "open_fail_fast_client", server.open)

    said = deliver(server, shown, unshown).describe_missing(time.monotonic(), is_doubtful=False)

    assert said.startswith(told)
    assert bool(said) is bool(told)


def test_task_runs_that_have_no_end_in_prefect_count_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = PagedServer(make_task_runs(ended=700, running=500))
    monkeypatch.setattr(delivery, "open_fail_fast_client", server.open)

    said = deliver(server, 1_200, 0).describe_missing(time.monotonic(), is_doubtful=False)

    assert said.startswith("500 task runs (install machine-700, install machine-701, ")
    assert said.endswith(" install machine-709, …)")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (0, "up to 602 task runs (validate machine-0, validate machine-1, …)"),
        (1, "102 task runs (validate machine-0, validate machine-1, …)"),  # it counted, and then gave no names
    ],
)
def test_an_unanswered_question_makes_the_number_an_upper_limit(
    monkeypatch: pytest.MonkeyPatch, answers: int, told: str
) -> None:
    server = PagedServer(make_task_runs(ended=500, running=0))
    server.is_silent_after = answers
    monkeypatch.setattr(delivery, "open_fail_fast_client", server.open)

    assert deliver(server, 600, 2).describe_missing(time.monotonic(), is_doubtful=True) == told


def test_a_small_run_without_trouble_does_not_wait_for_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    server = PagedServer([])
    monkeypatch.setattr(delivery, "open_fail_fast_client", server.open)

    assert deliver(server, MANY_TASK_RUNS - 1, 0).describe_missing(time.monotonic() + 60, is_doubtful=False) == ""
    assert server.questions == 0


def test_all_open_steps_of_a_dead_process_are_marked() -> None:
    server = PagedServer(make_task_runs(ended=150, running=450))
    server.read_flow_runs = lambda **_: []  # type: ignore[method-assign]

    flow_run_states._mark_crashed(cast("Any", server), uuid4(), "its process ended")

    assert len(server.ended) == 450


def test_all_subflows_of_a_run_are_found() -> None:
    server = PagedServer(list(range(450)))

    assert flow_run_states.read_subflow_runs(cast("Any", server), uuid4()) == list(range(450))


def test_a_freeze_in_the_last_of_many_zones_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    without = SimpleNamespace(parameters={"request": {}}, tags=[])
    freeze = {"reason": "late", "start": "2026-12-20T00:00:00+00:00", "end": "2026-12-27T00:00:00+00:00"}
    server = PagedServer([without] * 250 + [SimpleNamespace(parameters={"request": {"freezes": [freeze]}}, tags=[])])
    monkeypatch.setattr(deployment_changes, "open_fail_fast_client", server.open)
    settings = SimpleNamespace(api=SimpleNamespace(url="http://127.0.0.1:1"))
    monkeypatch.setattr(deployment_changes, "get_current_settings", lambda: settings)

    found = deployment_changes.DeclaredFreezes("web", "UTC", pytest.fail, FakeClock())()

    assert [each.reason for each in found] == ["late"]


def test_a_fleet_behind_many_configurations_is_named() -> None:
    many = [SimpleNamespace(name=f"configuration-{number:03}", tags=[]) for number in range(250)]
    server = PagedServer([*many, SimpleNamespace(name="on-demand@north", tags=[build_fleet_tag("north")])])

    with pytest.raises(CannotRun, match="no deployment 'patch-fleet/on-demand@south'") as refused:
        flow_runs._find_deployment(cast("Any", server), "patch-fleet", "south", "default")
    assert "fleet south (FLEETPATCH_FLEET). Prefect has: north." in refused.value.hint


LISTS = {"read_automations", "read_deployments", "read_flow_runs", "read_flows", "read_task_runs", "read_work_pools"}
LISTS |= {"read_work_queues", "read_workers_for_work_pool", "read_logs", "read_artifacts"}


def test_no_list_of_prefect_is_read_without_its_further_pages() -> None:
    """A call without an offset reads one page. It may, if it asks for one object or for the ids of one page."""
    files = [path for folder in ("deployments", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
    single_pages = [
        f"{path.relative_to(ROOT)}: {call.func.attr}"
        for path in files
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LISTS
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "client"
        if (options := {each.arg: ast.unparse(each.value) for each in call.keywords}).get("limit") != "1"
        if "offset" not in options
    ]

    assert single_pages == ["flows/prefect_runtime/delivery.py: read_task_runs"]
