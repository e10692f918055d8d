"""A login in the URL of an owner's check is used, and told to nobody."""

import http.client
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast
from urllib.error import URLError

import pytest
from pydantic import ValidationError

from inventory.machine import Check, CheckKind
from inventory.schema.entries import CheckEntry, MachineEntry
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine import custom_checks

WORK = cast("MachineContext", None)  # an HTTP check asks from the controller and needs no machine


def _ask(monkeypatch: pytest.MonkeyPatch, target: str, answer: Any) -> tuple[str, list[Any]]:
    asked: list[Any] = []

    def opened(request: Any, timeout: float) -> Any:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return nullcontext(SimpleNamespace(status=answer))

    monkeypatch.setattr(custom_checks, "HTTP_OPENER", SimpleNamespace(open=opened))
    finding = custom_checks.run_check(WORK, Check("front", CheckKind.HTTP, target))
    return repr(finding), asked


@pytest.mark.parametrize("answer", [200, 503, URLError("refused"), http.client.InvalidURL("nonnumeric port: ''")])
def test_the_login_and_the_query_are_masked_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    told, _ = _ask(monkeypatch, "https://ann:hunter%402@web.example.org:8443/health?token=hunter2#hunter2", answer)
    assert "hunter" not in told
    assert "https://***@web.example.org:8443/health?***" in told


def test_what_can_not_be_read_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for target in ("http://ann:hunter/2@web.example.org/", "http://[hunter2/", "http://ann:hunter2@/"):
        told, asked = _ask(monkeypatch, target, 200)
        assert "hunter" not in told
        assert "not a usable http or https URL" in told
        assert asked == []


def test_the_login_is_sent_to_its_host_and_not_to_where_that_sends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (request,) = _ask(monkeypatch, "http://ann:hunter%402@web.example.org/a?b=c", 200)
    assert request.full_url == "http://web.example.org/a?b=c"
    assert request.unredirected_hdrs == {"Authorization": "Basic YW5uOmh1bnRlckAy"}
    assert "Authorization" not in request.headers


def test_a_plain_url_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told, (request,) = _ask(monkeypatch, "http://web.example.org/health", 200)
    assert "http://web.example.org/health: good" in told
    assert not request.unredirected_hdrs


def test_an_inventory_s_error_does_not_repeat_a_login() -> None:
    with pytest.raises(ValidationError) as url:
        CheckEntry(name="front", kind=CheckKind.HTTP, target="ftp://ann:hunter2@web.example.org/")
    with pytest.raises(ValidationError) as address:
        MachineEntry.model_validate({"name": "web", "address": "ssh://ann:hunter2@web.example.org"})
    for error in (url, address):
        told = [each["msg"] for each in error.value.errors()]
        assert "hunter" not in str(told)
        assert "***@web.example.org" in str(told)
