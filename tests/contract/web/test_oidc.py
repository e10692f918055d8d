"""Logins by OpenID Connect, at a real certified provider: who may do what, until when, and when it is away."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetpatch.access.roles import Role
from fleetpatch.access.token_secrets import digest_secret
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.log import SqlAuditLog
from tasks.records.web_sessions import SqlWebSessions, WebSession
from tests.support.fake_clock import FakeClock
from tests.support.free_port import free_port
from tests.support.oidc_provider import OidcServer, build_keys, run_oidc_provider
from tests.support.web_login import read_csrf_token
from tests.support.web_site import PATIENCE, Browser, Site, serve_site

ROLES = ({"group": "fleet-operators", "roles": ["run"]}, {"group": "approvers", "roles": ["approve"]})


@dataclass
class Desk:
    """Pages, their provider, and its people."""

    site: Site
    provider: OidcServer
    clock: FakeClock

    def log_in(self, name: str, target: str = "/machines") -> tuple[Browser, httpx.Response]:
        """Log a new browser in through the provider, and return it with the pages' answer."""
        browser, address = self.begin(name, target)
        return browser, browser.get(address)

    def begin(self, name: str, target: str = "/") -> tuple[Browser, str]:
        """Log a new browser in at the provider, and return it with the address that leads it back."""
        browser = self.site.open_browser()
        begun = browser.get("/login/oidc", params={"next": target})
        assert begun.status_code == 303, begun.text
        with open_visitor() as visitor:
            return browser, self.visit_provider(visitor, begun.headers["location"], name)

    def visit_provider(self, visitor: httpx.Client, url: str, name: str) -> str:
        """Log in at the provider, and return the address that it sends the browser back to."""
        answer = visitor.get(url)
        while not answer.headers.get("location", "").startswith(self.site.url):
            if answer.is_redirect:
                answer = visitor.get(str(httpx.URL(url).join(answer.headers["location"])))
            else:
                assert answer.status_code == 200, answer.text
                answer = visitor.post(answer.url, data={"login": name})
        return str(answer.headers["location"])

    def read_log(self) -> list[AuditEntry]:
        return list(SqlAuditLog(self.site.records.database).read(100))


def open_visitor() -> httpx.Client:
    """Return a browser for the provider."""
    return httpx.Client(verify=False, trust_env=False, timeout=PATIENCE, follow_redirects=False)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    yield from serve_desk(tmp_path_factory.mktemp("sso"))


def serve_desk(place: Path, **settings: Any) -> Iterator[Desk]:
    port, clock = free_port(), FakeClock(datetime.now(UTC))
    accounts: dict[str, Sequence[str]] = {
        "anna": ["fleet-operators", "staff"],
        "bert": ["approvers", "fleet-operators"],
        "carl": ["staff"],
    }
    (place / "provider").mkdir()
    (place / "pages").mkdir()
    with (
        run_oidc_provider(place / "provider", f"https://127.0.0.1:{port}", accounts, **settings) as provider,
        serve_site(
            place / "pages",
            clock=clock,
            port=port,
            requires_login=True,
            makes_certificate=True,
            idle_minutes=720,
            logins=provider.write_login_file(ROLES),
        ) as site,
    ):
        yield Desk(site, provider, clock)


def test_somebody_logs_in_at_the_provider_and_has_the_roles_of_the_groups(desk: Desk) -> None:
    assert "Log in with Example SSO" in desk.site.open_browser().get("/login").text
    browser, answer = desk.log_in("anna", "/machines?q=a%26b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/machines?q=a%26b&via=login")
    assert answer.headers["set-cookie"].startswith("__Host-fleetpatch-")
    page = browser.get("/assess").text
    assert "<span>anna</span>" in page
    assert {(entry.who, entry.act) for entry in desk.read_log()} >= {("anna", "login")}
    csrf = read_csrf_token(page)
    assert browser.post("/approvals/x/approve", data={"csrf": csrf}).status_code == 403  # needs approve
    assert "role approve" in desk.read_log()[0].message
    assert browser.post("/assess", data={"csrf": csrf, "scope": "no=such", "once": "a"}).status_code != 403


def test_somebody_in_no_group_with_a_role_is_refused(desk: Desk) -> None:
    browser, answer = desk.log_in("carl")
    assert answer.status_code == 403
    assert "carl is in no group that has a role here" in answer.text
    assert browser.get("/").status_code == 303


