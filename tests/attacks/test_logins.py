"""Attacks on the logins of the pages: from another port of this machine, with copied cookies, used links, and SQL."""

import base64
import hashlib
import hmac
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser, expect

from fleetpatch.access.providers.person import LoginRefused
from fleetpatch.access.roles import Role
from fleetpatch.access.token_secrets import digest_secret
from tests.contract.web.test_oidc import Desk, serve_desk
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.fake_clock import FakeClock
from tests.support.oidc_provider import CLIENT
from tests.support.slapd import BASE, PASSWORD, run_slapd
from tests.support.web_fleet import fill_site
from tests.support.web_login import add_link, log_in
from tests.support.web_site import serve_site
from tests.support.web_target import Target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Pages without TLS on 127.0.0.1, as `fleetpatch web` serves them, with a run that goes on."""
    place = tmp_path_factory.mktemp("attacked")
    fleet = fill_site(place)
    with serve_site(place, clock=FakeClock(fleet.now)) as site:
        yield Target(site, fleet)


@contextmanager
def listen() -> Iterator[tuple[str, list[str]]]:
    """Yield another user's listener on this machine: its address, and the cookies that browsers have sent it."""
    cookies = list[str]()

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>here</h1>")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", cookies
    finally:
        server.shutdown()
        server.server_close()


def is_cancelled(target: Target, run: str) -> bool:
    lease = target.site.records.leases.find_lease(target.fleet.runs[run])
    return lease is not None and lease.stop is not None


def test_another_port_of_this_machine_cancels_nothing_with_the_cookie_that_it_gets(
    target: Target,
    browser: Browser,  # noqa: F811
) -> None:
    """Attacker: another user of this machine, who listens on a port of 127.0.0.1 that anna's browser visits.

    Way: browsers send cookies to every port of a host. The cookie opens each page; the secret of a form is computed
    from it as before, read from the pages, left out, or guessed.
    What must hold: nothing is cancelled or started; only anna's own browser does that.
    """
    run = target.fleet.runs["live"]
    context = browser.new_context()
    with listen() as (address, cookies):
        page = context.new_page()
        page.goto(add_link(target.site, "anna", Role.RUN, Role.APPROVE))
        expect(page.locator(".who")).to_contain_text("anna")
        page.goto(address)
        assert page.evaluate("Object.entries({...localStorage, ...sessionStorage})") == []
        (cookie,) = {text for text in cookies if text}
    secret = cookie.partition("=")[2]

    thief = target.site.open_browser(Cookie=cookie)
    form = thief.get(f"/runs/{run}/cancel")
    assert "anna" in form.text  # the cookie does open pages
    computed = hashlib.sha256(f"csrf\0{secret}\0anna".encode()).hexdigest()
    for csrf in (computed, secret, digest_secret(secret), "", "0" * 64):
        for path, data in ((f"/runs/{run}/cancel", {}), ("/assess", {"scope": "*", "once": csrf})):
            assert thief.post(path, data={"csrf": csrf, **data}).status_code == 403, csrf
    for opened in ("/", "/assess", "/patch", "/login", f"/runs/{run}", f"/runs/{run}/cancel", "/session"):
        assert set(_find_tokens(thief.get(opened).text)) <= {""}, opened
    assert not is_cancelled(target, "live")

    page.goto(f"{target.site.url}/runs/{run}/cancel")
    page.locator("main form button").click()
    expect(page).to_have_url(f"{target.site.url}/runs/{run}")
    assert is_cancelled(target, "live")
    context.close()


def _find_tokens(page: str) -> list[str]:
    return [part.split('"', 1)[0] for part in page.split('name="csrf" value="')[1:]]


def test_a_page_of_another_port_sends_no_form_through_the_browser(
    target: Target,
    browser: Browser,  # noqa: F811
) -> None:
    """Attacker: the same listener, whose page makes anna's browser send a form to the pages' port.

    Way: the browser adds the cookie by itself, as both ports are one site for it.
    What must hold: the request is refused; nothing begins.
    """
    context = browser.new_context()
    with listen() as (address, _):
        page = context.new_page()
        page.goto(add_link(target.site, "bert", Role.RUN))
        expect(page.locator(".who")).to_contain_text("bert")
        page.goto(address)
        page.evaluate(
            """url => {
                const form = document.createElement("form");
                form.method = "post";
                form.action = url;
                form.innerHTML = '<input name="scope" value="*"><input name="once" value="a"><input name="csrf">';
                document.body.append(form);
                form.submit();
            }""",
            f"{target.site.url}/assess",
        )
        expect(page.locator("main")).to_contain_text("comes from another site")
    context.close()


