"""images fetch: the whole command, with curl and a real shell as the host, and a publisher that misbehaves."""

import contextlib
import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.images.fetching import find_list, open_publisher
from flows.images.image_file import IndexForm, read_list
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from inventory.machine import PrivilegeMethod
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tests.contract.cli.conftest import Said, Stage

LISTS = Path(__file__).parents[2] / "data/image_lists"
MIB = 1024 * 1024


def content(version: str) -> bytes:
    return (version.encode() * MIB)[:MIB]


@dataclass
class Publisher:
    """A web server with images, and what it does wrong.

    Attributes:
        cut_at: it closes the line after so many bytes of an image.
        times: it gives a host an image so many times as long as it told the controller.
        sent: bytes.
        pause: it sends a quarter of an image, and nothing for so many seconds.
        seen: the paths and ranges that it was asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_at: int = 0
    cuts: int = 10
    pause: float = 0
    times: int = 1
    sent: int = 0
    ignores_ranges: bool = False
    mark: str = '"one"'
    kind: str = "application/octet-stream"
    said_size: int | None = None
    changes_to: bytes = b""
    seen: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.seen.append((handler.path, asked))
        data, is_image = self.files.get(handler.path), handler.path.endswith(".qcow2")
        if data is None:
            handler.send_error(404)
            return
        asked_by_host = "curl" in handler.headers["User-Agent"]
        data = data * self.times if is_image and asked_by_host else data
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        is_same = handler.headers.get("If-Range", self.mark) == self.mark
        start = int(match[1]) if match and is_same and not self.ignores_ranges else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", self.mark)
        handler.send_header("Content-Type", self.kind if is_image else "text/plain")
        size = self.said_size if is_image and self.said_size is not None else len(data) - start
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        is_cut = is_image and self.cut_at and self.cuts and asked_by_host
        for at in range(start, start + self.cut_at if is_cut else len(data), 256 * 1024):
            handler.wfile.write(data[at : min(at + 256 * 1024, start + self.cut_at if is_cut else len(data))])
            self.sent += 256 * 1024
            time.sleep(self.pause if is_image and asked_by_host else 0)
        if is_cut:
            self.cuts -= 1
            handler.close_connection = True
            if self.changes_to:
                self.files[handler.path], self.mark = self.changes_to, '"two"'


@dataclass
class Site:
    stage: Stage
    publisher: Publisher
    url: str
    pool: Path

    def write(self, **index: Any) -> None:
        """Write images.yaml; a key that is None is left out."""
        keys = {
            "file": "APPLIANCE",
            "pattern": r"appliance-(.+)\.qcow2",
            "folder": str(self.pool),
            "url": f"{self.url}/CHECKSUM",
            "keyring": "publisher.gpg",
            **index,
        }
        lines = "".join(f"      {key}: '{value}'\n" for key, value in keys.items() if value is not None)
        text = f"images:\n  - name: maker/appliance\n    index:\n{lines}"
        text += "    versions: [{version: '0.9', reference: /none}]\n"
        text += "groups: [{name: web, image: maker/appliance, scope: web}]\n"
        (self.stage.folder / "images.yaml").write_text(text)

    def fetch(self, *words: str) -> Said:
        return self.stage.run("images", "fetch", "maker/appliance", *words)

    def own_list(self) -> str:
        path = self.stage.folder / "APPLIANCE"
        return path.read_text() if path.exists() else ""

    def left(self) -> list[str]:
        return sorted(path.name for path in self.pool.rglob("*") if path.is_file())


@pytest.fixture
def site(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    publisher = Publisher()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                publisher.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    publisher.files |= {f"/appliance-{v}.qcow2": content(v) for v in ("1.0", "1.1", "2.0-rc1")}
    publisher.files["/CHECKSUM"] = (LISTS / "appliance.CHECKSUM").read_bytes()
    for name in ("hypervisor", "web"):
        stage.add(name)
    stage.defaults["provider"] = "rack"
    (stage.folder / "providers.yaml").write_text("providers: [{name: rack, kind: libvirt, host: hypervisor}]\n")
    shutil.copy(LISTS / "publisher.gpg", stage.folder)
    plain = Stage.ports

    def with_shell(self: Stage, who: Caller) -> Ports:
        clock, root = SystemClock(), PrivilegeEscalator(PrivilegeMethod.NONE)
        ports = plain(self, who)
        return replace(
            ports,
            clock=clock,
            inventory=replace(ports.inventory, source=self.inventory),
            connect=lambda machine: PosixShell(
                LocalShellChannel(clock), machine=machine.name, privilege=root, clock=clock
            ),
        )

    monkeypatch.setattr(Stage, "ports", with_shell)
    monkeypatch.setattr("flows.images.fetching.PART_SECONDS", 2)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    pool = stage.folder / "pool"
    pool.mkdir()
    made = Site(stage, publisher, f"http://127.0.0.1:{server.server_port}", pool)
    made.write()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_newest_image_comes_once_and_its_line_last(site: Site) -> None:
    said = site.fetch("--dry-run", "--json")
    assert (said.code, said.json["version"], said.json["hosts"]) == (0, "1.1", []), said.err
    assert site.left() == []
    for state in ("Fetched", "Present"):
        said = site.fetch("--json")
        assert said.code == 0, said.err + said.out
        assert said.json["hosts"] == [{"machineName": "hypervisor", "state": state, "message": None}]
    image = site.pool / "appliance-1.1.qcow2"
    assert image.read_bytes() == content("1.1")
    assert image.stat().st_mode & 0o777 == 0o444
    assert site.left() == [image.name]
    assert site.own_list().count("\n") == 1
    assert site.own_list().startswith("SHA512 (appliance-1.1.qcow2) = ")
    versions = site.stage.run("images", "plan", "web", "--to", "1.1", "--json")
    assert "has no version" not in versions.out + versions.err
    audited = json.loads(site.stage.run("audit", "list", "--json").out)
    assert [entry["result"] for entry in audited if entry["act"] == "images fetch"].count("done") == 2


def test_a_line_that_breaks_goes_on_where_it_broke(site: Site) -> None:
    site.publisher.cut_at = 300_000
    said = site.fetch()
    assert said.code == 0, said.err + said.out
    ranges = [asked for path, asked in site.publisher.seen if path == "/appliance-1.1.qcow2" and asked]
    assert ranges == ["bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert (site.pool / "appliance-1.1.qcow2").read_bytes() == content("1.1")


def test_a_slow_line_takes_several_parts(site: Site) -> None:
    site.publisher.pause = 0.9
    said = site.fetch()
    assert said.code == 0, said.err + said.out
    assert [asked for path, asked in site.publisher.seen if path == "/appliance-1.1.qcow2" and asked]
    assert (site.pool / "appliance-1.1.qcow2").read_bytes() == content("1.1")


def test_a_server_that_ignores_ranges_gives_the_file_in_one_piece(site: Site) -> None:
    site.publisher.cut_at, site.publisher.cuts, site.publisher.ignores_ranges = 300_000, 1, True
    said = site.fetch()
    assert said.code == 0, said.err + said.out
    assert (site.pool / "appliance-1.1.qcow2").read_bytes() == content("1.1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cut_at": 300_000, "changes_to": b"x" * MIB}, "its publisher has changed the file meanwhile"),
        ({"kind": "text/html"}, "is no image: the server gives text/html"),
        ({"cut_at": 1000, "cuts": 99, "ignores_ranges": True}, "the file does not arrive: curl ended with 18"),
        ({"said_size": 5000}, "another digest"),
        ({"said_size": 2 * MIB}, "the file does not arrive"),
    ],
)
def test_what_the_server_does_wrong_leaves_no_image_and_no_line(site: Site, wrong: dict[str, Any], words: str) -> None:
    for name, value in wrong.items():
        setattr(site.publisher, name, value)
    said = site.fetch()
    assert said.code != 0
    assert words in re.sub(r"\s+", " ", said.out + said.err)
    assert "appliance-1.1.qcow2" not in site.left()
    assert site.own_list() == ""


def test_another_content_of_the_right_size_is_removed_and_the_next_order_is_whole(site: Site) -> None:
    site.publisher.files["/appliance-1.1.qcow2"] = content("9.9")
    said = site.fetch()
    assert said.code == 1
    assert "the file has another digest than its list says" in re.sub(r"\s+", " ", said.out)
    assert site.left() == []
    site.publisher.files["/appliance-1.1.qcow2"] = content("1.1")
    assert site.fetch().code == 0


def test_more_than_was_told_is_not_stored(site: Site) -> None:
    site.publisher.times = 64
    said = site.fetch()
    assert said.code == 1
    assert site.left() == []
    assert site.publisher.sent < 32 * MIB, "the host has ended it"


def test_no_file_is_overwritten_and_none_follows_a_link(site: Site) -> None:
    image = site.pool / "appliance-1.1.qcow2"
    image.write_text("somebody's own")
    said = site.fetch()
    assert said.code == 1
    assert "is there already, and is another file" in re.sub(r"\s+", " ", said.out)
    assert image.read_text() == "somebody's own"
    image.unlink()
    victim = site.stage.folder / "victim"
    victim.write_text("kept")
    for name in (".appliance-1.1.qcow2.part", ".appliance-1.1.qcow2.part.of"):
        (site.pool / name).symlink_to(victim)
    assert site.fetch().code == 0
    assert victim.read_text() == "kept"
    site.pool.chmod(0o777)
    assert "anybody may write in" in site.fetch().out


def test_without_room_or_folder_nothing_is_downloaded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(folder=str(site.pool / "nothing"))
    assert "there is no folder" in site.fetch().out
    site.write()
    tools = site.stage.folder / "tools"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho head; echo / 9 9 1048000 1% /\n")
    (tools / "df").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    said = site.fetch()
    assert "MiB free, and needs 1025 MiB" in re.sub(r"\s+", " ", said.out)
    paths = [path for path, _ in site.publisher.seen]
    assert paths.count("/appliance-1.1.qcow2") == 2, "the controller has looked at it, for each order"
    assert site.own_list() == ""


def test_two_at_the_same_time_make_one_file(site: Site) -> None:
    from flows.images.fetching import fetch_onto, find_newest, plan_fetch
    from inventory.loader import load_inventory

    site.publisher.cut_at, site.publisher.cuts = 100_000, 99
    site.fetch("--dry-run")
    fleet = load_inventory(site.stage.inventory)
    order, ports = plan_fetch("maker/appliance", fleet), site.stage.ports(Caller(records_url=site.stage.url))
    with open_publisher(order.index.url or "") as client:
        found = find_newest(order, client)
    states: list[str] = []

    def fetch() -> None:
        states.extend(one.state for one in fetch_onto([fleet.find_machine("hypervisor")], order, found, ports))

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["Fetched", "Present", "Present"]
    assert (site.pool / "appliance-1.1.qcow2").read_bytes() == content("1.1")
    assert site.own_list().count("\n") == 1


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"keyring": "other.gpg"}, "/CHECKSUM: was signed by a key that is not in the keyring (signature: UnknownKey)"),
        ({"keyring": "nothing.gpg"}, "can't be read"),
        ({"signature": "CHECKSUM.gpg"}, "404"),
        ({"signature": "CHECKSUM"}, "signature: Bad"),
        ({"keyring": None}, "nobody's signature can be checked without keys"),
        ({"pattern": r"other-(.+)\.qcow2"}, "no file in"),
        ({"url": None}, "has no image 'maker/appliance' with a publisher"),
    ],
)
def test_a_list_that_is_not_trusted_gives_nothing(site: Site, index: dict[str, Any], words: str) -> None:
    shutil.copy(LISTS / "other.gpg", site.stage.folder)
    site.write(**index)
    said = site.fetch()
    assert said.code == 2, said.out
    assert words in re.sub(r"\s+", " ", said.err + said.out)
    assert site.left() == []
    assert not any(path.endswith(".qcow2") for path, _ in site.publisher.seen)


def test_the_policy_is_asked_before_the_publisher(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = site.stage.folder / "policy.yaml"
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [fetch_images]}]}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
    said = site.fetch()
    assert said.code == 2
    assert "fetching images of publishers onto hosts" in re.sub(r"\s+", " ", said.err)
    assert site.publisher.seen == []


def test_a_star_is_the_newest_version_in_a_folder(site: Site) -> None:
    page = "".join(f'<a href="{name}">{name}</a>\n' for name in ("../", "daily/", "1.9/", "1.10/", "release-3/"))
    site.publisher.files["/os/"] = page.encode()
    site.publisher.files["/os/1.10/CHECKSUM"] = site.publisher.files["/CHECKSUM"]
    site.publisher.files["/os/1.10/appliance-1.1.qcow2"] = content("1.1")
    with open_publisher(site.url) as client:
        assert find_list(f"{site.url}/os/*/CHECKSUM", client) == (f"{site.url}/os/1.10/CHECKSUM", "1.10/")
        assert find_list(f"{site.url}/os/release-*/SUMS", client) == (f"{site.url}/os/release-3/SUMS", "release-3/")
        with pytest.raises(RequestError, match="no version"):
            find_list(f"{site.url}/os/beta-*/SUMS", client)
    site.write(url=f"{site.url}/os/*/CHECKSUM", pattern=r"([0-9.]+)/appliance-1\.1\.qcow2")
    said = site.fetch("--json")
    assert (said.code, said.json["version"], said.json["name"]) == (0, "1.10", "1.10/appliance-1.1.qcow2"), said.err
    assert (site.pool / "1.10/appliance-1.1.qcow2").exists()


def test_a_digest_alone_is_of_the_file_that_the_list_is_named_for(site: Site) -> None:
    digest = hashlib.sha512(content("1.0")).hexdigest()
    site.publisher.files["/appliance-1.0.qcow2.sha512"] = digest.encode()
    site.publisher.files["/"] = b'<a href="appliance-1.0.qcow2.sha512">'
    with open_publisher(site.url) as client:
        url, above = find_list(f"{site.url}/appliance-*.qcow2.sha512", client)
        index = IndexForm(file="own", pattern=r"appliance-(.+)\.qcow2", folder="/pool")
        (version,) = read_list(index, url, client.get(url).content, None, None, print, above)
    assert (version.version, version.digest) == ("1.0", f"sha512:{digest}")


def test_from_https_no_redirect_leads_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with open_publisher("https://images.example.org/CHECKSUM") as client:
        answer = httpx.Response(302, headers={"Location": "http://mirror.example.org/CHECKSUM"})
        monkeypatch.setattr(client, "_transport", httpx.MockTransport(lambda _request: answer))
        with pytest.raises(
            RequestError, match=r"leads to http://mirror\.example\.org/CHECKSUM, which is not encrypted"
        ):
            client.get("https://images.example.org/CHECKSUM")
