"""Targets of checks and hooks: what can't work is refused when it is read, in every reader; what can is asked."""

from pathlib import Path
from urllib.request import Request

import pytest
import yaml
from pydantic import ValidationError

from flows.request.request_parts import HooksRequest
from inventory.addresses import parse_tcp_target, parse_url
from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from tasks.steps.machine.http_requests import build_http_request

BAD_URLS = [
    "http://h/é", "http://h/?q=é", "http://a..b/", "http://.a/", "http://h:65536/", "http://h:99999/", "http://h:0/", "http://h:-1/",
    "http://h:x/", "http://h:" + "9" * 5000 + "/", "http://[::1", "http://[::1/x", "http://[nonsense]/", "http://[]/", "http://h/\x00",
    "http://h\x00/", "http://h/a b", "http://h/\n", "http://\u202eh/", "http:///x", "http://", "http:/h", "http:h",
    "//h/", "h", "",
    "ftp://h/", "file:///etc/passwd", "http://" + "a" * 64 + "/", "http://" + "a." * 200 + "b/", "http://1.2.3/", "http://h%20/",
    "http://-a/", "http://a-/", "http://ü..a/", "http://u:p@/", "http://\ud800/", "http://h/\ud800",
]  # fmt: skip
GOOD_URLS = [
    "http://h", "http://h/", "HTTPS://h:8443/a?b=c#d", "http://127.0.0.1:1/", "http://[::1]:65535/", "http://[fe80::1%25eth0]/",
    "http://a_b.example./x", "http://ann:p%40ss@h/", "http://bücher.example/", "http://h:/x",
]  # fmt: skip
BAD_TCP = [
    "db",
    "db:",
    ":",
    "",
    "db:0",
    "db:65536",
    "0",
    "65536",
    "²",
    "db:²",
    "db:" + "9" * 5000,
    "[::1:22",
    "::1]:22",
    "a..b:1",
    "a b:1",
    "é..:1",
]
GOOD_TCP = [
    ("22", ("", 22)),
    (":22", ("", 22)),
    ("db:22", ("db", 22)),
    ("[::1]:22", ("::1", 22)),
    ("::1:22", ("::1", 22)),
    ("10.0.0.1:1", ("10.0.0.1", 1)),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_can_not_be_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"^it") as caught:
        parse_url(url)
    assert len(url) < 3 or url not in str(caught.value)
    with pytest.raises(ValueError, match=r"^it"):
        build_http_request(url)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_url_that_can(url: str) -> None:
    parse_url(url)
    assert isinstance(build_http_request(url), Request)


@pytest.mark.parametrize("target", BAD_TCP)
def test_a_tcp_target_that_can_not_be(target: str) -> None:
    with pytest.raises(ValueError, match=r"^its"):
        parse_tcp_target(target)


@pytest.mark.parametrize(("target", "meant"), GOOD_TCP)
def test_a_tcp_target_that_can(target: str, meant: tuple[str, int]) -> None:
    assert parse_tcp_target(target) == meant


@pytest.mark.parametrize("key", ["pre_checks", "probes"])
@pytest.mark.parametrize("level", ["block", "warn"])
@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("http", "http://h/é"),
        ("http", "http://a..b/"),
        ("http", "http://h:70000/"),
        ("tcp", "h:70000"),
        ("command", "a\0b"),
        ("command", "x" * 20_000),
    ],
)
@pytest.mark.parametrize("where", ["machine", "group", "defaults"])
def test_inventories_refuse_it_wherever_it_stands(
    tmp_path: Path, where: str, kind: str, target: str, level: str, key: str
) -> None:
    checks = {key: [{"name": "front", "kind": kind, "target": target, "level": level}]}
    trees = {
        "machine": {"machines": [{"name": "a", **checks}]},
        "group": {"groups": {"web": checks}, "machines": [{"name": "a", "groups": ["web"]}]},
        "defaults": {"defaults": checks, "machines": ["a"]},
    }
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(trees[where], allow_unicode=True))
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(tmp_path / "fleet.yaml")
    assert key in str(caught.value)
    assert caught.value.hint or all(each.hint for each in caught.value.problems)
    assert len(str(caught.value)) < 2000


def test_a_refusal_repeats_neither_login_nor_query(tmp_path: Path) -> None:
    for target in ("http://ann:hunter2@h/é", "http://h/é?token=hunter2", "http://h/é?to=a@b&token=hunter2"):
        (tmp_path / "fleet.yaml").write_text(
            f"machines: [{{name: a, probes: [{{name: p, kind: http, target: '{target}'}}]}}]"
        )
        with pytest.raises(InvalidInventory) as caught:
            load_inventory(tmp_path / "fleet.yaml")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", [url for url in BAD_URLS if url.strip()])
def test_hooks_refuse_the_same(url: str) -> None:
    hook = {"name": "tell", "kind": "http", "target": url}
    with pytest.raises(ValidationError):
        HooksRequest.model_validate({"after_run": [hook]})
