"""Pinned host keys: OpenSSH's syntax, read on the stricter side, and learning that never overwrites."""

import base64
import hashlib
import hmac
import stat
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import HostKeyConflict, InventoryError
from inventory.host_key_store import HostKeyStore
from inventory.known_hosts import PinnedKey


def key(seed: int, kind: str = "ssh-ed25519") -> PinnedKey:
    name = kind.encode()
    blob = struct.pack(">I", len(name)) + name + struct.pack(">I", 32) + bytes([seed]) * 32
    return PinnedKey(kind, base64.b64encode(blob).decode())


A, B, C = key(1), key(2), key(3)
RSA = key(4, "ssh-rsa")


def line(names: str, of: PinnedKey, tail: str = "") -> str:
    return f"{names} {of.type} {of.base64}{tail}\n"


def hashed(address: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, address.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def store(tmp_path: Path, text: str) -> HostKeyStore:
    path = tmp_path / "known_hosts"
    path.write_text(text, encoding="utf-8")
    return HostKeyStore.load(path)


@pytest.mark.parametrize(
    ("names", "host", "port", "found"),
    [
        ("web-1", "web-1", 22, True),
        ("web-1", "WEB-1", 22, True),
        ("WEB-1", "web-1", 22, True),
        ("web-1", "web-10", 22, False),
        ("web-1", "web-1", 2222, False),
        ("[web-1]:2222", "web-1", 2222, True),
        ("[web-1]:2222", "web-1", 22, False),
        ("[web-1]:2222", "w", 2222, False),
        ("web-?", "web-1", 22, True),
        ("web-?", "web-", 22, False),
        ("*.example.org", "a.b.example.org", 22, True),
        ("*.example.org", "example.org", 22, False),
        ("*.example.org", "a.example.org", 2222, False),
        ("[*.example.org]:2222", "a.example.org", 2222, True),
        ("*", "anything", 22, True),
        ("*,!bad", "good", 22, True),
        ("*,!bad", "bad", 22, False),
        ("!bad,*", "bad", 22, False),
        ("!bad", "good", 22, False),
        ("a,b,192.0.2.1", "192.0.2.1", 22, True),
        ("2001:db8::1", "2001:db8::1", 22, True),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222, True),
        ("web.1", "webx1", 22, False),
        (hashed("web-1"), "web-1", 22, True),
        (hashed("web-1"), "Web-1", 22, True),
        (hashed("web-1"), "web-2", 22, False),
        (hashed("web-1"), "web-1", 2222, False),
        (hashed("[web-1]:2222"), "web-1", 2222, True),
    ],
)
def test_names(tmp_path: Path, names: str, host: str, port: int, found: bool) -> None:
    assert store(tmp_path, line(names, A)).find_keys(host, port) == ((A,) if found else ())


def test_comments_blanks_and_several_keys(tmp_path: Path) -> None:
    text = f"# ours\n\n   \n{line('h', A, ' a comment')}{line('h', RSA)}{line('h', A)}\t# indented\n"
    known = store(tmp_path, text)
    assert known.find_keys("h", 22) == (A, RSA)
    assert known.invalid_lines == {}


def test_authorities_are_no_host_keys(tmp_path: Path) -> None:
    known = store(tmp_path, line("@cert-authority *.example.org", A))
    assert known.find_authorities("h.example.org", 22) == (A,)
    assert known.find_authorities("h.example.net", 22) == ()
    assert known.find_keys("h.example.org", 22) == ()


def test_a_revoked_key_is_trusted_nowhere(tmp_path: Path) -> None:
    text = line("h", A) + line("h", B) + line("@cert-authority *", C) + line("@revoked other", A)
    known = store(tmp_path, text + line("@revoked *", C))
    assert known.find_keys("h", 22) == (B,)
    assert known.find_authorities("h", 22) == ()
    assert known.is_revoked(A.type, A.base64)
    assert not known.is_revoked(B.type, B.base64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h\n", "names, a key type and a key"),
        ("h ssh-ed25519\n", "names, a key type and a key"),
        ("h ssh-ed25519 !!!!\n", "no valid base64"),
        ("h ssh-ed25519 AAAA\n", "not of type ssh-ed25519"),
        (line("h", PinnedKey("ssh-rsa", A.base64)), "not of type ssh-rsa"),
        (line("@trusted h", A), "unknown marker '@trusted'"),
        (line("a,,b", A), "empty host name"),
        (line("a,!", A), "empty host name"),
        (line("|1|xx|yy", A), "hashed name"),
        (line("|2|AAAA|AAAA", A), "hashed name"),
        (line("|1|AAAA", A), "hashed name"),
        ("h 1024 35 1234567890\n", "no valid base64"),
    ],
)
def test_bad_lines_are_reported_and_trust_nobody(tmp_path: Path, text: str, reason: str) -> None:
    known = store(tmp_path, line("good", B) + text)
    assert list(known.invalid_lines) == [2]
    assert reason in known.invalid_lines[2]
    assert known.find_keys("h", 22) == ()
    assert known.find_keys("good", 22) == (B,)


@pytest.mark.parametrize("text", ["@revoked\n", "@revoked * ssh-ed25519 !!!\n", "@Revoked * ssh-rsa AAAA\n"])
def test_a_bad_revocation_is_fatal(tmp_path: Path, text: str) -> None:
    with pytest.raises(InventoryError, match="would stay trusted") as caught:
        store(tmp_path, line("good", B) + text)
    assert caught.value.line == 2
    assert "@revoked * KEY-TYPE BASE64" in caught.value.hint


