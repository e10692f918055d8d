"""Who may look and act: tokens, sessions, the proxy's users, and what the audit log says."""

import base64
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import Connection

from fleetpatch.access.identity import Identity
from fleetpatch.access.login_admin import create_access_token
from fleetpatch.access.roles import Role
from fleetpatch.access.sessions import BOUND_SESSION_LENGTH, SESSION_LENGTH
from fleetpatch.web.audit import record_act
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.audit.log import SqlAuditLog
from tasks.records.storage.database import Database
from tests.support.fake_clock import FakeClock
from tests.support.web_login import add_token, log_in, read_csrf_token
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIGURATION = "name: all\nscope: '*'\nwindow: {start: 2030-01-01 22:00, length: 2h, zone: UTC}\n"
FLEET = "hosts: {web-1: {address: 192.0.2.1}}\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations/all.yaml").write_text(CONFIGURATION)
    with serve_site(tmp_path, clock=clock, requires_login=True, makes_certificate=True) as found:
        yield found


def read_log(site: Site) -> list[AuditEntry]:
    return list(reversed(SqlAuditLog(site.records.database).read(100)))


class TestLogin:
    def test_a_page_leads_to_the_login_and_back(self, site: Site) -> None:
        browser = site.open_browser()
        answer = browser.get("/machines?compliance=NonCompliant&q=a%26b")
        assert answer.status_code == 303
        wanted = parse_qs(urlsplit(answer.headers["location"]).query)["next"][0]
        assert wanted == "/machines?compliance=NonCompliant&q=a%26b"
        form = browser.get(answer.headers["location"])
        assert "Access token" in form.text
        answer = browser.post("/login", data={"token": add_token(site, "anna"), "next": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{wanted}&via=login")
        assert browser.get(wanted).status_code == 200
        assert "anna" in browser.get("/").text

    def test_the_session_outlives_the_server(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, requires_login=True) as before:
            cookies = dict(log_in(before, "anna").cookies)
        with serve_site(tmp_path, requires_login=True) as after:
            assert httpx.get(after.url, cookies=cookies, trust_env=False).status_code == 200

    @pytest.mark.parametrize(("is_encrypted", "length"), [(True, SESSION_LENGTH), (False, BOUND_SESSION_LENGTH)])
    def test_it_ends_after_some_hours_however_much_it_is_used(
        self, tmp_path: Path, clock: FakeClock, is_encrypted: bool, length: timedelta
    ) -> None:
        with serve_site(tmp_path, clock=clock, requires_login=True, makes_certificate=is_encrypted) as site:
            browser, until = log_in(site, "anna"), clock.now() + length
            while clock.now() < until - timedelta(minutes=20):
                clock.advance(1200)
                assert browser.get("/health").status_code == 200
                assert browser.get("/audit").status_code == 200
            clock.advance((until - clock.now()).total_seconds())
            assert browser.get("/").status_code == 303

    def test_it_ends_without_use_and_what_a_page_does_by_itself_is_no_use(self, site: Site, clock: FakeClock) -> None:
        browser = log_in(site, "anna")
        clock.advance(29 * 60)
        assert browser.get("/").status_code == 200  # a use
        clock.advance(29 * 60)
        page = {"Sec-Fetch-Dest": "empty"}
        assert browser.get("/", headers={"HX-Request": "true"}).status_code == 200
        assert browser.get("/machines", headers=page).status_code == 200
        assert browser.get("/session", headers=page).json() == {"seconds": 60.0}
        clock.advance(60)
        assert browser.get("/session", headers={**page, "Accept": "application/json"}).status_code == 401
        assert browser.get("/").status_code == 303

    def test_a_person_can_make_it_last(self, site: Site, clock: FakeClock) -> None:
        browser = log_in(site, "anna")
        clock.advance(29 * 60)
        page = browser.get("/machines", headers={"Sec-Fetch-Dest": "empty"}).text
        assert re.search(r'data-seconds="60" [^>]*>until <time [^>]*>12:30</time>', page)
        assert browser.post("/session", data={"csrf": "0" * 64}).status_code == 403
        assert browser.post("/session", data={"csrf": browser.form_token}).json() == {"seconds": 1800.0}
        clock.advance(29 * 60)
        assert browser.get("/").status_code == 200

    def test_who_looks_waits_for_no_writer_and_the_use_is_stored_later(
        self, site: Site, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        browser = log_in(site, "anna")
        site.context.token_uses.wait(300)
        tokens, before = SqlAccessTokens(site.records.database), clock.now()
        writers, is_free, begin = list[str](), threading.Event(), Database.begin_write

        def note(database: Database, action: str) -> AbstractContextManager[Connection]:
            writers.append(threading.current_thread().name)
            if writers[-1].startswith("uses of "):
                is_free.wait(600)  # it gives up after half a minute: on busy cores, the pages may take longer
            return begin(database, action)

        monkeypatch.setattr(Database, "begin_write", note)
        with closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            clock.advance(90)
            for path in ("/machines", "/", "/machines"):
                assert browser.get(path).status_code == 200
            assert tokens.list_tokens()[0].used_at == before
            writer.execute("ROLLBACK")
        is_free.set()
        site.context.token_uses.wait(300)
        site.context.sessions.uses.wait(300)
        assert sorted(writers) == ["uses of sessions", "uses of tokens"]  # no request wrote anything
        assert tokens.list_tokens()[0].used_at == clock.now()

    def test_a_removed_token_ends_its_sessions_at_once(self, site: Site) -> None:
        browser = log_in(site, "anna")
        assert browser.get("/").status_code == 200
        SqlAccessTokens(site.records.database).remove("anna")
        assert browser.get("/").status_code == 303

    def test_logging_out_ends_the_session_also_for_a_copy_of_the_cookie(self, site: Site) -> None:
        browser = log_in(site, "anna")
        copy = dict(browser.cookies)
        csrf = browser.form_token
        assert browser.post("/logout", data={"csrf": "0" * 64}).status_code == 403
        assert browser.get("/").status_code == 200
        assert browser.post("/logout", data={"csrf": csrf}).status_code == 303
        assert not browser.cookies
        thief = site.open_browser()
        thief.cookies.update(copy)
        assert thief.get("/").status_code == 303

    def test_a_part_of_a_page_takes_the_whole_page_to_the_login(self, site: Site) -> None:
        headers = {"HX-Request": "true", "HX-Current-URL": f"{site.url}/patch?scope=env=prod"}
        answer = site.open_browser(**headers).get("/patch/check")
        assert answer.status_code == 401
        assert answer.headers["HX-Redirect"] == "/login?next=%2Fpatch%3Fscope%3Denv%3Dprod"

    def test_the_cookie_is_for_this_host_and_tls_only_where_browsers_use_tls(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, public_url="https://fleet.example.org") as site:
            answer = site.open_browser().post("/login", data={"token": add_token(site, "anna")})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-fleetpatch-session=")
        for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
            assert word in cookie
        assert "Max-Age" not in cookie


class TestTokens:
    def test_a_program_sends_a_bearer_token(self, site: Site) -> None:
        token = add_token(site, "prometheus")
        for path in ("/metrics", "/api/v1/machines", "/machines", "/api/v1/openapi.json"):
            refused = site.get(path, headers={"Authorization": f"Bearer {token[:-1]}!"})
            assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer"), path
            assert site.get(path).status_code == 401, path
            assert site.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200, path

    def test_it_ends_at_its_time(self, site: Site, clock: FakeClock) -> None:
        _, token = create_access_token(site.records, "guest", ["view"], 1.0, clock)
        headers = {"Authorization": f"Bearer {token}"}
        assert site.get("/metrics", headers=headers).status_code == 200
        clock.advance(86400)
        assert site.get("/metrics", headers=headers).status_code == 401

    def test_calendar_programs_send_its_name_and_itself(self, site: Site) -> None:
        token = add_token(site, "phone", Role.RUN)

        def ask(path: str, name: str, password: str) -> httpx.Response:
            return site.get(path, auth=(name, password))

        assert site.get("/calendar.ics").headers["www-authenticate"].startswith("Basic ")
        assert ask("/calendar.ics", "phone", token).text.startswith("BEGIN:VCALENDAR")
        assert ask("/calendar.ics", "other", token).status_code == 401
        assert ask("/calendar.ics", "phone", token[:-1] + "!").status_code == 401
        assert ask("/machines", "phone", token).status_code == 401
        nonsense = {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()}
        assert site.get("/calendar.ics", headers=nonsense).status_code == 401


class TestThisMachine:
    def test_somebody_here_may_look_but_not_act(self, tmp_path: Path) -> None:
        (tmp_path / "fleet.yaml").write_text(FLEET)
        with serve_site(tmp_path) as site:
            assert site.get("/machines").status_code == 200
            assert site.get("/api/v1/machines").status_code == 401
            answer = site.open_browser().post("/assess", data={"scope": "*", "once": "a"})
            assert answer.status_code == 403
            assert "role run" in answer.text
            assert [(each.result, each.act, each.subject) for each in read_log(site)] == [
                (AuditResult.REFUSED, "request", "POST /assess")
            ]

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Proto"])
    def test_a_proxy_here_is_not_somebody_here(self, tmp_path: Path, header: str) -> None:
        with serve_site(tmp_path) as site:
            assert site.open_browser(**{header: "127.0.0.1"}).get("/").status_code == 303

    @pytest.mark.parametrize("public_url", ["https://fleet.example.org", "http://192.0.2.7:4280"])
    def test_behind_a_proxy_nobody_is_somebody_here(self, tmp_path: Path, public_url: str) -> None:
        with serve_site(tmp_path, public_url=public_url) as site:
            assert site.open_browser().get("/").status_code == 303
        with serve_site(tmp_path, trusted_proxies=("127.0.0.0/8",)) as site:
            assert site.open_browser().get("/").status_code == 303
        with serve_site(tmp_path, public_url="http://localhost:4280") as site:
            assert site.open_browser().get("/").status_code == 200


class TestProxy:
    SETTINGS: Mapping[str, Any] = {
        "trusted_proxies": ("127.0.0.1",),
        "user_header": "X-Remote-User",
        "roles_header": "X-Roles",
    }

    def test_it_names_the_user_and_the_roles(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, requires_login=True, **self.SETTINGS) as site:
            viewer = site.open_browser(**{"X-Remote-User": "J\u00fcrgen"})
            assert "J\u00fcrgen" in viewer.get("/").text
            nobody = site.open_browser(**{"X-Remote-User": "eve", "X-Roles": "staff, Run"})
            assert nobody.get("/").status_code == 403
            assert site.open_browser().get("/").status_code == 303

    def test_its_users_have_forms_with_a_secret_of_their_browser(self, tmp_path: Path) -> None:
        headers = {"X-Remote-User": "anna", "X-Roles": "staff,run", "X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
        with serve_site(tmp_path, **self.SETTINGS) as site:
            browser = site.open_browser(**headers)
            page = browser.get("/assess")
            assert "HttpOnly" in page.headers["set-cookie"]
            csrf = read_csrf_token(page.text)
            assert "set-cookie" not in browser.get("/assess").headers
            cookies = dict(browser.cookies)
        with serve_site(tmp_path, **self.SETTINGS) as site:  # it is the same after a restart
            browser = site.open_browser(**headers)
            browser.cookies.update(cookies)
            assert browser.post("/assess", data={"scope": "no=such", "csrf": "0" * 64}).status_code == 403
            assert browser.post("/assess", data={"scope": "no=such", "csrf": csrf, "once": "x"}).status_code != 403
            refused = read_log(site)[0]
        assert (refused.who, refused.address, refused.result) == ("anna", "198.51.100.7", AuditResult.REFUSED)

    def test_a_stranger_with_its_header_is_refused(self, tmp_path: Path) -> None:
        settings = {**self.SETTINGS, "trusted_proxies": ("192.0.2.0/24",)}
        with serve_site(tmp_path, **settings) as site:
            answer = site.open_browser(**{"X-Remote-User": "root"}).get("/")
            assert answer.status_code == 403
            assert [(each.who, each.claimed, each.result) for each in read_log(site)] == [
                ("", "root", AuditResult.REFUSED)
            ]


class TestAuditLog:
    def test_what_is_done_stands_in_it_before_and_after(self, site: Site) -> None:
        request = _build_request(site)
        with record_act(request, "patch", "env=prod", "120 minutes"):
            assert [each.result for each in read_log(site)] == [AuditResult.BEGUN]
        with pytest.raises(ValueError, match="no worker"), record_act(request, "cancel", "r-1"):
            raise ValueError("no worker")
        ends = [(each.act, each.result, each.message) for each in read_log(site)]
        assert ends == [
            ("patch", AuditResult.BEGUN, ""),
            ("patch", AuditResult.DONE, ""),
            ("cancel", AuditResult.BEGUN, ""),
            ("cancel", AuditResult.FAILED, "ValueError: no worker"),
        ]

    def test_nothing_is_done_if_it_cannot_be_written(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RecordsUnavailable("the disk is full")

        monkeypatch.setattr(SqlAuditLog, "append", fail)
        done: list[str] = []
        with pytest.raises(RecordsUnavailable), record_act(_build_request(site), "patch", "*"):
            done.append("patched")
        assert not done

    def test_it_is_a_page_in_parts(self, site: Site) -> None:
        log = SqlAuditLog(site.records.database)
        for number in range(250):
            log.append(
                AuditEntry(
                    at=NOW,
                    who="<b>anna</b>",
                    address="",
                    act="patch",
                    subject=f"env={number}.",
                    detail="",
                    result=AuditResult.DONE,
                )
            )
        log.append(
            AuditEntry(
                at=NOW,
                who="anna",
                address="",
                act="deploy",
                subject="",
                detail='{"serve": "True", "names": ["<i>"]}',
                result=AuditResult.DONE,
            )
        )
        browser = log_in(site, "bert")
        page = browser.get("/audit").text
        assert "<small>serve: True, names: [&#34;&lt;i&gt;&#34;]</small>" in page
        assert "env=249." in page
        assert "env=40." not in page
        assert "<b>anna" not in page
        older = browser.get("/audit?" + page.split('rel="next" href="?', 1)[1].split('"')[0].replace("&amp;", "&")).text
        assert "env=40." in older
        assert "Nobody has done anything that matches" in browser.get("/audit?who=nobody").text


def _build_request(site: Site) -> Any:
    state = SimpleNamespace(identity=Identity("anna", frozenset(Role), "token", address="192.0.2.9"))
    return SimpleNamespace(state=state, app=SimpleNamespace(state=SimpleNamespace(context=site.context)))


def test_what_is_below_the_api_is_a_problem_and_no_page(tmp_path: Path) -> None:
    with serve_site(tmp_path, requires_login=True) as closed:
        bearer = {"Authorization": f"Bearer {add_token(closed, 'program')}"}
        for path in ("/api/v1/runs/a%0Ab", "/api/v2/runs", "/api/"):
            answer = closed.get(path, headers=bearer)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
            assert answer.json()["hint"]
