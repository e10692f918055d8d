"""Prefect's answer to the start of a run is lost, or says nothing: the page says so, and no second run is started."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from fleetpatch.acts import flow_runs
from fleetpatch.acts.flow_runs import ON_DEMAND
from tasks.domain.errors import CannotRun
from tasks.records.audit.log import SqlAuditLog
from tests.contract.web.test_acts import BOB, INVENTORY, values
from tests.support.web_people import admit_people
from tests.support.web_site import Site, serve_site


def fail_with_status(status: int) -> Exception:
    answer = httpx.Response(status, request=httpx.Request("POST", "http://prefect/api"))
    return PrefectHTTPStatusError.from_httpx_error(httpx.HTTPStatusError("", request=answer.request, response=answer))


@dataclass
class LossyPrefect:
    """A server that starts flow runs. ``lost``: what the client then gets instead of its answers.

    ``away``: the server can't be reached at all.
    """

    lost: Exception | None = None
    away: CannotRun | None = None
    started: dict[str, UUID] = field(default_factory=dict)

    @contextmanager
    def open(self, retries: int = 0) -> Iterator["LossyPrefect"]:
        if self.away is not None:
            raise self.away
        yield self

    def read_deployment_by_name(self, name: str) -> SimpleNamespace:
        assert name.endswith(f"/{ON_DEMAND}")
        return SimpleNamespace(id=UUID(int=1), name=ON_DEMAND, tags=[])

    def create_flow_run_from_deployment(self, _: UUID, *, idempotency_key: str, **__: Any) -> SimpleNamespace:
        made = self.started.setdefault(idempotency_key, uuid4())
        if self.lost is not None:
            raise self.lost
        return SimpleNamespace(id=made, state=None)


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> LossyPrefect:
    made = LossyPrefect()
    monkeypatch.setattr(flow_runs, "open_server_client", made.open)
    return made


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    admit_people(monkeypatch)
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    with serve_site(tmp_path) as made:
        yield made


def read_key(page: str) -> str:
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found is not None
    return found[1]


LOST = [httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut"), fail_with_status(500), fail_with_status(503)]


@pytest.mark.parametrize("lost", LOST, ids=["late", "cut", "500", "503"])
def test_the_same_form_sent_again_starts_no_second_run(site: Site, prefect: LossyPrefect, lost: Exception) -> None:
    prefect.lost = lost
    answer = site.client.post("/patch", data=values(confirmed="1", updates__exclude="linux-*"), headers=BOB)

    assert answer.status_code == 503
    assert "Prefect has not said whether the run is started" in answer.text
    assert "Nothing was started" not in answer.text
    assert ">linux-*</textarea>" in answer.text
    entry = SqlAuditLog(site.records.database).read(1)[0]
    assert "has not said whether" in entry.message
    prefect.lost = None
    sent = values(confirmed="1", updates__exclude="linux-*", once=read_key(answer.text))
    again = site.client.post("/patch", data=sent, headers=BOB)
    (made,) = prefect.started.values()
    assert again.headers["location"] == f"/starting/{made}"


def test_a_program_is_told_too(site: Site, prefect: LossyPrefect) -> None:
    prefect.lost = httpx.ReadTimeout("late")
    answer = site.client.post("/assess", data={"scope": "*", "once": "k"}, headers=BOB)

    assert answer.status_code == 503
    assert "has not said whether the run is started" in answer.text
    assert "starts no second run" in answer.text


def test_a_refused_start_is_no_start_and_the_form_can_be_corrected(site: Site, prefect: LossyPrefect) -> None:
    prefect.away = CannotRun("the Prefect server does not answer", hint="Start it.")
    answer = site.client.post("/plan", data=values(updates__exclude="linux-*"), headers=BOB)

    assert answer.status_code == 503
    assert "Nothing was started." in answer.text
    assert prefect.away.hint in answer.text
    assert ">linux-*</textarea>" in answer.text
    prefect.away = None
    corrected = values(window__minutes="30", once=read_key(answer.text))
    assert site.client.post("/plan", data=corrected, headers=BOB).status_code == 303
    assert len(prefect.started) == 1


def test_a_changed_form_after_a_start_is_shown_again_and_starts_another_run(site: Site, prefect: LossyPrefect) -> None:
    """Somebody looks at a plan, goes back, changes a value, and plans again."""
    assert site.client.post("/plan", data=values(), headers=BOB).status_code == 303
    changed = site.client.post("/plan", data=values(window__minutes="30"), headers=BOB)

    assert changed.status_code == 409
    assert 'value="30"' in changed.text
    assert "Sent again, this form starts another one." in changed.text
    again = site.client.post("/plan", data=values(window__minutes="30", once=read_key(changed.text)), headers=BOB)
    assert again.status_code == 303
    assert len(prefect.started) == 2
