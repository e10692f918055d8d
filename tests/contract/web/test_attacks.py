"""Attacks on the pages, each tried: on logins, on forms, on addresses and on headers.

docs/reference/pages-attacks.md lists them. What hostile names of machines and packages do in a real browser is tried in
test_browser_pages.py.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant

from fleetpatch.access.limiter import MAX_FAILURES
from fleetpatch.access.roles import Role
from fleetpatch.server.middleware import OPEN_PATHS
from fleetpatch.server.web_server import build_app
from fleetpatch.web.authentication import ActPermission, require_csrf_token
from tasks.domain.rows.audit import AuditResult
from tasks.records.audit.log import SqlAuditLog
from tests.support.web_login import add_link, add_token, log_in
from tests.support.web_site import serve_site
from tests.support.web_target import Target, list_routes

ALL = (Role.APPROVE, Role.RUN)
FORMS = {
    "/assess": Role.RUN,
    "/plan": Role.RUN,
    "/patch": Role.RUN,
    "/hotpatch": Role.RUN,
    "/owners": Role.RUN,
    "/components/enroll": Role.RUN,
    "/components/unenroll": Role.RUN,
    "/components/upgrade": Role.RUN,
    "/images/upgrade": Role.RUN,
    "/events/{id}/approve": Role.RUN,
    "/events/{id}/withdraw": Role.RUN,
    "/maintenance/{id}/apply": Role.RUN,
    "/starting/{id}/cancel": Role.RUN,
    "/runs/{live}/cancel": Role.RUN,
    "/runs/{dead}/resume": Role.RUN,
    "/runs/{dead}/undo": Role.RUN,
    "/approvals/{waiting}/approve": Role.APPROVE,
    "/approvals/{waiting}/reject": Role.APPROVE,
}
"""All targets of forms but those of the login."""
API_ACTS = {
    "/api/v1/assess": Role.RUN,
    "/api/v1/plan": Role.RUN,
    "/api/v1/patch": Role.RUN,
    "/api/v1/orders": Role.RUN,
    "/api/v1/owners": Role.RUN,
    "/api/v1/components/{id}/enroll": Role.RUN,
    "/api/v1/components/{id}/unenroll": Role.RUN,
    "/api/v1/components/{id}/upgrade": Role.RUN,
    "/api/v1/images/{id}/upgrade": Role.RUN,
    "/api/v1/events/{id}/approve": Role.RUN,
    "/api/v1/events/{id}/withdraw": Role.RUN,
    "/api/v1/maintenance/{id}/apply": Role.RUN,
    "/api/v1/runs/{live}/cancel": Role.RUN,
    "/api/v1/runs/{dead}/resume": Role.RUN,
    "/api/v1/runs/{dead}/undo": Role.RUN,
    "/api/v1/approvals/{waiting}/approve": Role.APPROVE,
    "/api/v1/approvals/{waiting}/reject": Role.APPROVE,
}
OPEN = OPEN_PATHS
CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
def app(target: Target) -> FastAPI:
    return build_app(target.site.context)


def list_calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    yield dependant.call
    for each in dependant.dependencies:
        yield from list_calls(each)


class TestEachRoute:
    def test_that_changes_something_asks_for_a_role_and_a_secret(self, app: FastAPI) -> None:
        acts: dict[str, Role] = {}
        for path, route in list_routes(app.routes):
            if not (route.methods or set()) & CHANGING or path in OPEN:
                continue
            calls = list(list_calls(route.dependant))
            if path == "/logout":
                assert require_csrf_token in calls
                continue
            (permission,) = (each for each in calls if isinstance(each, ActPermission))
            acts[path] = permission.role
        names = {re.sub(r"{\w+}", "{}", path): role for path, role in (FORMS | API_ACTS).items()}
        assert acts.pop("/session") is Role.VIEW  # a person makes their own login last
        assert {re.sub(r"{\w+}", "{}", path): role for path, role in acts.items()} == names

    def test_shows_nothing_to_a_stranger(self, app: FastAPI, target: Target) -> None:
        stranger = target.site.open_browser()
        paths = {path for path, route in list_routes(app.routes) if "GET" in (route.methods or ())} | {
            "/api/v1/openapi.json",
            "/x",
        }
        assert len(paths) > 30
        for path in sorted(paths - OPEN):
            answer = stranger.get(re.sub(r"{\w+}", "1", path))
            assert answer.status_code in {303, 401}, path
            assert "web-07" not in answer.text, path
        for path in ("/login", "/health", "/static/css/base.css"):
            assert stranger.get(path).status_code == 200, path


@pytest.mark.usefixtures("stands_still")
class TestForms:
    """Cross-site request forgery, on each form."""

    @pytest.mark.parametrize("path", FORMS)
    def test_without_the_secret_of_the_session(self, target: Target, path: str) -> None:
        other = log_in(target.site, f"eve-{time.monotonic_ns()}", *ALL).form_token
        address = target.find(path)
        for data in ({}, {"csrf": ""}, {"csrf": other}, {"csrf": target.csrf[:-1]}, {"csrf": [target.csrf[:-1], "x"]}):
            answer = target.browser.post(address, data={"once": "a", "scope": "*", **data})
            assert answer.status_code == 403, data
        newest = target.read_log()[0]
        assert (newest.who, newest.result, newest.subject) == ("anna", AuditResult.REFUSED, f"POST {address}")

    @pytest.mark.parametrize("path", [*FORMS, "/login", "/login/link", "/logout"])
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example.org"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "http://127.0.0.1.evil.example.org"},
            {"Origin": "file://"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
        ids=str,
    )
    def test_from_another_site(self, target: Target, path: str, headers: dict[str, str]) -> None:
        browser = target.site.open_browser(**headers)
        if "Origin" not in headers:
            del browser.headers["Origin"]
        browser.cookies.update(target.browser.cookies)
        answer = browser.post(target.find(path), data={"csrf": target.csrf, "scope": "*", "once": "b"})
        assert answer.status_code == 403
        assert "another site" in answer.text

    @pytest.mark.parametrize(
        ("kind", "status"),
        [("application/json", 403), ("text/plain", 403), ("application/x-www-form-urlencoded; charset=x", 415)],
    )
    def test_with_a_body_that_is_no_form(self, target: Target, kind: str, status: int) -> None:
        answer = target.browser.post(
            "/assess", content=b'{"csrf": "' + target.csrf.encode() + b'"}', headers={"Content-Type": kind}
        )
        assert answer.status_code == status

    def test_as_an_address(self, target: Target) -> None:
        for path in FORMS:
            answer = target.browser.get(target.find(path), params={"csrf": target.csrf, "scope": "*", "once": "c"})
            assert answer.status_code in {200, 404, 405}, path


@pytest.mark.usefixtures("stands_still")
class TestRoles:
    @pytest.mark.parametrize("path", FORMS)
    def test_a_form_needs_its_own_role(self, target: Target, path: str) -> None:
        (other,) = set(ALL) - {FORMS[path]}
        for roles in ((other,), (Role.VIEW,)):
            browser = log_in(target.site, f"{roles[0]}-{time.monotonic_ns()}", *roles)
            answer = browser.post(target.find(path), data={"csrf": browser.form_token, "scope": "*", "once": "d"})
            assert answer.status_code == 403
            assert f"role {FORMS[path]}" in answer.text

    @pytest.mark.parametrize("path", API_ACTS)
    def test_an_act_of_the_api_needs_its_own_role_and_a_token(self, target: Target, path: str) -> None:
        (other,) = set(ALL) - {API_ACTS[path]}
        token = add_token(target.site, f"{other}-{time.monotonic_ns()}", other)
        send: dict[str, Any] = {"json": {"scope": "*", "plan": "0" * 64}, "headers": {"Idempotency-Key": "k"}}
        assert target.site.client.post(target.find(path), **send).status_code == 401
        assert target.browser.post(target.find(path), **send).status_code == 401  # a cookie opens nothing here
        send["headers"] = {"Idempotency-Key": "k", "Authorization": f"Bearer {token}"}
        assert target.site.client.post(target.find(path), **send).status_code == 403

    def test_nobody_writes_the_audit_log(self, target: Target) -> None:
        before = target.read_log()
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert target.browser.request(method, "/audit", data={"csrf": target.csrf}).status_code == 405
        assert [each for each in target.read_log() if each in before] == before


class TestLogins:
    def test_a_token_in_an_address_is_refused_and_repeated_nowhere(self, target: Target) -> None:
        token = add_token(target.site, "careless", *ALL)
        escaped = token.replace("_", "%5f", 1)
        for path in (f"/?token={token}", f"/?access_token={token}", f"/machines?q={escaped}", f"/machines/{token}"):
            for send in (target.site.get, target.browser.get):
                answer = send(path)
                assert answer.status_code == 400, path
                assert token not in answer.text
                assert "remove it" in answer.text
        assert target.site.client.post(f"/login?token={token}").status_code == 400
        assert not any(token in str(each) for each in target.read_log())

    def test_a_cookie_that_was_planted_gets_no_login(self, target: Target) -> None:
        browser, planted = target.site.open_browser(), "A" * 43
        browser.cookies.set("fleetpatch-session", planted)
        browser.post("/login/link", data={"code": add_link(target.site, "victim").partition("#")[2]})
        assert browser.get("/").status_code == 200
        attacker = target.site.open_browser()
        attacker.cookies.set("fleetpatch-session", planted)
        assert attacker.get("/").status_code == 303

    @pytest.mark.parametrize("cookie", ["", "x", "'" * 43, "A" * 43, "A" * 4000, "../" * 14 + "x"])
    def test_a_made_up_cookie_is_no_login(self, target: Target, cookie: str) -> None:
        headers = {"Cookie": f"fleetpatch-session={cookie}", "Accept": "text/html"}
        assert target.site.get("/", headers=headers).status_code == 303

    def test_the_records_have_no_secret(self, target: Target, tmp_path: Path) -> None:
        token, browser = add_token(target.site, "kept"), log_in(target.site, "kept-in")
        (session,) = browser.cookies.values()
        url = target.site.context.settings.records_url
        assert url is not None
        data = b"".join(each.read_bytes() for each in Path(url.removeprefix("sqlite:///")).parent.glob("records.db*"))
        assert token.encode() not in data
        assert session.encode() not in data

    def test_tries_end_after_some(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, makes_certificate=True) as site:
            browser = site.open_browser()
            token = add_token(site, "anna")
            codes = [browser.post("/login", data={"token": "fp_" + "x" * 43}).status_code for _ in range(15)]
            assert codes == [403] * MAX_FAILURES + [429] * (15 - MAX_FAILURES)
            last = browser.post("/login", data={"token": token})
            assert (last.status_code, last.headers["retry-after"]) == (429, "60")
            assert len(SqlAuditLog(site.records.database).read(100, act="login")) == MAX_FAILURES

    def test_refused_requests_of_strangers_do_not_fill_the_records(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, requires_login=True) as site:
            for number in range(50):
                site.get("/metrics", headers={"Authorization": f"Bearer {number}"})
            assert len(SqlAuditLog(site.records.database).read(100)) == MAX_FAILURES
