"""Runs that people start, approve and cancel in the pages: a real Prefect server and its runner, simulated machines."""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from fleetpatch.access.roles import Role
from fleetpatch.acts import flow_runs, run_acts
from flows.prefect_runtime.flow_run_origin import REQUEST_KEY_PREFIX
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.approvals import SqlApprovals
from tasks.records.queries.history import History
from tasks.records.requested_runs import RequestedRun, SqlRequestedRuns, compute_request_digest
from tests.flows.served_on_fakes import NAMES, PLACE, fleet, machines_at
from tests.support.fleet import SimFleet
from tests.support.patience import wait_until
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

until = functools.partial(wait_until, seconds=240.0)
UPDATE_SECONDS = 6.0
BOB = person("bob", Role.VIEW, Role.RUN, Role.APPROVE)
ANNA = person("anna", Role.VIEW, Role.APPROVE)


@dataclass
class Place:
    """A server, what it runs, and the pages."""

    home: Path
    server: PrefectServer
    client: SyncPrefectClient
    fleet: SimFleet
    site: Site
    runner: Any

    def post(self, path: str, who: dict[str, str] = BOB, **form: Any) -> httpx.Response:
        return self.site.client.post(path, data=form, headers=who)

    def begin(self, answer: httpx.Response) -> RunInfo:
        """Follow the page of a start until it leads to the run."""
        assert answer.status_code == 303, answer.text
        waiting = answer.headers["location"]
        assert waiting.startswith("/starting/")
        found: list[str] = []

        def look() -> bool:
            page = self.site.get(waiting)
            assert page.status_code in {200, 303}, page.text
            found[:] = [page.headers.get("location", "")]
            return bool(found[0])

        until(look, "the run")
        return self.find(found[0].removeprefix("/runs/"))

    def find(self, run_id: str) -> RunInfo:
        return History(self.site.records).find_run(run_id)

    def end(self, run_id: str) -> RunInfo:
        until(lambda: self.find(run_id).state not in UNFINISHED_RUN_STATES, "the end of the run")
        return self.find(run_id)

    def flow_runs(self) -> list[FlowRun]:
        return [run for run in self.client.read_flow_runs() if flow_runs.PAGES_TAG in run.tags]