def test_logging_out_at_the_provider_ends_all_sessions_of_the_person_here(desk: Desk) -> None:
    # Before any test that moves the clock of the pages: such tokens are valid for two minutes.
    browser, address = desk.begin("anna")
    other, _ = desk.log_in("anna")
    bystander, _ = desk.log_in("bert")
    browser.get(address)
    with open_visitor() as visitor:
        begun = desk.site.open_browser()
        url = begun.get("/login/oidc").headers["location"]
        begun.get(desk.visit_provider(visitor, url, "anna"))
        csrf = read_csrf_token(begun.get("/assess").text)
        page = begun.post("/logout", data={"csrf": csrf}).text
        asked = visitor.get(html.unescape(re.findall(r'href="(https://[^"]*/session/end[^"]*)"', page)[0]))
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text))
        done = visitor.post(f"{desk.provider.issuer}/session/end/confirm", data={**fields, "logout": "yes"})
        assert done.headers["location"] == f"{desk.site.url}/login"
    assert other.get("/").status_code == browser.get("/").status_code == 303
    assert bystander.get("/").status_code == 200


def test_a_change_of_groups_counts_at_the_next_check(desk: Desk) -> None:
    browser, _ = desk.log_in("bert")
    assert set(find_session(desk, browser).roles) == {Role.RUN, Role.APPROVE}
    desk.provider.accounts["bert"] = ["approvers"]
    desk.provider.write()
    desk.clock.advance(7 * 60)
    assert browser.get("/").status_code == 200
    assert set(find_session(desk, browser).roles) == {Role.RUN, Role.APPROVE}  # asked lately
    desk.clock.advance(60)
    assert browser.get("/").status_code == 200
    assert set(find_session(desk, browser).roles) == {Role.APPROVE}
    desk.provider.accounts["bert"] = []
    desk.provider.write()
    desk.clock.advance(8 * 60)
    assert browser.get("/").status_code == 303
    assert "bert is in no group" in desk.read_log()[0].message


def test_somebody_whom_the_provider_has_removed_is_out_at_the_next_check(desk: Desk) -> None:
    desk.provider.accounts["dora"] = ["fleet-operators"]
    desk.provider.write()
    browser, _ = desk.log_in("dora")
    del desk.provider.accounts["dora"]
    desk.provider.write()
    desk.clock.advance(8 * 60)
    assert browser.get("/").status_code == 303


def test_many_requests_at_once_use_a_refresh_token_once(desk: Desk) -> None:
    from concurrent.futures import ThreadPoolExecutor

    browser, _ = desk.log_in("anna")
    desk.clock.advance(10 * 60)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: browser.get("/health").status_code, range(8))) == {200}
        assert {answer.status_code for answer in pool.map(lambda _: browser.get("/machines"), range(8))} == {200}
    desk.clock.advance(10 * 60)
    assert browser.get("/").status_code == 200  # its refresh token was not used twice, which would have ended it


def test_logging_out_ends_it_here_and_leads_to_the_provider(desk: Desk) -> None:
    browser, _ = desk.log_in("anna")
    csrf = read_csrf_token(browser.get("/assess").text)
    answer = browser.post("/logout", data={"csrf": csrf})
    assert answer.status_code == 200
    assert f"{desk.provider.issuer}/session/end?" in answer.text
    assert "id_token_hint" in answer.text
    assert browser.get("/").status_code == 303


def test_keys_that_the_provider_has_changed_are_read_anew(desk: Desk) -> None:
    desk.log_in("anna")
    desk.provider.stop()
    desk.provider.write(keys=build_keys("second"))
    desk.provider.start()
    _, answer = desk.log_in("anna")
    assert answer.status_code == 303


def test_while_the_provider_is_away_sessions_hold_until_their_check_is_overdue(desk: Desk) -> None:
    browser, _ = desk.log_in("anna")
    desk.provider.stop()
    try:
        desk.clock.advance(14 * 60)
        assert browser.get("/").status_code == 200
        desk.clock.advance(60)
        answer = browser.get("/")
        assert answer.status_code == 503
        assert "the login provider does not answer" in answer.text
        begun = desk.site.open_browser().get("/login/oidc")
        assert begun.status_code in {303, 503}  # its description may be known still
        assert browser.get("/login").status_code == 200
    finally:
        desk.provider.start()
    desk.clock.advance(60)
    assert browser.get("/").status_code in {200, 303}  # a provider that keeps nothing in memory remembers its tokens


def test_a_provider_that_was_never_there_is_said_on_the_login_page(tmp_path: Path) -> None:
    place = tmp_path / "provider"
    place.mkdir()
    (place / "cert.pem").touch()
    file = OidcServer(place, {}).write_login_file(ROLES)
    with serve_site(tmp_path, makes_certificate=True, logins=file) as site:
        answer = site.open_browser().get("/login/oidc")
    assert answer.status_code == 503
    assert "the login provider does not answer" in answer.text
    assert "an access token logs in" in answer.text


def find_session(desk: Desk, browser: Browser) -> WebSession:
    """Return the session of a browser."""
    digest = digest_secret(browser.cookies["__Host-fleetpatch-session"])
    session = SqlWebSessions(desk.site.records.database).find(digest)
    assert session is not None
    return session
