"""The errors of an API over HTTP in our words."""

import socket
from collections.abc import Iterator

import pytest

from inventory.credentials import Secret
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.machines.providers.http_api import HttpApi, NotThere, Reply, pick
from tests.support.fake_clock import FakeClock
from tests.unit.providers.api_server import SECRET, Answer, ApiServer, Asked, serve


def echo(asked: Asked) -> Answer:
    return 200, {"query": asked.query, "body": asked.body}, {"Azure-AsyncOperation": "there"}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with serve(echo) as running:
        yield running


def ask(url: str, *, seconds: float = 5) -> Reply:
    clock = FakeClock()
    api = HttpApi("cloud", url, clock)
    api.hidden.append(Secret(SECRET))
    headers = {"Authorization": f"Bearer {SECRET}"}
    deadline = Deadline.after(clock, seconds)
    return api.send("POST", "/thing", deadline=deadline, headers=headers, params={"a": "1"}, body={"b": 2})


def test_a_call_has_its_query_body_and_headers(server: ApiServer) -> None:
    reply = ask(server.url)
    assert reply.document == {"query": {"a": "1"}, "body": {"b": 2}}
    assert reply.headers["azure-asyncoperation"] == "there"
    assert server.asked[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (400, ProviderError, "refused POST /thing: status 400"),
        (401, ProviderError, "does not let fleetpatch"),
        (403, ProviderError, "does not let fleetpatch"),
        (404, NotThere, "has no such thing"),
        (409, ProviderUnavailable, "can't carry out POST /thing now"),
        (429, ProviderUnavailable, "now"),
        (500, ProviderUnavailable, "now"),
        (503, ProviderUnavailable, "now"),
        (302, ProviderError, "refused"),  # never followed: the login would go along
        (0, ProviderUnavailable, "does not answer"),
    ],
)
def test_a_status_is_an_error_and_nothing_is_sent_twice(
    server: ApiServer, status: int, kind: type[ProviderError], text: str
) -> None:
    server.faults = [("/thing", status, {"error": {"code": "Odd", "message": f"it was\n{SECRET}"}})]
    with pytest.raises(ProviderError, match=text) as caught:
        ask(server.url)
    assert type(caught.value) is kind
    assert len(server.asked) == 1
    assert SECRET not in caught.value.message + repr(caught.value) + caught.value.hint
    assert status == 0 or "Odd it was ***" in caught.value.message


@pytest.mark.parametrize(("content", "document"), [(b"", None), (b"null", None), (b"[]", []), (b"<html>", NotThere)])
def test_an_answer_that_is_no_json_is_not_taken_for_nothing(
    server: ApiServer, content: bytes, document: object
) -> None:
    server.faults = [("/thing", 200, content)]
    if document is not NotThere:
        assert ask(server.url).document == document
        return
    with pytest.raises(ProviderError, match="it is no JSON"):
        ask(server.url)


def test_no_time_or_no_server_is_unavailable(server: ApiServer) -> None:
    with pytest.raises(ProviderUnavailable, match="no time is left"):
        ask(server.url, seconds=0)
    assert server.asked == []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ProviderUnavailable, match="does not answer"):
            ask(f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_a_server_without_tls_is_no_https(server: ApiServer) -> None:
    with pytest.raises(ProviderError, match="certificate can't be verified") as caught:
        ask(server.url.replace("http:", "https:"))
    assert "NO_PROXY" in caught.value.hint


@pytest.mark.parametrize(
    ("document", "path", "kind"),
    [({}, "a.b", str), ({"a": {"b": 1}}, "a.b", str), (None, "a", dict), ({"a": True}, "a", int)],
)
def test_what_is_missing_or_of_another_kind_is_an_error(document: object, path: str, kind: type) -> None:
    with pytest.raises(ProviderError, match="can't be understood"):
        pick(document, path, kind)
