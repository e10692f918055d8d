"""Azure Arc as a licence provider, against recorded answers on a server of this machine."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.hotpatch.licences import API_VERSION, RESOURCE_TAG, AzureArc, Licence, LicenceError
from inventory.machine import Machine
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.rules.hotpatch import HotpatchAction
from tests.support.fake_clock import FakeClock

DATA = Path(__file__).parents[2] / "data" / "azure_arc"
GROUP = "/subscriptions/s/resourceGroups/g"
RESOURCE = f"{GROUP}/providers/Microsoft.HybridCompute/machines/web"
PROFILE = f"{RESOURCE}/licenseProfiles/default"
WEB = Machine("web", "192.0.2.1")
TOKEN = "very-secret"
ENROLL, UNENROLL, ENABLE, DISABLE = HotpatchAction
HOTPATCH = {"productType": "WindowsServer", "productFeatures": [{"name": "Hotpatch", "subscriptionStatus": "Enable"}]}


def licence(state: str, *, is_enrolled: bool = True, is_enabled: bool | None = None, **more: bool) -> Licence:
    return Licence(is_enrolled, is_enabled, state=state, **more)


@dataclass
class Azure:
    """What answers, and what was asked. An answer: a status, and a file of tests/data/azure_arc or ""."""

    url: str = ""
    answers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def say(self, what: str, *answers: tuple[int, str]) -> None:
        """Say what is answered to "METHOD path", one after the other. The last one stays."""
        self.answers[what] = list(answers)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        place, _, query = path.partition("?")
        assert query == f"api-version={API_VERSION}"
        self.asked.append((method, place, body))
        known = self.answers.get(f"{method} {place}", [(404, "")])
        status, name = known.pop(0) if len(known) > 1 else known[0]
        return status, (DATA / f"{name}.json").read_bytes() if name else b""

    def changes(self) -> list[tuple[str, str, Any]]:
        return [each for each in self.asked if each[0] != "GET"]


@pytest.fixture
def azure() -> Iterator[Azure]:
    known = Azure()

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, text = known.answer(self.command, self.path, body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{known.url}{PROFILE}?elsewhere")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for verb in ("GET", "PUT", "PATCH"):
        setattr(Handler, f"do_{verb}", Handler.serve)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    known.say(f"GET {RESOURCE}", (200, "machine-plain"))
    yield known
    server.shutdown()
    server.server_close()


def arc(azure: Azure, clock: FakeClock, group: str = GROUP) -> AzureArc:
    return AzureArc(group, lambda: TOKEN, clock, azure.url)


def read(azure: Azure, clock: FakeClock | None = None, machine: Machine = WEB) -> Licence:
    clock = clock or FakeClock()
    return arc(azure, clock).read_licence(machine, deadline=Deadline.after(clock, 180))


def change(azure: Azure, action: HotpatchAction, clock: FakeClock | None = None) -> Licence:
    clock = clock or FakeClock()
    return arc(azure, clock).change_licence(WEB, action, deadline=Deadline.after(clock, 180))


@pytest.mark.parametrize(
    ("machine", "profile", "expected"),
    [
        ("machine-enabled", "profile-enabled", licence("licence Enabled, hotpatches Enabled", is_enabled=True)),
        ("machine-off", "profile-enabled", licence("licence Enabled, hotpatches Disabled", is_enabled=False)),
        (
            "machine-pending",
            "profile-enabling",
            licence("licence Enabling, hotpatches PendingEvaluation", is_enabled=True, is_changing=True),
        ),
        ("machine-plain", "profile-disabled", licence("licence Disabled", is_enrolled=False, is_canceled=True)),
        ("machine-plain", "", Licence(is_enrolled=False)),
    ],
)
def test_a_licence_is_read(azure: Azure, machine: str, profile: str, expected: Licence) -> None:
    azure.say(f"GET {RESOURCE}", (200, machine))
    if profile:
        azure.say(f"GET {PROFILE}", (200, profile))
    assert read(azure) == expected
    assert azure.changes() == []


class TestChanges:
    def test_a_profile_that_is_there_is_changed_in_one_place_only(self, azure: Azure) -> None:
        azure.say(f"GET {PROFILE}", (200, "profile-disabled"), (200, "profile-enabling"))
        azure.say(f"PATCH {PROFILE}", (202, ""))
        assert change(azure, ENROLL).is_changing
        assert azure.changes() == [("PATCH", PROFILE, {"properties": {"productProfile": HOTPATCH}})]

    def test_a_profile_that_is_missing_is_made_where_the_machine_is(self, azure: Azure) -> None:
        azure.say(f"GET {PROFILE}", (404, ""), (200, "profile-enabling"))
        azure.say(f"PUT {PROFILE}", (201, "profile-enabling"))
        assert change(azure, ENROLL).is_enrolled
        wanted = {"location": "eastus2euap", "properties": {"productProfile": HOTPATCH}}
        assert azure.changes() == [("PUT", PROFILE, wanted)]

    def test_no_request_touches_the_pay_as_you_go_licence(self, azure: Azure) -> None:
        azure.say(f"GET {PROFILE}", (200, "profile-enabled"))
        for what in (PROFILE, RESOURCE):
            azure.say(f"PATCH {what}", (200, ""))
        for action in HotpatchAction:
            change(azure, action)
        bodies = [json.dumps(body) for _, _, body in azure.changes()]
        assert len(bodies) == 4
        for body in bodies:
            product = json.loads(body)["properties"].get("productProfile", {})
            assert "subscriptionStatus" not in product

    def test_what_has_no_profile_has_nothing_to_give_back(self, azure: Azure) -> None:
        assert not change(azure, UNENROLL).is_enrolled
        assert azure.changes() == []

    @pytest.mark.parametrize(("action", "on"), [(ENABLE, True), (DISABLE, False)])
    def test_receiving_is_a_patch_setting_of_the_machine(self, azure: Azure, action: HotpatchAction, on: bool) -> None:
        azure.say(f"PATCH {RESOURCE}", (200, "machine-pending"))
        change(azure, action)
        settings = {"patchSettings": {"enableHotpatching": on}}
        assert azure.changes() == [
            ("PATCH", RESOURCE, {"properties": {"osProfile": {"windowsConfiguration": settings}}})
        ]


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "hint"),
        [(401, "new token"), (403, "role"), (404, "connected to Azure Arc"), (409, "in progress"), (429, "limits")],
    )
    def test_every_refusal_has_a_remedy_and_a_change_is_sent_once(self, azure: Azure, status: int, hint: str) -> None:
        azure.say(f"GET {PROFILE}", (200, "profile-disabled"))
        azure.say(f"PATCH {PROFILE}", (status, "error-forbidden"))
        with pytest.raises(LicenceError) as caught:
            change(azure, ENROLL)
        assert hint in caught.value.hint
        assert f"status {status}: AuthorizationFailed" in caught.value.message
        assert TOKEN not in f"{caught.value} {caught.value.hint}"
        assert len(azure.changes()) == 1

    def test_reads_are_repeated_within_their_time(self, azure: Azure) -> None:
        clock = FakeClock()
        azure.say(f"GET {RESOURCE}", (503, ""), (429, ""), (200, "machine-enabled"))
        azure.say(f"GET {PROFILE}", (200, "profile-enabled"))
        assert read(azure, clock).is_enrolled
        azure.say(f"GET {RESOURCE}", (503, ""))
        before = len(azure.asked)
        with pytest.raises(LicenceError, match="503"):
            read(azure, clock)
        assert len(azure.asked) - before == 4

    def test_no_request_is_made_after_the_deadline(self, azure: Azure) -> None:
        clock = FakeClock()
        with pytest.raises(LicenceError, match="no time"):
            arc(azure, clock).read_licence(WEB, deadline=Deadline.after(clock, 0))
        assert azure.asked == []

    def test_a_redirect_is_not_followed(self, azure: Azure) -> None:
        azure.say(f"GET {RESOURCE}", (302, ""))
        with pytest.raises(LicenceError, match="status 302"):
            read(azure)
        assert len(azure.asked) == 1

    def test_a_server_that_is_not_there(self, azure: Azure) -> None:
        clock = FakeClock()
        gone = AzureArc(GROUP, lambda: TOKEN, clock, "http://127.0.0.1:1")
        with pytest.raises(LicenceError, match="can't be reached"):
            gone.read_licence(WEB, deadline=Deadline.after(clock, 20))
        with pytest.raises(LicenceError, match="did not answer a change"):
            gone.change_licence(WEB, ENABLE, deadline=Deadline.after(clock, 20))

    def test_an_answer_that_is_no_json(self, azure: Azure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "odd.json").write_text("<html>")
        monkeypatch.setattr("tests.unit.hotpatch.test_azure_arc.DATA", tmp_path)
        azure.say(f"GET {RESOURCE}", (200, "odd"))
        with pytest.raises(LicenceError, match="not the expected JSON"):
            read(azure)


class TestNames:
    def test_a_tag_names_another_resource(self, azure: Azure) -> None:
        other = RESOURCE.replace("/g/", "/another/")
        azure.say(f"GET {other}", (200, "machine-plain"))
        tagged = Machine("x", "192.0.2.1", tags={RESOURCE_TAG: other})
        assert not read(azure, machine=tagged).is_enrolled
        for bad in ("/elsewhere", f"{other}/../..", f"{other}?x=1"):
            with pytest.raises(LicenceError, match=RESOURCE_TAG):
                read(azure, machine=Machine("x", "192.0.2.1", tags={RESOURCE_TAG: bad}))

    def test_without_a_group_every_machine_needs_a_tag(self, azure: Azure) -> None:
        clock = FakeClock()
        with pytest.raises(LicenceError, match="not known"):
            arc(azure, clock, "").read_licence(WEB, deadline=Deadline.after(clock, 60))
        with pytest.raises(RequestError, match="no resource group"):
            arc(azure, clock, "servers")


@pytest.mark.parametrize(
    "text", ['{\n  "accessToken": "very-secret"\n}', "\u201cvery-secret\u201d", "", "a very-secret"]
)
def test_what_is_no_token_is_refused_and_never_shown(azure: Azure, text: str) -> None:
    clock = FakeClock()
    with pytest.raises(LicenceError) as caught:
        AzureArc(GROUP, lambda: text, clock, azure.url).read_licence(WEB, deadline=Deadline.after(clock, 10))
    assert TOKEN not in f"{caught.value.message}{caught.value.hint}"
    assert "get-access-token" in caught.value.hint
    assert not azure.asked


def test_a_resource_group_may_have_letters_of_any_language(azure: Azure) -> None:
    clock = FakeClock()
    azure.say(
        "GET /subscriptions/s/resourceGroups/M%C3%BCnchen/providers/Microsoft.HybridCompute/machines/web",
        (200, "machine-plain"),
    )
    found = arc(azure, clock, "/subscriptions/s/resourceGroups/München").read_licence(
        WEB, deadline=Deadline.after(clock, 10)
    )
    assert not found.is_enrolled