def form(key: str, **changes: Any) -> dict[str, Any]:
    """A form that patches one machine after the other."""
    usual = {
        "once": key,
        "sent": "1",
        "scope": "*",
        "window.minutes": "60",
        "waves.percent": "30",
        "waves.at_once": "1",
    }
    kinds = ["Critical", "Security", "Other"]
    return {**usual, "updates.classifications": kinds, **changes}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("web-acts")
    made = fleet(UPDATE_SECONDS)
    (home / "request.json").write_text(json.dumps(SimFleet().request(minutes=60).model_dump(mode="json")))
    machines = "".join(f"  - {{name: {name}, address: 192.0.2.1}}\n" for name in NAMES)
    (home / "fleet.yaml").write_text(f"defaults: {{user: ops}}\nmachines:\n{machines}")
    with (
        pytest.MonkeyPatch.context() as patch,
        prefect_server(home) as server,
        machines_at(home / "machines", made),
        server.client() as client,
        serve_site(home) as site,
    ):
        admit_people(patch)
        # The settings of this process are another server's; a thread of the pages would see those.
        patch.setattr(flow_runs, "open_server_client", lambda retries=0: server.client())
        around = {
            PLACE: str(home / "machines"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
            "FLEETPATCH_RECORDS_URL": f"sqlite:///{home / 'records.db'}",
            "XDG_DATA_HOME": str(home / "data"),
        }
        runner = server.fork("tests.flows.served_on_fakes", log=home / "serve.log", **around)
        until(lambda: _offers(client, "assess-fleet/on-demand"), "the deployments")
        yield Place(home, server, client, made, site, runner)


def _offers(client: SyncPrefectClient, name: str) -> bool:
    try:
        return bool(client.read_deployment_by_name(name))
    except ObjectNotFound:
        return False


def test_what_people_do_in_the_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_nobody_starts_other_parameters_under_a_name(place)
    _check_a_death_before_the_answer(place, monkeypatch)
    _check_an_own_plan_is_not_approved_and_a_run_is_cancelled(place)
    _check_a_cancellation_before_the_start(place)


def _check_nobody_starts_other_parameters_under_a_name(place: Place) -> None:
    """Attacker: who may use Prefect. Way: a flow run with other parameters under the key of what anna asked for."""
    key, asked = f"{REQUEST_KEY_PREFIX}anna", compute_request_digest({"request": {"scope": "name=first"}})
    requested = SqlRequestedRuns(place.site.records.database)
    requested.save(RequestedRun(key, "assess-fleet", asked, "anna", datetime.now(UTC)))
    deployment = place.client.read_deployment_by_name("assess-fleet/on-demand")
    forged = place.client.create_flow_run_from_deployment(
        deployment.id, parameters={"request": {"scope": "*"}}, idempotency_key=key
    )

    def look() -> bool:
        state = place.client.read_flow_run(forged.id).state
        assert state is not None
        assert not state.is_completed()
        return state.is_failed() and "nobody asked for flow run" in (state.message or "")

    until(look, "the refusal")
    assert "anna" not in {run.started_by for run in History(place.site.records).read_runs(limit=20)}


def _check_a_death_before_the_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages die when Prefect has the run and the browser has no answer: the form, sent again, starts no other."""
    known = len(place.flow_runs())

    def start_and_die(*words: Any, **more: Any) -> tuple[str, bool]:
        flow_runs.start_flow_run(*words, **more)
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(run_acts, "start_flow_run", start_and_die)
        assert place.post("/plan", **form("again")).status_code == 500
    with serve_site(place.home) as other:
        answer = other.client.post("/plan", data=form("again"), headers=BOB)
    assert len(place.flow_runs()) == known + 1
    planned = place.begin(answer)
    assert (planned.kind, planned.started_by) == ("plan", "bob")
    place.end(planned.id)
    assert all(not each.begun() for each in place.fleet.machines.values())


def _check_an_own_plan_is_not_approved_and_a_run_is_cancelled(place: Place) -> None:
    asked = form("patch", **{"approval.required": "true", "approval.not_by_starter": "true", "confirmed": "1"})
    run = place.begin(place.post("/patch", **asked))
    approvals = SqlApprovals(place.site.records.database)
    until(lambda: approvals.find_approval(run.id), "the question")
    approval = approvals.find_approval(run.id)
    assert approval is not None
    assert place.find(run.id).started_by == "bob"
    own = place.post(f"/approvals/{run.id}/approve", BOB, plan=approval.digest)
    assert own.status_code == 409, own.text
    assert "bob started it and may not approve it" in own.text
    assert place.post(f"/approvals/{run.id}/approve", ANNA, plan=approval.digest).status_code == 303

    until(lambda: any(each.begun() for each in place.fleet.machines.values()), "an installation")
    assert "Nothing is killed" in place.site.get(f"/runs/{run.id}/cancel", headers=BOB).text
    assert place.post(f"/runs/{run.id}/cancel", reason="wrong night").status_code == 303
    over = place.end(run.id)
    report = History(place.site.records).read_report(run.id)

    assert over.started_by == "bob"
    told = " ".join([over.message, *(each.reason for each in report.outcomes)])
    assert "bob" in told
    assert "wrong night" in told
    assert [each for each in report.outcomes if each.state.value == "NotStarted"]


def _check_a_cancellation_before_the_start(place: Place) -> None:
    place.runner.terminate()
    place.runner.wait()
    answer = place.post("/assess", scope="*", once="waits")
    waiting = answer.headers["location"]
    assert "It waits for a worker." in place.site.get(waiting, headers=BOB).text
    assert place.post(f"{waiting}/cancel").status_code == 303

    shown = place.site.get(waiting, headers=BOB).text
    assert "Cancelled" in shown
    assert "nothing was changed" in shown
