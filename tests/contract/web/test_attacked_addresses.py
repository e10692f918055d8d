"""Attacks on the pages through addresses, headers and bodies. test_attacks.py has those on logins and forms."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from fleetpatch.pages.login import clean_target
from tests.support.web_login import add_link
from tests.support.web_target import Target


class TestAddresses:
    @pytest.mark.parametrize(
        "target_address",
        [
            "//evil.example.org",
            "/\\evil.example.org",
            "\\\\evil.example.org",
            "https://evil.example.org",
            "javascript:alert(1)",
            "/x\r\nSet-Cookie: a=b",
            "/\t/evil.example.org",
            " //evil.example.org",
            "/logout",
            "",
        ],
    )
    def test_a_login_leads_only_to_these_pages(self, target: Target, target_address: str) -> None:
        assert clean_target(target_address) == "/"
        browser = target.site.open_browser()
        code = add_link(target.site, f"led-{time.monotonic_ns()}").partition("#")[2]
        answer = browser.post("/login/link", data={"code": code, "next": target_address})
        assert answer.json()["next"] == "/"
        assert "a=b" not in str(answer.headers)

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../server.py",
            "/static/%2e%2e/server.py",
            "/static/..%2fserver.py",
            "/static/....//server.py",
            "/static//etc/passwd",
            "/static/%00",
            "/runs/..%2f..%2fetc%2fpasswd",
            "/runs/%2e%2e/report",
            "/machines/..%2f..%2fetc%2fshadow",
            "/runs/{failed}/machines/..%2f..%2fetc%2fpasswd",
            "/api/v1/runs/..%2f..%2fetc%2fpasswd",
        ],
    )
    def test_no_path_leaves_the_pages(self, target: Target, path: str) -> None:
        cookie = "; ".join(f"{name}={value}" for name, value in target.browser.cookies.items())
        head = f"GET {target.find(path)} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        answer = target.send_raw(head.encode())
        assert re.match(rb"HTTP/1.1 (400|401|404|405|307) ", answer), answer[:200]
        assert b"root:" not in answer
        assert b"uvicorn" not in answer

    @pytest.mark.parametrize(
        "hosts",
        [
            ["rebound.evil.example.org"],
            ["127.0.0.1.evil.example.org"],
            ["localhost.evil.example.org"],
            ["127.0.0.1@evil.example.org"],
            [""],
            [],
            ["127.0.0.1", "evil.example.org"],
            ["["],
            ["127.0.0.1/static/?"],
            ["evil.example.org@127.0.0.1"],
            ["127.0.0.1:80:80"],
            ["127.0.0.1#.evil.example.org"],
            ["127.0.0.1, evil.example.org"],
        ],
        ids=str,
    )
    def test_a_foreign_name_that_points_here(self, target: Target, hosts: list[str]) -> None:
        lines = "".join(f"Host: {each}\r\n" for each in hosts)
        answer = target.send_raw(
            f"GET / HTTP/1.1\r\n{lines}X-Forwarded-Host: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]

    def test_bodies_that_are_too_long(self, target: Target) -> None:
        big = {"csrf": target.csrf, "scope": "x" * (2 << 20)}
        assert target.browser.post("/assess", data=big).status_code == 413

        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield b"x" * (64 << 10)

        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            status = target.browser.post("/assess", content=chunks(), headers=kind).status_code
        except httpx.WriteError:  # it has answered and closed before all was sent
            status = 413
        assert status == 413
        assert target.browser.get("/health").status_code == 200

    def test_other_methods_and_other_origins(self, target: Target) -> None:
        for method in ("TRACE", "CONNECT", "OPTIONS", "PROPFIND"):
            assert target.browser.request(method, "/").status_code in {400, 405}, method
        for path in ("/", "/api/v1/machines", "/metrics"):
            answer = target.browser.get(path, headers={"Origin": "https://evil.example.org"})
            assert not [name for name in answer.headers if name.startswith("access-control")], path


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login",
        "/nothing",
        "/static/app.js",
        "/api/v1/machines",
        "/api/v1/nothing",
        "/health",
        "/audit",
        "/?token=x",
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_every_answer_forbids_frames_scripts_and_guesses(target: Target, path: str, is_known: bool) -> None:
    browser = target.browser if is_known else target.site.open_browser()
    headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert headers["referrer-policy"] == "same-origin"
    assert path.startswith("/static/") or headers["cache-control"] == "no-store"
    assert "server" not in headers
