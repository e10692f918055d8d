"""The pages behind a real nginx with the configuration of the documents, and a sign-on that it asks."""

import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetpatch.access.roles import Role
from fleetpatch.web.live_hub import MAX_STREAM_SECONDS
from tasks.records.audit.log import SqlAuditLog
from tests.ci.tree import TOP
from tests.support.free_port import free_port
from tests.support.nginx import needs_nginx, run_nginx, serve_sign_on
from tests.support.web_fleet import fill_site
from tests.support.web_login import add_token, read_csrf_token
from tests.support.web_site import Site, serve_site

pytestmark = needs_nginx

VISITOR = "127.0.0.2"
"""Visitors have another address than nginx, which is a trusted proxy."""


@dataclass
class Front:
    """nginx before the pages."""

    url: str
    certificate: Path
    site: Site
    browsers: list[httpx.Client] = field(default_factory=list)

    def open_browser(self, sso: str = "", **headers: str) -> httpx.Client:
        """Return a browser that logged in at the sign-on: "anna.run.approve"."""
        said = {"Accept": "text/html", "Origin": self.url, **headers}
        trust = ssl.create_default_context(cafile=str(self.certificate))
        line = httpx.HTTPTransport(verify=trust, local_address=VISITOR)
        browser = httpx.Client(base_url=self.url, transport=line, timeout=60.0, headers=said)
        if sso:
            browser.cookies.set("sso", sso)
        self.browsers.append(browser)
        return browser


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    place = tmp_path / "nginx"
    place.mkdir()
    fill_site(tmp_path)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    proxy: dict[str, Any] = {
        "trusted_proxies": ("127.0.0.1",),
        "user_header": "X-Remote-User",
        "roles_header": "X-Remote-Roles",
    }
    with serve_site(tmp_path, public_url=url, **proxy) as site, serve_sign_on() as sign_on:
        (documented,) = re.findall(
            r"```nginx\n(.*?)```", (TOP / "docs/how-to/pages-access.md").read_text(), flags=re.DOTALL
        )
        assert documented.count("127.0.0.1:4280") == documented.count("127.0.0.1:4180") == 1
        locations = documented.replace("http://127.0.0.1:4280", site.url).replace(
            "127.0.0.1:4180", f"127.0.0.1:{sign_on}"
        )
        with run_nginx(place, port, locations) as certificate:
            found = Front(url, certificate, site)
            yield found
            for browser in found.browsers:
                browser.close()


def test_nobody_comes_past_the_sign_on(front: Front) -> None:
    stranger = front.open_browser(**{"X-Remote-User": "root", "X-Remote-Roles": "run,approve"})
    for path in ("/", "/machines", "/api/v1/machines", "/login", "/auth"):
        assert stranger.get(path).status_code in {401, 404}, path
    line = httpx.HTTPTransport(local_address=VISITOR)
    with httpx.Client(base_url=front.site.url, transport=line, headers=stranger.headers) as past_nginx:
        assert past_nginx.get("/machines", headers={"Host": "127.0.0.1"}).status_code == 403


def test_the_user_of_the_sign_on_looks_and_acts(front: Front) -> None:
    anna = front.open_browser("anna.run")
    page = anna.get("/")
    assert page.status_code == 200
    assert "anna" in page.text
    form = anna.get("/assess")
    refused = anna.post("/assess", data={"csrf": "0" * 64, "scope": "*", "once": "a"})
    assert refused.status_code == 403
    foreign = {"csrf": read_csrf_token(form.text), "scope": "*", "once": "a"}
    assert anna.post("/assess", data=foreign, headers={"Origin": "https://evil.example"}).status_code == 403
    wrong = anna.post("/assess", data={**foreign, "scope": "no-such=machine=="})
    assert wrong.status_code == 400, wrong.text  # the act was allowed, and its scope was read
    entries = SqlAuditLog(front.site.records.database).read(limit=20)
    assert {each.who for each in entries if each.who} == {"anna"}
    assert {each.address for each in entries} == {VISITOR}


def test_headers_of_the_visitor_give_no_name_and_no_role(front: Front) -> None:
    forged = {"X-Remote-User": "root", "X-Remote-Roles": "run,approve", "X-Forwarded-For": "203.0.113.9"}
    bert = front.open_browser("bert.view", **forged)
    page = bert.get("/")
    assert "bert" in page.text
    assert "root" not in page.text
    (approval,) = set(re.findall(r"/approvals/([\w.-]+)", bert.get("/approvals").text))
    data = {"csrf": read_csrf_token(bert.get("/patch").text), "plan": "0" * 64, "remark": ""}
    assert bert.post(f"/approvals/{approval}/approve", data=data).status_code == 403
    entries = SqlAuditLog(front.site.records.database).read(limit=20)
    assert {each.address for each in entries} == {VISITOR}  # what nginx saw, not what the visitor says


def test_live_parts_come_at_once(front: Front) -> None:
    """nginx holds answers back until its buffer is full, unless it is told not to."""
    began = time.monotonic()
    with front.open_browser("anna.view").stream("GET", "/live/runs") as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        found = ""
        for text in stream.iter_text():
            found += text
            if "event: " in found:
                break
        assert "event: " in found
    assert time.monotonic() - began < MAX_STREAM_SECONDS  # not only when the stream has ended


def test_a_token_through_the_proxy_is_left_out_as_the_documents_say(front: Front) -> None:
    token = add_token(front.site, "prometheus", Role.VIEW)
    program = front.open_browser("anna.view", Authorization=f"Bearer {token}")
    assert program.get("/api/v1/machines").status_code == 401
