"""A known_hosts file of a large fleet: what is looked at, read and written does not grow with every name in it."""

import hmac
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import host_key_store, known_hosts
from inventory.errors import HostKeyConflict
from inventory.host_key_store import HostKeyStore
from tests.unit.inventory.test_host_keys import RSA, A, B, hashed, line

MANY = 500


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a line was understood, a pattern compiled, a name hashed, bytes written."""
    counts: Counter[str] = Counter()

    def watch(module: object, name: str, size: Callable[[tuple[object, ...]], int] = lambda _: 1) -> None:
        inner = getattr(module, name)

        def counting(*words: object) -> object:
            counts[name] += size(words)
            return inner(*words)

        monkeypatch.setattr(module, name, counting)

    watch(known_hosts, "_parse_entry")
    watch(host_key_store, "_read_known_hosts")
    watch(known_hosts, "_compile_pattern")
    watch(hmac, "digest")
    watch(host_key_store, "_write_line", lambda words: len(words[1]) if isinstance(words[1], bytes) else 0)
    return counts


def test_one_name_of_many_is_found_without_trying_the_others(tmp_path: Path, calls: Counter[str]) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(line(f"web-{n},192.0.2.{n}", A) for n in range(MANY)))
    store = HostKeyStore.load(path)
    for n in range(MANY):
        store.reload_if_changed()
        assert store.find_keys(f"web-{n}") == (A,)
    assert calls["_read_known_hosts"] == 1
    assert calls["_parse_entry"] <= MANY
    assert calls["_compile_pattern"] == calls["digest"] == 0


def test_hashed_names_take_one_hash_a_line_and_address(tmp_path: Path, calls: Counter[str]) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(line(hashed(f"web-{n}"), A) for n in range(MANY)))
    store = HostKeyStore.load(path)
    for _ in range(3):
        assert store.find_keys("web-7") == (A,)
        assert store.find_authorities("web-7") == ()
    assert calls["digest"] == MANY
    store.pin_first_key("new", 22, B.type, B.base64)
    assert store.find_keys("new") == (B,)
    assert calls["digest"] == 2 * MANY


def test_learning_reads_and_writes_each_key_once(tmp_path: Path, calls: Counter[str]) -> None:
    path = tmp_path / "known_hosts"
    store = HostKeyStore.load(path)
    for n in range(MANY):
        store.pin_first_key(f"web-{n}", 22, A.type, A.base64)
        store.reload_if_changed()
    assert calls["_write_line"] == path.stat().st_size
    assert calls["_parse_entry"] <= MANY
    assert calls["_read_known_hosts"] <= 3
    assert [row.split()[0] for row in path.read_text().splitlines()] == [f"web-{n}" for n in range(MANY)]
    assert HostKeyStore.load(path).find_keys("web-499") == (A,)


def test_the_order_is_the_files_whatever_way_a_line_names_the_host(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("*", RSA) + line("h", A) + line(hashed("h"), B) + line("@cert-authority h", B))
    assert HostKeyStore.load(path).find_keys("h") == (RSA, A, B)


@pytest.mark.parametrize("is_renamed", [True, False], ids=["another file", "in its place"])
def test_what_others_change_meanwhile_is_seen(tmp_path: Path, is_renamed: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("h", A) + line("other", A))
    store = HostKeyStore.load(path)
    store.pin_first_key("mine", 22, A.type, A.base64)
    text = line("h", B) + line("other", A)
    if is_renamed:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(path)
    else:
        path.write_text(text)
    store.reload_if_changed()
    assert (store.find_keys("h"), store.find_keys("mine")) == ((B,), ())
    path.write_text(text + line("@revoked *", B))
    store.reload_if_changed()
    assert store.find_keys("h") == ()


def test_a_line_that_openssh_adds_while_a_key_is_learned_is_kept_and_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("h", A))
    store = HostKeyStore.load(path)
    inner = host_key_store._append_line

    def late(*words: object) -> object:
        with path.open("a") as other:
            other.write(line("theirs", B))
        return inner(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(host_key_store, "_append_line", late)
        store.pin_first_key("mine", 22, A.type, A.base64)
    store.reload_if_changed()
    assert [store.find_keys(name) for name in ("h", "theirs", "mine")] == [(A,), (B,), (A,)]
    with pytest.raises(HostKeyConflict):
        store.pin_first_key("theirs", 22, A.type, A.base64)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("h", A))

    class Full:
        def __init__(self, stream: object) -> None:
            self._stream = stream

        def fileno(self) -> int:
            return int(self._stream.fileno())  # type: ignore[attr-defined]

        def write(self, data: bytes) -> int:
            return os.write(self.fileno(), data[:10])

    inner = host_key_store._write_line
    monkeypatch.setattr(host_key_store, "_write_line", lambda stream, data: inner(Full(stream), data))  # type: ignore[arg-type]
    store = HostKeyStore.load(path)
    with pytest.raises(Exception, match="is full: it took no more"):
        store.pin_first_key("mine", 22, A.type, A.base64)
    assert path.read_text() == line("h", A)
    assert store.find_keys("mine") == ()


def test_names_hashed_by_openssh_itself_are_found(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("web-1,192.0.2.1", A) + line("[web-1]:2222", B))
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], capture_output=True, check=True)
    assert "web-1" not in path.read_text()
    store = HostKeyStore.load(path)
    assert (store.find_keys("WEB-1"), store.find_keys("192.0.2.1")) == ((A,), (A,))
    assert store.find_keys("web-1", 2222) == (B,)
