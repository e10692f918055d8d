"""Starting, cancelling and resuming runs through the pages. Prefect is a list here; tests/flows has a real one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from fleetpatch.machines import fleet_reader
from tasks.domain.errors import CannotRun, RequestError
from tasks.domain.states import OperationState
from tests.support.builders import make_failed_assessment, make_run
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

INVENTORY = """
defaults:
  user: ops
  environment: prod
machines:
  - {name: web-1, address: 192.0.2.1}
  - {name: web-2, address: 192.0.2.2}
  - {name: db-1, address: 192.0.2.3, owner: manual}
"""
BOB = person("bob", Role.VIEW, Role.RUN)


@dataclass
class Started:
    """What Prefect was asked to start."""

    flow: str
    fleet: str
    parameters: dict[str, Any]
    key: str
    site: str = "default"


@dataclass
class Prefect:
    """Remembers what it is asked to start; a key twice is one flow run."""

    started: list[Started] = field(default_factory=list)
    over: set[str] = field(default_factory=set)

    def start(
        self, flow: str, fleet: str, parameters: dict[str, Any], *, key: str, name: str, site: str
    ) -> tuple[str, bool]:
        assert name
        if key not in [each.key for each in self.started]:
            self.started.append(Started(flow, fleet, parameters, key, site))
        number = [each.key for each in self.started].index(key) + 1
        flow_run_id = f"00000000-0000-0000-0000-{number:012}"
        return flow_run_id, flow_run_id in self.over


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    admit_people(monkeypatch)
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    with serve_site(tmp_path) as made:
        yield made


def values(**changes: Any) -> dict[str, Any]:
    """What a browser sends of the form as it opens, with the scope filled in."""
    form: dict[str, Any] = {
        "once": "k1",
        "sent": "1",
        "scope": "name=web-*",
        "window.minutes": "120",
        "reboot": "IfRequired",
        "window.zone": "Europe/Berlin",
        "updates.classifications": ["Critical", "Security"],
    }
    return {**form, **{name.replace("__", "."): value for name, value in changes.items()}}


def test_a_plan_starts_at_once_and_a_double_click_starts_one(site: Site, prefect: Prefect) -> None:
    answers = [site.client.post("/plan", data=values(), headers=BOB) for _ in range(2)]

    assert [each.status_code for each in answers] == [303, 303]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    (made,) = prefect.started
    assert made.flow == "patch-fleet"
    assert made.parameters["request"]["dry_run"] is True
    assert made.parameters["request"]["window"] == {"zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("name=web-*", "default"), ("shop-1", "hamburg"), ("web-1|shop-1", "default")],
)
def test_what_is_started_goes_to_the_site_of_its_machines(
    site: Site, prefect: Prefect, tmp_path: Path, scope: str, expected: str
) -> None:
    (tmp_path / "fleet.yaml").write_text(f"{INVENTORY}  - {{name: shop-1, address: 192.0.2.1, site: hamburg}}\n")

    answer = site.client.post("/plan", data=values(scope=scope), headers=BOB)

    assert answer.status_code == 303, answer.text
    assert [made.site for made in prefect.started] == [expected]


def test_machines_of_two_sites_are_assessed_together(site: Site, prefect: Prefect, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(f"{INVENTORY}  - {{name: shop-1, address: 192.0.2.1, site: hamburg}}\n")

    answer = site.client.post("/assess", data=values(scope="web-1|shop-1"), headers=BOB)

    assert answer.status_code == 303, answer.text
    assert [(made.flow, made.site) for made in prefect.started] == [("assess-fleet", "default")]


def test_patch_now_says_first_what_will_happen(site: Site, prefect: Prefect) -> None:
    asked = site.client.post("/patch", data=values(reboot="Never", window__minutes="30"), headers=BOB)

    assert asked.status_code == 200
    assert prefect.started == []
    assert "Patch 2 machines now?" in asked.text
    assert "No machine reboots." in asked.text
    answer = site.client.post("/patch", data=read_hidden(asked.text), headers=BOB)

    assert answer.status_code == 303, answer.text
    wanted = prefect.started[0].parameters["request"]
    assert (wanted["reboot"], wanted["window"]["minutes"], wanted["scope"]) == ("Never", 30.0, "name=web-*")
    assert "dry_run" not in wanted


def test_a_window_that_opens_later_is_not_called_now(site: Site, prefect: Prefect) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d} 22:00"
    asked = site.client.post("/patch", data=values(window__start=tomorrow), headers=BOB)

    assert "Patch 2 machines when its window opens?" in asked.text
    assert "it begins when its window opens" in asked.text
    assert "now?" not in asked.text
    assert "Patch now" not in asked.text
    assert site.client.post("/patch", data=read_hidden(asked.text), headers=BOB).status_code == 303


def read_hidden(page: str) -> dict[str, list[str]]:
    """Return what the confirmation sends."""
    form: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page):
        form.setdefault(name, []).append(value)
    return form


def test_a_confirmation_starts_only_what_it_shows(
    site: Site, prefect: Prefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has added a machine to the inventory since, and nobody has looked at a page."""
    monkeypatch.setattr(fleet_reader, "LOOK_SECONDS", 0.0)
    asked = site.client.post("/patch", data=values(), headers=BOB)
    added = "  - {name: web-3, address: 192.0.2.4}\n  - {name: db-1,"
    (tmp_path / "fleet.yaml").write_text(INVENTORY.replace("  - {name: db-1,", added))
    answer = site.client.post("/patch", data=read_hidden(asked.text), headers=BOB)

    assert answer.status_code == 409
    assert prefect.started == []
    assert "The scope selects other machines now." in answer.text
    assert "Patch 3 machines now?" in answer.text
    assert site.client.post("/patch", data=read_hidden(answer.text), headers=BOB).status_code == 303
    assert len(prefect.started) == 1