def test_a_link_that_was_used_opens_nothing(target: Target) -> None:
    """Attacker: somebody who reads a used link: from a terminal's history, or over a shoulder.

    Way: the code is sent again; then a code is cut, and sent as an address.
    What must hold: no login, and the audit log has the try.
    """
    code = add_link(target.site, "carl", Role.RUN).partition("#")[2]
    assert target.site.open_browser().post("/login/link", data={"code": code}).status_code == 200
    thief = target.site.open_browser()
    for tried in (code, code[:-1], ""):
        assert thief.post("/login/link", data={"code": tried}).status_code in {400, 403}
    assert thief.get(f"/login/link?code={code}").status_code == 405
    assert not thief.cookies
    assert "the one-time link is not valid" in {entry.message for entry in target.read_log()}


def test_a_link_that_is_too_old_opens_nothing(tmp_path: Path) -> None:
    """Attacker: somebody who finds a link that was made and never used.

    Way: it is opened eleven minutes later.
    What must hold: no login.
    """
    clock = FakeClock(fill_site(tmp_path).now)
    with serve_site(tmp_path, clock=clock) as site:
        code = add_link(site, "anna").partition("#")[2]
        clock.advance(600)
        assert site.open_browser().post("/login/link", data={"code": code}).status_code == 403


def test_sql_makes_no_session_and_no_role(tmp_path: Path) -> None:
    """Attacker: somebody who can write the records of the pages, but can't read their key.

    Way: a session's roles, name and end are changed; a session and a link with known secrets are inserted.
    What must hold: none of them is a login.
    """
    fill_site(tmp_path)
    with serve_site(tmp_path, requires_login=True) as site, closing(sqlite3.connect(tmp_path / "records.db")) as sql:
        for column, value in (("roles", "view\nrun"), ("name", "root"), ("expires_at", "2099-01-01 00:00:00")):
            viewer = log_in(site, "eve")
            assert viewer.get("/").status_code == 200
            sql.execute(f"UPDATE web_sessions SET {column} = ?", (value,))
            sql.commit()
            assert viewer.get("/").status_code == 303, column
        mine, code = "A" * 43, "B" * 43
        sql.execute("UPDATE web_sessions SET digest = ? WHERE name = 'root' AND roles = 'view'", (digest_secret(mine),))
        link = "INSERT INTO login_links VALUES (?, 'root', 'run', '2099-01-01 00:00:00', ?)"
        sql.execute(link, (digest_secret(code), "0" * 64))
        sql.commit()
        assert site.open_browser(Cookie=f"fleetpatch-session={mine}").get("/").status_code == 303
        assert site.open_browser().post("/login/link", data={"code": code}).status_code == 403


