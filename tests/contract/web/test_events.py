"""Scheduled events on their page and in the API: who has approved them, and what people decide about them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.access.roles import Role
from tasks.domain.rows.audit import AuditResult
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.rules.scheduled_events import may_begin
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

BOB = person("bob", Role.VIEW, Role.RUN)
VERA = person("vera", Role.VIEW)
HOSTILE = "<script>alert(1)</script>"
REASON = "not <b>today</b>"


@dataclass
class Stage:
    """Pages over records in which a run has announced a reboot."""

    site: Site
    events: SqlScheduledEvents
    event: ScheduledEvent
    clock: FakeClock

    def read(self) -> ScheduledEvent:
        (event,) = self.events.find("run-1")
        return event

    def list_acts(self) -> list[tuple[str, str, str]]:
        entries = SqlAuditLog(self.site.records.database).read(50)
        return [(entry.act, entry.who, entry.result) for entry in reversed(entries) if entry.act.endswith("event")]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    admit_people(monkeypatch)
    clock = FakeClock()
    (tmp_path / "fleet.yaml").write_text(
        "machines: [{name: web-1, address: 192.0.2.1}, {name: db-1, address: 192.0.2.2}]\n"
    )
    with serve_site(tmp_path, clock=clock) as site:
        site.records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
        events, now = SqlScheduledEvents(site.records.database, clock), clock.now()
        event = ScheduledEvent(
            id="",
            run_id="run-1",
            act="reboot/0",
            event_type=EventType.REBOOT,
            resources=("web-1",),
            audience=("db-1",),
            not_before=now + timedelta(minutes=15),
            expires_at=now + timedelta(hours=4),
            announced_at=now,
            description=HOSTILE,
        )
        yield Stage(site, events, events.announce(event), clock)


def test_the_page_shows_who_has_approved_and_escapes_all_text(stage: Stage) -> None:
    stage.events.approve("db-1", [stage.event.id])

    page = stage.site.get("/events", headers=VERA)

    assert page.status_code == 200
    assert "not yet: web-1" in page.text
    assert ">db-1<br>" in page.text.replace("\n", "")
    assert HOSTILE not in page.text
    assert "Begin now" not in page.text


def test_the_page_of_a_run_shows_what_it_has_told(stage: Stage) -> None:
    stage.events.approve("web-1", [stage.event.id])
    stage.events.change(stage.event.id, EventStatus.CANCELED, HOSTILE)

    text = stage.site.get("/runs/run-1", headers=VERA).text

    section = text[text.index('id="events"') :].partition("</section>")[0]
    assert '<td data-label="Approved by">web-1</td>' in section
    assert "Canceled" in section
    assert "&lt;script&gt;" in section
    assert HOSTILE not in text


@pytest.mark.parametrize("path", ["/events/{id}/approve", "/api/v1/events/{id}/approve"])
def test_a_person_lets_an_event_begin(stage: Stage, path: str) -> None:
    answer = stage.site.client.post(path.format(id=stage.event.id), headers=BOB)

    assert answer.status_code in {200, 303}, answer.text
    assert may_begin(stage.read(), stage.clock.now())
    assert stage.read().approvals[0].by == "bob"
    assert stage.list_acts() == [
        ("approve event", "bob", AuditResult.BEGUN),
        ("approve event", "bob", AuditResult.DONE),
    ]


@pytest.mark.parametrize("path", ["/events/{id}/withdraw", "/api/v1/events/{id}/withdraw"])
def test_a_person_withdraws_an_event(stage: Stage, path: str) -> None:
    is_api = path.startswith("/api/")
    given: dict[str, Any] = {"json": {"reason": REASON}} if is_api else {"data": {"reason": REASON}}

    answer = stage.site.client.post(path.format(id=stage.event.id), headers=BOB, **given)

    assert answer.status_code in {200, 303}, answer.text
    assert (stage.read().status, stage.read().reason) == (EventStatus.CANCELED, f"bob: {REASON}")
    assert REASON not in stage.site.get("/events", headers=VERA).text


@pytest.mark.parametrize("verb", ["approve", "withdraw"])
def test_who_may_only_look_decides_nothing(stage: Stage, verb: str) -> None:
    for path in (f"/events/{stage.event.id}/{verb}", f"/api/v1/events/{stage.event.id}/{verb}"):
        assert stage.site.client.post(path, headers=VERA).status_code == 403

    assert (stage.read().status, stage.read().approvals) == (EventStatus.SCHEDULED, ())


@pytest.mark.parametrize("verb", ["approve", "withdraw"])
def test_one_that_has_begun_is_a_conflict(stage: Stage, verb: str) -> None:
    stage.events.change(stage.event.id, EventStatus.STARTED)

    for path in (f"/events/{stage.event.id}/{verb}", f"/api/v1/events/{stage.event.id}/{verb}"):
        assert stage.site.client.post(path, headers=BOB).status_code == 409

    assert stage.read().status is EventStatus.STARTED


def test_the_api_lists_them_in_azures_words(stage: Stage) -> None:
    stage.events.approve("web-1", [stage.event.id])

    (row,) = stage.site.get("/api/v1/events", headers=VERA).json()["items"]

    assert row["eventId"] == stage.event.id
    assert (row["eventStatus"], row["eventType"], row["eventSource"]) == ("Scheduled", "Reboot", "Platform")
    assert (row["resources"], row["told"]) == (["web-1"], ["db-1", "web-1"])
    assert (row["approvedBy"], row["approvalsMissing"], row["durationInSeconds"]) == (["web-1"], [], None)