def test_a_confirmation_of_yesterday_opens_no_window_of_today(site: Site, prefect: Prefect) -> None:
    asked = site.client.post("/patch", data=values(), headers=BOB)
    form = read_hidden(asked.text)
    shown = datetime.fromisoformat(form["shown_end"][0])
    answer = site.client.post(
        "/patch", data={**form, "shown_end": [(shown - timedelta(days=1)).isoformat()]}, headers=BOB
    )

    assert answer.status_code == 409
    assert prefect.started == []
    assert "The window would end later now." in answer.text
    assert site.client.post("/patch", data=read_hidden(answer.text), headers=BOB).status_code == 303
    assert "start" not in prefect.started[0].parameters["request"]["window"]


@pytest.mark.parametrize("sent", ["", "soon", "2026-01-01", "9999-12-31T23:59:59+00:00"])
def test_a_damaged_confirmation_is_no_fault(site: Site, prefect: Prefect, sent: str) -> None:
    form = {**read_hidden(site.client.post("/patch", data=values(), headers=BOB).text), "shown_end": [sent]}

    assert site.client.post("/patch", data=form, headers=BOB).status_code in {303, 409}


def test_the_form_names_machines_that_may_need_attention_first(site: Site) -> None:
    site.records.save(make_failed_assessment(machine="web-2"))
    site.records.save(make_failed_assessment(machine="db-1"))  # patched by people: no run would touch it

    page = site.client.get("/patch", params={"scope": "*"}, headers=BOB).text

    told = re.findall(r'<a href="[^"]+">(\S+)</a> may need attention first: (.+?)</p>', page)
    assert told == [("web-2", "the last try failed: no answer at 192.0.2.11:22 within 10 s.")]


def test_the_name_of_who_started_it_is_recorded_before_prefect_knows(site: Site, prefect: Prefect) -> None:
    from tasks.records.requested_runs import SqlRequestedRuns

    site.client.post("/plan", data=values(), headers=BOB)

    (made,) = prefect.started
    stored = SqlRequestedRuns(site.records.database)
    for other in [
        (made.key, "assess-fleet", "a", made.parameters),
        ("fleetpatch/web/forged", "patch-fleet", "a", made.parameters),
        (made.key, "patch-fleet", "a", {**made.parameters, "more": True}),
    ]:
        with pytest.raises(RequestError, match="nobody asked"):
            stored.claim(*other)
    assert stored.claim(made.key, "patch-fleet", "a", made.parameters) == ("bob", "")
    assert stored.claim(made.key, "patch-fleet", "a", made.parameters) == ("bob", "")  # started again
    with pytest.raises(RequestError, match="nobody asked"):  # somebody used the key again
        stored.claim(made.key, "patch-fleet", "b", made.parameters)


def test_one_key_with_other_values_is_refused(site: Site, prefect: Prefect) -> None:
    site.client.post("/plan", data=values(), headers=BOB)
    answer = site.client.post("/plan", data=values(window__minutes="5"), headers=BOB)

    assert answer.status_code == 409
    assert "was sent before, with other values" in answer.text
    assert len(prefect.started) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scope": ""}, "This is needed."),
        ({"scope": "name=nobody-*"}, "nobody"),
        ({"window__minutes": "0"}, "It must be more than 0."),
        ({"window__minutes": "many"}, "This is no number."),
        ({"window__zone": "Europe/Berlim"}, "Europe/Berlim"),
        ({"window__start": "tomorrow"}, "Write it as 2026-11-30 22:00."),
        ({"window__start": "2020-01-01 22:00"}, "over"),
        ({"waves__at_once": "501"}, "It must be 500 or less."),
        ({"reboot": "Sometimes"}, "This is none of the choices."),
    ],
)
def test_errors_stand_at_their_fields_and_nothing_typed_is_lost(
    site: Site, prefect: Prefect, changes: dict[str, str], said: str
) -> None:
    answer = site.client.post("/patch", data=values(updates__exclude="linux-*", confirmed="1", **changes), headers=BOB)

    assert answer.status_code == 400
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert ">linux-*</textarea>" in answer.text
    for value in changes.values():
        assert not value or value == "Sometimes" or f'value="{value}"' in answer.text
    assert prefect.started == []