def test_a_token_is_not_taken_without_tls(target: Target) -> None:
    """Attacker: a program that has taken the pages' port before they were started, and asks for a token.

    What must hold: pages without TLS never ask for one, so nobody is used to type it there; and they refuse it.
    """
    answer = target.site.get("/login")
    assert "Access token" not in answer.text
    assert "fleetpatch web login" in answer.text
    refused = target.site.open_browser().post("/login", data={"token": "fp_" + "x" * 43})
    assert refused.status_code == 403
    assert not httpx.Cookies(refused.cookies)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Pages with TLS whose people log in at a real OpenID Connect provider."""
    yield from serve_desk(tmp_path_factory.mktemp("sso"))


def test_an_answer_of_the_provider_logs_in_only_the_browser_that_has_asked_and_once(desk: Desk) -> None:
    """Attacker: somebody with a login at the provider, who wants another's browser to use it (login CSRF), or who has
    read an answer in a log.

    Way: the answer is opened in another browser; with another state; a second time; with an answer's issuer changed.
    What must hold: only the browser that has begun the login is logged in, once.
    """
    visitor, address = desk.begin("anna")
    forged = [address.replace("state=", "state=x"), re.sub(r"state=[^&]*&?", "", address)]
    forged.append(address.replace("iss=https", "iss=https%3A%2F%2Fevil.example.org&x="))
    stranger = desk.site.open_browser()
    assert stranger.get(address).status_code == 403
    for answer in forged:
        other, _ = desk.begin("anna")
        assert other.get(answer).status_code == 403, answer
        assert other.get("/").status_code == 303
    assert visitor.get(address).status_code == 303
    assert visitor.get("/").status_code == 200
    assert desk.site.open_browser(Cookie=_list_cookies(visitor)).get(address).status_code == 403


def _list_cookies(visitor: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


def test_forged_tokens_of_a_provider_are_refused(desk: Desk) -> None:
    """Attacker: another client of the same provider, another provider, or somebody between it and the pages.

    Way: ID tokens with a wrong nonce, issuer, audience, authorized party, end, or without a signature; with the
    provider's public key as the secret of an HMAC; signed with a key of the attacker.
    What must hold: none is taken.
    """
    oidc = desk.site.context.logins.oidc if desk.site.context.logins is not None else None
    assert oidc is not None
    key = RSAKey.import_key(desk.provider.settings["keys"]["keys"][0])
    now = int(time.time())
    good = {"iss": desk.provider.issuer, "aud": CLIENT, "sub": "anna", "iat": now, "exp": now + 300, "nonce": "n"}
    header = {"alg": "RS256", "kid": key.kid}
    assert oidc.read_id_token(jwt.encode(header, good, key), nonce="n")["sub"] == "anna"
    wrong: list[dict[str, Any]] = [
        {"nonce": "m"},
        {"nonce": None},
        {"iss": "https://evil.example.org"},
        {"iss": f"{desk.provider.issuer}/"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": []},
        {"azp": "another"},
        {"exp": now - 100_000},
        {"exp": None},
        {"iat": now + 100_000},
        {"nbf": now + 100_000},
        {"sub": None},
    ]
    for changes in wrong:
        claims = {name: value for name, value in (good | changes).items() if value is not None}
        with pytest.raises(LoginRefused):
            oidc.read_id_token(jwt.encode(header, claims, key), nonce="n")
    body = jwt.encode(header, good, key).split(".")[1]
    for text in ({"alg": "none"}, {"alg": "None", "kid": key.kid}, {"alg": "none", "kid": key.kid}):
        unsigned = base64.urlsafe_b64encode(json.dumps(text).encode()).decode().rstrip("=")
        with pytest.raises(LoginRefused):
            oidc.read_id_token(f"{unsigned}.{body}.", nonce="n")
    public = key.as_pem(private=False)
    start = jwt.encode({**header, "typ": "JWT"}, good, key).split(".")
    start[0] = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": key.kid}).encode()).decode().rstrip("=")
    mac = hmac.digest(public, ".".join(start[:2]).encode(), "sha256")
    foreign = RSAKey.generate_key(2048, {"kid": key.kid or ""})
    with pytest.raises(LoginRefused):
        oidc.read_id_token(".".join([*start[:2], base64.urlsafe_b64encode(mac).decode().rstrip("=")]), nonce="n")
    for kid in (key.kid, "unknown"):
        with pytest.raises(LoginRefused):
            oidc.read_id_token(jwt.encode({"alg": "RS256", "kid": kid}, good, foreign), nonce="n")


def test_pictures_on_a_foreign_page_lock_nobody_out(desk: Desk) -> None:
    """Attacker: a page on the internet, that somebody of the same office looks at.

    Way: it shows pictures from the address where the provider's answers arrive: each is a login that fails.
    What must hold: the office logs in as before, with the provider and otherwise.
    """
    stranger = desk.site.open_browser()
    for number in range(15):
        assert stranger.get(f"/login/oidc/callback?state={number}").status_code == 403
    assert desk.site.open_browser().post("/login", data={"token": "wrong"}).status_code == 403
    assert desk.log_in("anna")[1].status_code == 303


def test_a_name_is_never_a_filter_and_no_password_is_no_login(tmp_path: Path) -> None:
    """Attacker: somebody at the login page, without a password of the directory.

    Way: names that are filters of LDAP, and an empty password, with which servers bind as nobody and say yes.
    What must hold: no login.
    """
    with run_slapd(tmp_path / "slapd") as server:
        person = server.add_person("anna")
        server.load({f"cn=ops,ou=groups,{BASE}": {"objectClass": "groupOfNames", "member": [person]}})
        file = server.write_login_file([{"group": "ops", "roles": ["run"]}])
        with serve_site(tmp_path, makes_certificate=True, requires_login=True, logins=file) as site:
            for name in ("*", "anna)(|(uid=*", "*)(uid=anna", "a*", person):
                visitor = site.open_browser()
                assert visitor.post("/login/ldap", data={"name": name, "password": PASSWORD}).status_code == 403
                assert visitor.get("/").status_code == 303
            visitor = site.open_browser()
            for password in ("", "\0", " "):
                refused = visitor.post("/login/ldap", data={"name": "anna", "password": password})
                assert refused.status_code in {400, 403}
            assert visitor.get("/").status_code == 303
            assert visitor.post("/login/ldap", data={"name": "anna", "password": PASSWORD}).status_code == 303
            assert visitor.get("/").status_code == 200
