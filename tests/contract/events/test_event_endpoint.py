"""The endpoint: documents, approvals, metadata; and everything that it refuses."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from fleetpatch.server import event_endpoint
from fleetpatch.server.event_server import DocumentReader
from inventory.errors import InventoryError
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.scheduled_events import EventDocument, EventStatus
from tasks.domain.states import OperationState
from tasks.records.event_tokens import SqlEventTokens
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.rules.scheduled_events import API_VERSIONS, may_begin
from tests.contract.events.asked_endpoint import EVENTS, INSTANCE, METADATA, AskedEndpoint
from tests.contract.records_subjects import new_database
from tests.support import builders as make

OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with new_database("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def endpoint(url: str, tmp_path: Path) -> Iterator[AskedEndpoint]:
    with open_records(url) as records:
        yield AskedEndpoint(records, tmp_path)


class TestDocument:
    def test_a_machine_reads_its_events(self, endpoint: AskedEndpoint) -> None:
        before = endpoint.ask().data
        event = endpoint.announce("vm_0")
        document = endpoint.ask().data

        assert before["Events"] == []
        assert document["DocumentIncarnation"] == before["DocumentIncarnation"] + 1
        assert [each["EventId"] for each in document["Events"]] == [event.id]
        assert document["Events"][0]["Resources"] == [endpoint.ask(INSTANCE).data["compute"]["name"]]

    def test_a_member_of_the_set_is_told_and_a_foreign_machine_is_not(self, endpoint: AskedEndpoint) -> None:
        endpoint.announce("vm_0", "vm_1")

        assert len(endpoint.ask(source="192.0.2.11").data["Events"]) == 1
        assert endpoint.ask(source="192.0.2.12").data["Events"] == []

    def test_it_is_gone_when_it_is_over(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0")
        endpoint.events.change(event.id, EventStatus.STARTED)
        started = endpoint.ask().data["Events"][0]
        endpoint.events.change(event.id, EventStatus.COMPLETED)

        assert (started["EventStatus"], started["NotBefore"]) == ("Started", "")
        assert endpoint.ask().data["Events"] == []

    @pytest.mark.parametrize("version", API_VERSIONS)
    def test_every_version_of_azure_is_served(self, endpoint: AskedEndpoint, version: str) -> None:
        endpoint.announce("vm_0")

        (event,) = endpoint.ask(f"/metadata/scheduledevents?api-version={version}").data["Events"]

        assert event["Resources"] == ["_vm_0" if version == "2017-03-01" else "vm_0"]

    def test_the_same_address_of_ipv6_is_the_same_machine(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask(source="::ffff:192.0.2.10").status == 200

    def test_a_machine_with_a_name_is_known_by_what_it_resolves_to(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask(INSTANCE, source="192.0.2.15").data["compute"]["name"] == "named"

    def test_no_answer_is_kept_by_anybody(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask().headers["cache-control"] == "no-store"


class TestApproval:
    @pytest.mark.parametrize("content_type", ["", "application/json", "application/x-www-form-urlencoded", "x/y"])
    def test_any_content_type_will_do(self, endpoint: AskedEndpoint, content_type: str) -> None:
        event = endpoint.announce("vm_0")
        headers = METADATA | ({"Content-Type": content_type} if content_type else {})

        said = endpoint.approve(event.id, headers=headers, chunks=3)

        assert (said.status, said.data) == (200, {"Approved": [event.id]})
        assert may_begin(endpoint.events.find("run-1")[0], endpoint.clock.now())

    def test_an_approval_again_and_of_one_that_has_started_is_right(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0")

        assert [endpoint.approve(event.id).status for _ in range(2)] == [200, 200]
        endpoint.events.change(event.id, EventStatus.STARTED)
        assert endpoint.approve(event.id).status == 200

    def test_a_foreign_machine_approves_nothing(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0", "vm_1")

        said = endpoint.approve(event.id, source="192.0.2.12")

        assert said.status == 400
        assert event.id not in said.body.decode()
        assert endpoint.events.find("run-1")[0].approvals == ()

    def test_a_member_approves_for_itself_alone(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0", "vm_1")

        assert endpoint.approve(event.id, source="192.0.2.11").status == 200
        assert not may_begin(endpoint.events.find("run-1")[0], endpoint.clock.now())

    def test_one_that_is_gone_is_an_error_and_the_other_is_approved(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0")

        assert endpoint.approve(OTHER).status == 400
        assert endpoint.approve(OTHER, event.id).data == {"Approved": [event.id]}

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"StartRequests": "x"}', b'{"StartRequests": [{}]}'])
    def test_what_is_malformed_is_refused(self, endpoint: AskedEndpoint, body: bytes) -> None:
        assert endpoint.ask(method="POST", body=body).status == 400

    def test_a_body_that_is_too_long_is_refused(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask(method="POST", body=b" " * (event_endpoint.MAX_BODY_BYTES + 1), chunks=5).status == 413

    def test_a_run_that_is_over_can_not_be_approved(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0")
        endpoint.records.save(make.make_run(id="run-1", state=OperationState.FAILED))

        assert endpoint.approve(event.id).status == 400


class TestHeadersAndPaths:
    @pytest.mark.parametrize("name", ["Metadata", "metadata", "METADATA"])
    @pytest.mark.parametrize("value", ["true", "True", " TRUE "])
    def test_the_header_is_read_in_any_case(self, endpoint: AskedEndpoint, name: str, value: str) -> None:
        assert endpoint.ask(headers={name: value}).status == 200

    @pytest.mark.parametrize("headers", [{}, {"Metadata": "false"}, {"Metadata": ""}])
    @pytest.mark.parametrize("target", [EVENTS, INSTANCE])
    def test_without_it_nothing_is_answered(
        self, endpoint: AskedEndpoint, headers: dict[str, str], target: str
    ) -> None:
        said = endpoint.ask(target, headers=headers)

        assert (said.status, "Metadata" in said.data["error"]) == (400, True)

    def test_what_comes_by_a_proxy_is_refused(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask(headers=METADATA | {"X-Forwarded-For": "192.0.2.10"}, source="192.0.2.99").status == 400

    @pytest.mark.parametrize(
        "query", ["", "?api-version=", "?api-version=2020-07-02", "?api-version=latest&" + "a=1&" * 99]
    )
    def test_an_unknown_version_is_refused_with_the_known_ones(self, endpoint: AskedEndpoint, query: str) -> None:
        said = endpoint.ask(f"/metadata/scheduledevents{query}")

        assert (said.status, said.data["newest-versions"][0]) == (400, "2020-07-01")

    @pytest.mark.parametrize(
        "target", ["/", "/metadata", "/metadata/identity", "/metadata/scheduledeventsX", "/api/v1/machines", "/login"]
    )
    def test_there_is_nothing_else(self, endpoint: AskedEndpoint, target: str) -> None:
        assert endpoint.ask(f"{target}?api-version=2020-07-01").status == 404

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
    def test_it_can_only_be_read_and_approved(self, endpoint: AskedEndpoint, method: str) -> None:
        assert endpoint.ask(method=method).status == 405
        assert endpoint.ask(INSTANCE, method="POST").status == 405


class TestInstance:
    def test_parts_are_found_as_text(self, endpoint: AskedEndpoint) -> None:
        said = endpoint.ask("/metadata/instance/compute/name?api-version=2021-02-01&format=text")

        assert said.body == b"vm_0"
        assert endpoint.ask("/metadata/instance/compute?api-version=2021-02-01").data["vmScaleSetName"] == "web"

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            ("/metadata/instance", 400),
            ("/metadata/instance?api-version=x", 400),
            ("/metadata/instance/compute/no?api-version=2021-02-01", 404),
            ("/metadata/instance/compute?api-version=2021-02-01&format=text", 400),
        ],
    )
    def test_others_are_refused(self, endpoint: AskedEndpoint, target: str, status: int) -> None:
        assert endpoint.ask(target).status == status


class TestIdentity:
    def test_a_stranger_learns_nothing(self, endpoint: AskedEndpoint) -> None:
        event = endpoint.announce("vm_0")
        for target in (EVENTS, INSTANCE):
            said = endpoint.ask(target, source="198.51.100.7")
            assert said.status == 403
            assert "vm_0" not in said.body.decode()
        assert endpoint.approve(event.id, source="198.51.100.7").status == 403

    @pytest.mark.parametrize("source", ["192.0.2.13", "192.0.2.14"])
    def test_an_address_that_may_be_anothers_stands_for_nobody(self, endpoint: AskedEndpoint, source: str) -> None:
        assert endpoint.ask(source=source).status == 403

    def test_a_token_is_of_one_machine_from_anywhere(self, endpoint: AskedEndpoint) -> None:
        token = endpoint.add_token("far")

        said = endpoint.ask(INSTANCE, source="198.51.100.7", headers=METADATA | {"Authorization": f"Bearer {token}"})

        assert said.data["compute"]["name"] == "far"

    def test_a_token_wins_over_the_address_and_a_wrong_one_is_refused(self, endpoint: AskedEndpoint) -> None:
        token = endpoint.add_token("vm_1")
        right = endpoint.ask(INSTANCE, headers=METADATA | {"Authorization": f"Bearer {token}"})
        wrong = [
            endpoint.ask(headers=METADATA | {"Authorization": text}).status
            for text in ("Bearer no", f"Bearer {token}x", f"Token {token}", "Basic !", "Bearer ", "fp_x")
        ]

        assert right.data["compute"]["name"] == "vm_1"
        assert set(wrong) == {401}

    def test_a_token_that_was_replaced_or_removed_is_refused(self, endpoint: AskedEndpoint) -> None:
        first, second = endpoint.add_token("far"), endpoint.add_token("far")

        def ask(token: str) -> int:
            return endpoint.ask(headers=METADATA | {"Authorization": f"Bearer {token}"}).status

        assert (ask(first), ask(second)) == (401, 200)
        assert SqlEventTokens(endpoint.records.database).remove("far")
        assert ask(second) == 401

    def test_a_token_of_the_pages_is_none(self, endpoint: AskedEndpoint) -> None:
        assert endpoint.ask(headers=METADATA | {"Authorization": "Bearer fp_" + "a" * 43}).status == 401

    def test_a_machine_that_left_the_inventory_is_nobody(self, endpoint: AskedEndpoint) -> None:
        token = endpoint.add_token("lone")
        endpoint.machines = tuple(machine for machine in endpoint.machines if machine.name != "lone")
        endpoint.directory.refresh()

        assert endpoint.ask(source="192.0.2.12").status == 403
        assert endpoint.ask(headers=METADATA | {"Authorization": f"Bearer {token}"}).status == 401

    def test_an_inventory_that_can_not_be_read_leaves_the_known_machines(self, endpoint: AskedEndpoint) -> None:
        endpoint.fault = InventoryError("fleet.yaml can't be read")
        with pytest.raises(InventoryError):
            endpoint.directory.refresh()

        assert endpoint.ask().status == 200


class TestLimits:
    def test_a_machine_that_asks_too_often_is_held_up_and_no_other(
        self, endpoint: AskedEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_endpoint, "MAX_REQUESTS", 5)
        endpoint.start()

        assert [endpoint.ask().status for _ in range(7)] == [200] * 5 + [429] * 2
        assert endpoint.ask(source="192.0.2.11").status == 200

    def test_a_stranger_who_asks_too_often_is_held_up(
        self, endpoint: AskedEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_endpoint, "MAX_REFUSALS", 3)
        endpoint.start()

        said = [endpoint.ask(source="198.51.100.7").status for _ in range(5)]

        assert said == [403] * 3 + [429] * 2
        assert [endpoint.ask().status for _ in range(9)] == [200] * 9


class TestMaximumAge:
    def test_many_requests_are_one_look_into_the_records(self, endpoint: AskedEndpoint, tmp_path: Path) -> None:
        looks: list[str] = []

        class Counted(SqlScheduledEvents):
            def read_documents(self) -> dict[str, EventDocument]:
                looks.append("all")
                return super().read_documents()

        reader = DocumentReader(Counted(endpoint.records.database, endpoint.clock), tmp_path / "own", 3600)
        endpoint.announce("vm_0", "vm_1")
        assert [len(reader.read(name).events) for name in ("vm_0", "vm_1") * 5] == [1] * 10
        assert looks == ["all"]

    def test_what_a_machine_was_told_is_not_taken_back(self, endpoint: AskedEndpoint, tmp_path: Path) -> None:
        reader = DocumentReader(endpoint.events, tmp_path / "own", 3600)
        reader.read("vm_1")
        endpoint.announce("vm_0")  # not in what was read together
        assert [len(reader.read("vm_0").events) for _ in range(3)] == [1, 1, 1]

    def test_it_is_over(self, endpoint: AskedEndpoint, tmp_path: Path) -> None:
        reader = DocumentReader(endpoint.events, tmp_path / "own", 0.05)
        before = reader.read("vm_0").incarnation
        endpoint.announce("vm_0")
        until = time.monotonic() + 30
        while (document := reader.read("vm_0")).incarnation == before:
            assert time.monotonic() < until
        assert len(document.events) == 1


class TestRestarts:
    def test_incarnations_go_on_after_a_restart_of_the_endpoint(self, endpoint: AskedEndpoint) -> None:
        endpoint.announce("vm_0")
        before = endpoint.ask().data
        endpoint.start()

        assert endpoint.ask().data == before

    def test_incarnations_go_on_when_the_clock_is_set_back(self, endpoint: AskedEndpoint) -> None:
        endpoint.announce("vm_0")
        before = endpoint.ask().data["DocumentIncarnation"]
        endpoint.clock.advance(-86400 * 365)
        endpoint.start()
        endpoint.announce("vm_0", act="restart/0")

        assert endpoint.ask().data["DocumentIncarnation"] == before + 1

    @pytest.mark.parametrize("restarts", [True, False])
    def test_incarnations_go_on_when_an_older_database_is_restored(
        self, url: str, tmp_path: Path, restarts: bool
    ) -> None:
        file, backup = tmp_path / "records.db", tmp_path / "backup"
        with open_records(url) as records:
            endpoint = AskedEndpoint(records, tmp_path)
            endpoint.announce("vm_0")
            seen = {endpoint.ask().data["DocumentIncarnation"]: endpoint.ask().body}
        shutil.copy(file, backup)
        with open_records(url) as records:
            endpoint.records = records
            endpoint.start()
            for number in range(4):
                endpoint.announce("vm_0", act=f"restart/{number}")
                document = endpoint.ask()
                seen[document.data["DocumentIncarnation"]] = document.body
        for part in tmp_path.glob("records.db*"):
            part.unlink()
        shutil.copy(backup, file)
        with open_records(url) as records:
            endpoint.records = records
            if restarts:
                endpoint.start()
            else:
                endpoint.app._documents._events = endpoint.events = type(endpoint.events)(  # type: ignore[attr-defined]
                    records.database, endpoint.clock
                )
            for number in range(6):
                document = endpoint.ask()
                incarnation = document.data["DocumentIncarnation"]
                assert seen.get(incarnation, document.body) == document.body
                assert incarnation > max(seen) or incarnation in seen
                seen[incarnation] = document.body
                endpoint.announce("vm_0", act=f"other/{number}")
        assert len(seen) >= 5 + 6

    def test_a_database_that_is_away_is_said_and_no_document_is_made_up(
        self, endpoint: AskedEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        event = endpoint.announce("vm_0")

        def fail(*_arguments: object) -> NoReturn:
            raise RecordsUnavailable("the database db.example is away")

        for name in ("read_document", "approve"):
            monkeypatch.setattr(endpoint.events, name, fail)

        for said in (endpoint.ask(), endpoint.approve(event.id)):
            assert (said.status, said.headers["retry-after"]) == (503, "10")
            assert said.data == {"error": "The records can't be reached."}