def test_files_that_cant_be_used(tmp_path: Path) -> None:
    assert HostKeyStore.load(tmp_path / "none").find_keys("h", 22) == ()
    with pytest.raises(InventoryError, match="can't be read"):
        HostKeyStore.load(tmp_path)
    path = tmp_path / "open"
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises(InventoryError, match="everybody can write") as caught:
        HostKeyStore.load(path)
    assert caught.value.hint == f"Run: chmod go-w {path}"


def test_learns_and_keeps_what_is_there(tmp_path: Path) -> None:
    before = b"# ours \xff\n\nbad line\n" + line("a", A).encode().rstrip(b"\n")
    path = tmp_path / "dir" / "known_hosts"
    path.parent.mkdir()
    path.write_bytes(before)
    path.chmod(0o644)
    known = HostKeyStore.load(path)
    known.pin_first_key("B", 2222, B.type, B.base64)
    known.pin_first_key("B", 2222, B.type, B.base64)
    assert path.read_bytes() == before + b"\n" + line("[b]:2222", B).encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert known.find_keys("b", 2222) == (B,)
    assert HostKeyStore.load(path).find_keys("b", 2222) == (B,)
    assert sorted(p.name for p in path.parent.iterdir()) == ["known_hosts", "known_hosts.lock"]


def test_learning_makes_the_file_and_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "known_hosts"
    HostKeyStore.load(path).pin_first_key("h", 22, A.type, A.base64)
    assert path.read_text() == line("h", A)


def test_learning_follows_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("")
    link = tmp_path / "link"
    link.symlink_to(real)
    HostKeyStore.load(link).pin_first_key("h", 22, A.type, A.base64)
    assert link.is_symlink()
    assert real.read_text() == line("h", A)


@pytest.mark.parametrize("pinned", [line("h", A), line("h", RSA), line(hashed("h"), A), line("*", A)])
def test_never_learns_past_a_pin(tmp_path: Path, pinned: str) -> None:
    known = store(tmp_path, pinned)
    with pytest.raises(HostKeyConflict, match="but pinned is") as caught:
        known.pin_first_key("h", 22, B.type, B.base64)
    assert "ssh-keygen -R 'h'" in caught.value.hint
    assert PinnedKey("", B.base64).fingerprint in str(caught.value)
    assert known.path.read_text() == pinned


def test_sees_what_others_learned_meanwhile(tmp_path: Path) -> None:
    mine = store(tmp_path, "")
    HostKeyStore.load(mine.path).pin_first_key("h", 22, A.type, A.base64)
    with pytest.raises(HostKeyConflict):
        mine.pin_first_key("h", 22, B.type, B.base64)
    assert mine.find_keys("h", 22) == (A,)


def test_never_learns_a_revoked_key(tmp_path: Path) -> None:
    known = store(tmp_path, line("@revoked *", A))
    with pytest.raises(HostKeyConflict, match="revoked"):
        known.pin_first_key("h", 22, A.type, A.base64)


@pytest.mark.parametrize("host", ["", "a b", "a,b", "*", "!a", "a\nb", "[a]", "@revoked", "#a", "|1|"])
def test_learns_for_plain_addresses_only(tmp_path: Path, host: str) -> None:
    with pytest.raises(InventoryError, match="no address to learn"):
        store(tmp_path, "").pin_first_key(host, 22, A.type, A.base64)
    assert (tmp_path / "known_hosts").read_text() == ""


def test_learns_whole_keys_only(tmp_path: Path) -> None:
    known = store(tmp_path, "")
    for kind, blob in (("ssh-rsa", A.base64), ("ssh-ed25519", "AAAA"), ("a\nb", A.base64)):
        with pytest.raises(InventoryError, match="can't be pinned"):
            known.pin_first_key("h", 22, kind, blob)
    with pytest.raises(InventoryError, match="no address"):
        known.pin_first_key("h", 0, A.type, A.base64)
    assert known.path.read_text() == ""


def test_says_when_it_cant_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = HostKeyStore(tmp_path / "file" / "known_hosts")
    with pytest.raises(InventoryError, match="can't be written") as caught:
        known.pin_first_key("h", 22, A.type, A.base64)
    assert "writable" in caught.value.hint


def test_many_learn_at_once_and_no_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    shared = HostKeyStore.load(path)

    def learn(number: int) -> None:
        (shared if number % 2 else HostKeyStore.load(path)).pin_first_key(f"h{number}", 22, A.type, A.base64)

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.split()[0] for row in path.read_text().splitlines()) == sorted(f"h{n}" for n in range(16))


def test_fingerprint_is_that_of_ssh_keygen() -> None:
    # The fingerprint of GitHub's ed25519 key, as GitHub publishes it.
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert PinnedKey("", blob).fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    with pytest.raises(InventoryError, match="no valid base64"):
        _ = PinnedKey("", "!!!").fingerprint


@given(st.text(max_size=200).filter(lambda text: "revoked" not in text.lower()))
def test_any_text_is_read_line_by_line(text: str) -> None:
    from inventory.known_hosts import parse_known_hosts

    entries, problems, _ = parse_known_hosts(Path("known_hosts"), text)
    lines = [row for row in text.split("\n") if row.split() and not row.split()[0].startswith("#")]
    assert len(entries) + len(problems) == len(lines)
