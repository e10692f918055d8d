"""Attacks through what stands before the pages: proxies, forwarders of connections, and many addresses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from fleetpatch.access.limiter import MAX_FAILURES, FailureLimiter
from fleetpatch.access.network import Peer, is_from_these_pages, parse_address, parse_networks
from fleetpatch.access.roles import parse_roles
from fleetpatch.settings import WebSettings
from tasks.domain.errors import RequestError
from tasks.records.audit.log import SqlAuditLog
from tests.support.web_login import log_in, read_csrf_token
from tests.support.web_site import serve_site


class TestForwarders:
    SETTINGS: Mapping[str, Any] = {
        "trusted_proxies": ("127.0.0.1",),
        "user_header": "X-Remote-User",
        "roles_header": "X-Roles",
    }

    @pytest.mark.parametrize(
        ("lines", "address"),
        [
            (["203.0.113.9"], "203.0.113.9"),
            (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),  # HAProxy adds a header behind the visitor's
            (["1.1.1.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),  # two trusted proxies
            (["203.0.113.9:4711"], "203.0.113.9"),
            (["[2001:db8::9]:4711"], "2001:db8::9"),
            (["1.1.1.1, unknown"], "10.0.0.5"),
            (["<script>"], "10.0.0.5"),
            ([], "10.0.0.5"),
        ],
        ids=str,
    )
    def test_the_address_is_what_the_trusted_proxy_saw(self, lines: list[str], address: str) -> None:
        headers = Headers(raw=[(b"x-forwarded-for", each.encode()) for each in lines])
        trusted = parse_networks(["10.0.0.0/24"])
        assert Peer(parse_address("10.0.0.5"), headers, trusted).display == address
        assert Peer(parse_address("192.0.2.1"), headers, trusted).display == "192.0.2.1"

    @pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
    def test_not_everybody_can_be_a_trusted_proxy(self, network: str) -> None:
        with pytest.raises(RequestError, match="everybody"):
            parse_networks([network])

    def test_a_forwarder_here_opens_nothing_where_others_can_connect(self, tmp_path: Path) -> None:
        """A container's port, ssh -R or a TCP balancer: all connections come from this machine, without a header."""
        with serve_site(tmp_path, host="0.0.0.0", allows_plain_http=True) as site:
            assert site.open_browser().get("/").status_code == 303
            assert log_in(site, "anna").get("/").status_code == 200

    @pytest.mark.parametrize("header", ["X-Forwarded-User", "X-Forwarded-Port", "CF-Connecting-IP", "X-Client-IP"])
    def test_what_a_proxy_adds_tells_it(self, header: str) -> None:
        headers = Headers({header: "x"})
        assert not Peer(parse_address("127.0.0.1"), headers, ()).is_local
        assert Peer(parse_address("127.0.0.1"), Headers({}), ()).is_local

    def test_odd_headers_of_the_trusted_proxy(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, **self.SETTINGS) as site:
            for name in ("X_Remote_User", "X-Remote_User", "X-Remote-User-2"):
                assert site.open_browser(**{name: "root"}).get("/").status_code == 303
            for users in (["anna", "root"], ["anna\u200b"], ["a" * 201]):
                headers = [(b"X-Remote-User", each.encode()) for each in users]
                assert site.get("/", headers=headers).status_code == 403
            anna = site.open_browser(**{"X-Remote-User": "anna", "X-Roles": "run"})
            assert anna.get("/api/v1/machines").status_code == 401  # the API is for tokens only
            csrf = read_csrf_token(anna.get("/assess").text)
            anna.headers["X-Remote-User"] = "bert"  # the secret of a form is the person's, not only the browser's
            assert anna.post("/assess", data={"csrf": csrf, "scope": "*", "once": "a"}).status_code == 403

    @pytest.mark.parametrize("words", ["Run", "run approve", "run;approve", "RUN", "*", "admin", "run\u200b", ""])
    def test_words_that_are_no_roles(self, words: str) -> None:
        assert not parse_roles(words.split(","))

    def test_a_form_of_the_unencrypted_pages_is_foreign_where_tls_ends_here(self) -> None:
        headers = Headers({"host": "fleet.example.org", "origin": "http://fleet.example.org"})
        assert not is_from_these_pages(WebSettings(tls_certificate=Path("cert.pem")), headers)
        assert is_from_these_pages(WebSettings(), headers)


class TestLimits:
    def test_a_network_of_ipv6_is_one_address(self) -> None:
        limiter = FailureLimiter()
        within = [limiter.count(f"2001:db8::{number:x}") for number in range(2 * MAX_FAILURES)]
        assert within == [True] * MAX_FAILURES + [False] * MAX_FAILURES
        assert not limiter.count("2001:db8::ffff")
        assert limiter.count("2001:db8:0:1::1")

    def test_many_strangers_together_do_not_fill_the_records(self) -> None:
        now = [0.0]
        limiter = FailureLimiter(lambda: now[0], most=50)
        assert sum(limiter.count(f"192.0.2.{number}") for number in range(200)) == 50
        now[0] = 61.0
        assert limiter.count("192.0.2.1")

    def test_the_pages_have_such_a_limit(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, requires_login=True) as site:
            kept = sum(site.context.refusals.count(f"10.0.{number // 250}.{number % 250}") for number in range(1000))
            assert kept == 200
            site.get("/metrics", headers={"Authorization": "Bearer x"})
            assert not SqlAuditLog(site.records.database).read(10)