def test_the_check_while_typing_shows_the_machines(site: Site) -> None:
    found = site.get("/patch/check", params={"scope": "*", "window.zone": "Nowhere/Here"}).text

    assert "3 machines" in found
    assert 'href="/machines/web-1"' in found
    assert "1 machine is patched by others" in found
    assert "Nowhere/Here" in found


def test_the_url_fills_the_form_and_hostile_values_stay_text(site: Site) -> None:
    hostile = '"><script>alert(1)</script>'
    found = site.get("/patch", params={"scope": hostile, "only_machines": ["web-1", "web-2"]}).text

    assert "<script>alert" not in found
    assert ">web-1\nweb-2</textarea>" in found


@pytest.mark.parametrize(
    "path", ["/plan", "/patch", "/assess", "/runs/x/cancel", "/runs/x/resume", "/runs/x/undo", "/starting/x/cancel"]
)
@pytest.mark.parametrize("roles", [(Role.VIEW,), (Role.VIEW, Role.APPROVE)])
def test_every_act_needs_its_role(site: Site, prefect: Prefect, path: str, roles: tuple[Role, ...]) -> None:
    answer = site.client.post(path, data=values(confirmed="1"), headers=person("eve", *roles))

    assert answer.status_code == 403
    assert prefect.started == []


def test_without_prefect_nothing_is_begun_and_the_page_says_what_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> tuple[str, bool]:
        raise CannotRun("PREFECT_API_URL is not set: the server is unknown", hint="Start one.")

    monkeypatch.setattr(run_acts, "start_flow_run", refuse)
    answer = site.client.post("/assess", data={"scope": "*", "once": "k"}, headers=BOB)

    assert answer.status_code == 503
    assert "PREFECT_API_URL is not set" in answer.text


def test_an_assessment_of_some_machines(site: Site, prefect: Prefect) -> None:
    answer = site.client.post("/assess", data={"scope": "*", "machine": ["web-1"], "once": "k"}, headers=BOB)

    assert answer.status_code == 303
    assert prefect.started[0].flow == "assess-fleet"
    assert prefect.started[0].parameters["request"]["only_machines"] == ["web-1"]


def test_a_form_without_its_key_starts_nothing(site: Site, prefect: Prefect) -> None:
    answer = site.client.post("/plan", data=values(once=""), headers=BOB)

    assert answer.status_code == 400
    assert prefect.started == []


def test_without_a_token_the_api_stays_closed(tmp_path: Path) -> None:
    with serve_site(tmp_path) as site:
        answer = site.get("/api/v1/overview")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["title"] == "Unauthorized"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"kind": "assess"}, "Run r-1 only looks at machines."),
        ({"state": OperationState.UNKNOWN}, "Run r-1 is abandoned: no process executes it."),
        ({"state": OperationState.SUCCEEDED}, "Run r-1 is over: Succeeded."),
    ],
)
def test_the_question_before_a_cancellation_says_what_the_cancellation_would(
    site: Site, run: dict[str, Any], said: str
) -> None:
    site.records.save(make_run(**{"id": "r-1", "state": OperationState.IN_PROGRESS, "ended_at": None, **run}))

    asked = site.get("/runs/r-1/cancel", headers=BOB)
    answer = site.client.post("/runs/r-1/cancel", headers=BOB)

    assert (asked.status_code, answer.status_code) == (200, 409)
    for page in (asked.text, answer.text):
        assert said in page
        assert "to resume" not in page
        assert "Nothing is killed" not in page
        assert 'id="reason"' not in page
    assert "/runs/r-1/cancel" not in site.get("/runs/r-1", headers=BOB).text


def test_a_run_is_cancelled_once_and_the_next_person_is_told_by_whom(site: Site) -> None:
    site.records.save(make_run(id="r-1", state=OperationState.IN_PROGRESS, ended_at=None))

    assert 'id="reason"' in site.get("/runs/r-1/cancel", headers=BOB).text
    assert site.client.post("/runs/r-1/cancel", data={"reason": "wrong day"}, headers=BOB).status_code == 303
    asked = site.get("/runs/r-1/cancel", headers=BOB).text
    assert "Run r-1 was cancelled already by bob." in asked
    assert "wrong day" in asked
    assert 'id="reason"' not in asked
