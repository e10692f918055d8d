"""Attacks on the server below the pages: odd requests, slow ones, failures, and names that would be markup."""

import asyncio
import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from starlette.types import Message, Receive, Scope, Send

from fleetpatch.access.roles import Role
from fleetpatch.acts.patch_form import parse_form
from fleetpatch.server import middleware
from fleetpatch.server.web_server import build_app
from flows.prefect_api import timed_connection
from tasks.domain.rows.audit import AuditResult
from tests.contract.web.page_urls import PAGES
from tests.support.web_login import add_token
from tests.support.web_site import PATIENCE
from tests.support.web_target import Target, list_routes

FORM = "application/x-www-form-urlencoded"


def find_status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


class TestOddRequests:
    @pytest.mark.parametrize(
        "sent",
        [
            b"Basic \xff\xfe",
            b"Basic !",
            b"Basic",
            b"Basic " + base64.b64encode(b"no colon"),
            b"Basic " + base64.b64encode(b"\xff:\xff"),
            b"Bearer",
            b"Bearer \xff",
            b"Bearer " + b"x" * 20_000,
            b"Negotiate abc",
        ],
    )
    def test_credentials_that_are_none(self, target: Target, sent: bytes) -> None:
        for path in (b"/calendar.ics", b"/metrics", b"/api/v1/machines"):
            head = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + sent
            assert find_status(target.send_raw(head + b"\r\nConnection: close\r\n\r\n")) == 401, path

    def test_a_token_as_the_name_of_a_user_is_not_kept(self, target: Target) -> None:
        target.site.context.__dict__.pop("refusals", None)  # of strangers, ten a minute are kept
        token = add_token(target.site, "misplaced", Role.RUN)
        assert target.site.get("/calendar.ics", auth=(token, "x")).status_code == 401
        newest = target.read_log()[0]
        assert (newest.who, newest.claimed) == ("", "fp_(hidden)")
        assert token not in target.browser.get("/audit").text

    def test_nobody_forges_a_line_of_the_audit_log(self, target: Target) -> None:
        assert target.browser.post("/runs/x%0A2026-11-23%20root%20approve/cancel").status_code == 403
        newest = target.read_log()[0]
        assert newest.result is AuditResult.REFUSED
        assert "\n" not in newest.subject

    @pytest.mark.usefixtures("stands_still")
    @pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "undefined", "utf-8; charset=utf-7", "'x'"])
    def test_a_form_in_a_strange_charset(self, target: Target, charset: str) -> None:
        body = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (("csrf", target.csrf), ("scope", "*"), ("once", "\\ud800+2AA-"))
        )
        for kind in ("multipart/form-data; boundary=b", FORM):
            headers = {"Content-Type": f"{kind}; charset={charset}"}
            assert target.browser.post("/assess", content=f"{body}--b--\r\n", headers=headers).status_code == 415

    @pytest.mark.usefixtures("stands_still")
    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b"--b", "multipart/form-data; boundary=b"),
            (b"x", "multipart/form-data"),
            (b"--b\r\n" * 1000, "multipart/form-data; boundary=b"),
            (b"a=1&" * 5000, FORM),
            (b"csrf=%ed%a0%80", FORM),
        ],
        ids=range(5),
    )
    def test_a_broken_form(self, target: Target, body: bytes, kind: str) -> None:
        for browser, path in ((target.browser, "/assess"), (target.site.open_browser(), "/login")):
            assert browser.post(path, content=body, headers={"Content-Type": kind}).status_code in {400, 403}

    @pytest.mark.usefixtures("stands_still")
    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 200_000,
            b'{"scope":' + b"1" * 5000 + b"}",
            b'{"scope":"\\ud800"}',
            b'{"scope":"*\\u0000"}',
            b'{"scope":"*","window":{"minutes":NaN}}',
            b'{"scope":"*","window":{"start":1e308}}',
            b'{"scope":"*","window":{"zone":"../../etc/passwd"}}',
            b'{"scope":"*","inventory":"/etc/shadow"}',
            b'{"scope":"*","report_directory":"/etc"}',
            b"\xff",
            b"",
        ],
        ids=range(11),
    )
    def test_json_that_is_no_request(self, target: Target, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {self.find_token(target)}", "Idempotency-Key": "k"}
        headers["Content-Type"] = "application/json"
        for act in ("patch", "plan", "assess"):
            answer = target.site.client.post(f"/api/v1/{act}", content=body, headers=headers)
            assert answer.status_code == 400
            assert "root:" not in answer.text

    @staticmethod
    def find_token(target: Target) -> str:
        """Return the token of a program, the same for all tests of the module."""
        found: str | None = target.__dict__.get("token")
        if found is None:
            found = target.__dict__["token"] = add_token(target.site, "program", Role.RUN)
        return found

    def test_no_value_of_an_address_makes_a_failure(self, target: Target) -> None:
        """503 is Prefect, which these pages don't have."""
        known = {"run_id": target.fleet.runs["failed"], "name": "web-07", "cve": "CVE-2025-9230"}
        bearer = {"Authorization": f"Bearer {self.find_token(target)}"}
        for path, route in list_routes(build_app(target.site.context).routes):
            if "GET" not in (route.methods or ()) or path.startswith("/live/"):
                continue
            place = re.sub(r"{(\w+)}", lambda found: known.get(found[1], "1"), path)
            names = [each.alias for each in route.dependant.query_params]
            names += [each.alias for inner in route.dependant.dependencies for each in inner.query_params]
            for value in ("9" * 30, "-1(!*[%ff%ed%a0%80"):
                query = "&".join(f"{name}={value}" for name in names)
                browser, headers = (target.site.client, bearer) if path.startswith("/api/") else (target.browser, {})
                for address in dict.fromkeys((f"{place}?{query}", re.sub(r"{\w+}", value, path))):
                    answer = browser.get(address, headers=headers)
                    assert answer.status_code < 500 or answer.status_code == 503, address

    @pytest.mark.parametrize("path", ["/machines/%00", "/runs/a%00b", "/machines?q=%00", "/login?next=/%00"])
    def test_a_character_that_databases_refuse(self, target: Target, path: str) -> None:
        assert target.browser.get(path).status_code == 400

    @pytest.mark.parametrize("path", ["/sta%0atic/x", "/%09static/x", "/log%0ain", "/hea%0dlth", "//static/x"])
    def test_a_path_that_looks_like_an_open_one(self, target: Target, path: str) -> None:
        assert target.site.get(path, headers={"Accept": "text/html"}).status_code == 303

    @pytest.mark.parametrize("path", ["/", "/static/app.js", "/live/runs", "/api/v1/machines"])
    def test_websocket_reaches_no_page(self, target: Target, path: str) -> None:
        cookie = "; ".join(f"{name}={value}" for name, value in target.browser.cookies.items())
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n{upgrade}{key}\r\n"
        assert find_status(target.send_raw(head.encode())) == 403

        async def reach(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise AssertionError("the guard let it pass")

        async def send(message: Message) -> None:
            sent.append(message["type"])

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        sent: list[str] = []
        guard = middleware.AccessMiddleware(reach, target.site.context)
        asyncio.run(guard({"type": "websocket", "path": path, "headers": []}, receive, send))
        assert sent == ["websocket.close"]


class TestFailures:
    @pytest.mark.parametrize("path", ["/machines", "/api/v1/machines"])
    def test_the_page_of_a_failure_is_as_safe_as_the_others(
        self, target: Target, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise ZeroDivisionError("a secret of the inside")

        monkeypatch.setattr(target.site.context.fleet, "read", fail)
        headers = {"Authorization": f"Bearer {TestOddRequests.find_token(target)}"}
        answer = target.site.get(path, headers=headers)
        assert answer.status_code == 500
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers["x-frame-options"], answer.headers["cache-control"]) == ("DENY", "no-store")
        assert answer.headers["connection"] == "close"  # the server closes it, and says so
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text


class TestSlowRequests:
    @pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "next"])
    def test_a_head_that_does_not_end(self, target: Target, before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(timed_connection, "HEAD_SECONDS", 2.0 if before else 0.3)  # the whole one has its time
        answer = target.send_raw(before + b"GET / HTTP/1.1\r\nHost: local")  # returns when the server closes it
        assert answer.count(b"HTTP/1.1 ") == (1 if before else 0)

    def test_an_answer_may_take_longer(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(timed_connection, "HEAD_SECONDS", 2.0)
        is_late, end = threading.Event(), timed_connection.TimedConnection._end_without_request
        read = target.site.context.fleet.read

        def note(connection: timed_connection.TimedConnection, earlier: Any) -> None:
            end(connection, earlier)
            is_late.set()

        def read_slowly() -> object:
            assert is_late.wait(PATIENCE)
            return read()

        monkeypatch.setattr(timed_connection.TimedConnection, "_end_without_request", note)
        monkeypatch.setattr(target.site.context.fleet, "read", read_slowly)
        cookies = target.browser.cookies
        with httpx.Client(cookies=cookies, base_url=target.site.url, trust_env=False, timeout=PATIENCE) as browser:
            assert browser.get("/machines").status_code == 200

    def test_a_body_that_does_not_come(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(middleware, "MAX_BODY_SECONDS", 0.2)
        head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 50\r\n"
        assert find_status(target.send_raw(f"{head}Connection: close\r\n\r\n".encode())) == 408

    def test_a_stream_that_waits_for_its_browser_is_not_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(middleware, "MAX_BODY_SECONDS", 0.05)
        messages: Iterator[Message] = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

        async def receive() -> Message:
            message = next(messages)
            await asyncio.sleep(0 if message["type"] == "http.request" else 0.2)
            return message

        async def follow() -> list[str]:
            limited = middleware._limit_body(receive)
            return [(await limited())["type"], (await limited())["type"]]

        assert asyncio.run(follow()) == ["http.request", "http.disconnect"]

    def test_a_body_in_drops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(middleware, "MAX_BODY_SECONDS", 0.3)

        async def receive() -> Message:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def read() -> None:
            limited = middleware._limit_body(receive)
            while True:
                await limited()

        with pytest.raises(HTTPException, match="within"):
            asyncio.run(asyncio.wait_for(read(), 20))


class Markup(HTMLParser):
    """Finds what could run a script, or what the content security policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (tag == "script" and "src" not in given) or tag in {"style", "iframe", "object", "embed", "base"}:
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith(("on", "hx-on")) or name in {"style", "srcdoc"} or _leads_away(name, value or ""):
                self.found.append(f"{tag} {name}={value}")


def _leads_away(name: str, value: str) -> bool:
    return name in {"href", "src", "action", "formaction"} and bool(re.match(r"\s*(javascript|data|vbscript):", value))


@contextmanager
def parse(page: str) -> Iterator[Markup]:
    markup = Markup()
    markup.feed(page)
    yield markup
    markup.close()


@pytest.mark.parametrize("route", PAGES)
def test_names_of_the_fleet_are_no_markup(target: Target, route: str) -> None:
    for url in PAGES[route]:
        answer = target.browser.get(target.find(url))
        assert answer.status_code in {200, 400}, url
        with parse(answer.text) as markup:
            assert not markup.found, url


def test_a_form_sets_nothing_that_belongs_to_files() -> None:
    usual = parse_form({"scope": ["*"]}, dry_run=False)
    smuggled = {"inventory": ["/etc/shadow"], "report_directory": ["/etc"], "notify": ["x"], "dry_run": ["true"]}
    smuggled |= {"hooks.before_run": ["id"], "hooks": [json.dumps({"before_run": []})], "__class__": ["x"]}
    assert parse_form({"scope": ["*"], **smuggled}, dry_run=False) == usual
    assert usual.request is not None


def test_only_what_the_method_allows(target: Target) -> None:
    stranger = target.site.open_browser()
    for method in ("HEAD", "OPTIONS", "TRACE"):
        for path in ("/", "/audit", "/metrics", "/api/v1/machines"):
            answer = stranger.request(method, path)
            assert answer.status_code in {303, 401, 405}, (method, path)
            assert "web-07" not in answer.text
    forwarded = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/login", "X-Rewrite-URL": "/login"}
    assert httpx.get(f"{target.site.url}/audit", headers=forwarded, trust_env=False).status_code == 401
