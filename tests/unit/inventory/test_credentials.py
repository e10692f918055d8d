"""Credential references: what they may say, where they lead, and that no secret ever shows."""

import copy
import dataclasses
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.credential_references import ReferenceKind, parse_reference
from inventory.credentials import CredentialKind, Secret, SecretSources, resolve_credential
from inventory.errors import CredentialError


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("default", ReferenceKind.DEFAULT, ""),
        ("agent", ReferenceKind.AGENT, ""),
        (" agent ", ReferenceKind.AGENT, ""),
        ("key:~/.ssh/id_ed25519", ReferenceKind.KEY, "~/.ssh/id_ed25519"),
        ("key:a b/c?d", ReferenceKind.KEY, "a b/c?d"),
        ("env:FLEET_PASSWORD", ReferenceKind.ENV, "FLEET_PASSWORD"),
        ("file:/run/secrets/pw", ReferenceKind.FILE, "/run/secrets/pw"),
        ("prefect:fleet-login", ReferenceKind.PREFECT, "fleet-login"),
        ("prefect:secret/fleet-login", ReferenceKind.PREFECT, "secret/fleet-login"),
    ],
)
def test_reads_the_grammar(text: str, kind: ReferenceKind, target: str) -> None:
    reference = parse_reference(text)
    assert (reference.kind, reference.target) == (kind, target)
    assert parse_reference(str(reference)) == reference


def test_key_with_passphrase() -> None:
    reference = parse_reference("key:id?passphrase=env:PHRASE")
    assert reference.passphrase == parse_reference("env:PHRASE")
    assert str(reference) == "key:id?passphrase=env:PHRASE"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "write a reference"),
        ("hunter2", "A secret never stands in an inventory"),
        ("S3cret:with:colons", "A secret never stands in an inventory"),
        ("Agent", "Did you mean 'agent'"),
        ("kye:~/.ssh/id", "Did you mean 'key'"),
        ("files:/x", "Did you mean 'file'"),
        ("~/.ssh/id_ed25519", "looks like a path: write key:PATH"),
        ("/etc/pw", "looks like a path"),
        ("key:", "Write one of default, agent"),
        ("key:a\nb", "Write one of default, agent"),
        ("env:", "Write one of default, agent"),
        ("env:hunter2!", "the password itself goes into the variable"),
        ("env:1X", "letters, digits and _"),
        ("prefect:no blanks", "letters, digits and dashes"),
        ("key:id?passphrase=hunter2", "A secret never stands in an inventory"),
        ("key:id?passphrase=agent", "env:NAME, file:PATH, systemd:NAME, vault:MOUNT/PATH#KEY or prefect:BLOCK"),
        ("key:id?passphrase=key:other", "env:NAME, file:PATH, systemd:NAME, vault:MOUNT/PATH#KEY or prefect:BLOCK"),
        ("key:?passphrase=env:X", "Write one of default, agent"),
    ],
)
def test_refuses_what_is_no_reference(text: str, remedy: str) -> None:
    with pytest.raises(CredentialError) as caught:
        parse_reference(text)
    assert remedy in caught.value.hint
    shown = f"{caught.value} {caught.value.hint}"
    assert not any(word in shown for word in ("hunter2", "S3cret", "no blanks"))


@given(st.text(min_size=6, alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S"])))
def test_no_literal_is_ever_repeated(text: str) -> None:
    secret = f"zq{text}qz"
    with pytest.raises(CredentialError) as caught:
        parse_reference(secret)
    assert secret not in f"{caught.value!r} {caught.value} {caught.value.hint}"


def test_relative_paths_are_anchored(tmp_path: Path) -> None:
    def anchored(text: str) -> str:
        return str(parse_reference(text).to_absolute(tmp_path / "inv"))

    assert anchored("key:keys/id") == f"key:{tmp_path}/inv/keys/id"
    assert anchored("file:../pw") == f"file:{tmp_path}/inv/../pw"
    assert anchored("key:id?passphrase=file:pw") == f"key:{tmp_path}/inv/id?passphrase=file:{tmp_path}/inv/pw"
    for unchanged in ("key:~/.ssh/id", "file:/etc/pw", "agent", "env:X", "prefect:b"):
        assert anchored(unchanged) == unchanged


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_resolves_agent_key_and_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = private(tmp_path / "id", "-----BEGIN OPENSSH PRIVATE KEY-----\n")
    monkeypatch.setenv("PHRASE", "open sesame")
    assert resolve_credential("agent").kind is CredentialKind.AGENT
    assert resolve_credential("default").kind is CredentialKind.DEFAULT
    plain = resolve_credential(f"key:{key}")
    assert (plain.kind, plain.path, plain.secret) == (CredentialKind.KEY, key, None)
    locked = resolve_credential(f"key:{key}?passphrase=env:PHRASE")
    assert locked.secret == Secret("open sesame")


def test_home_is_expanded_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    private(tmp_path / "id", "x")
    assert resolve_credential("key:~/id").path == tmp_path / "id"


@pytest.mark.parametrize("text", ["pass word", "pass word\n", "pass word\r\n"])
def test_password_file_loses_one_line_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pw"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    secret = resolve_credential(f"file:{path}").secret
    assert secret is not None
    assert secret.reveal() == "pass word"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610])
@pytest.mark.parametrize("scheme", ["file", "key"])
def test_open_files_are_refused(tmp_path: Path, mode: int, scheme: str) -> None:
    path = private(tmp_path / "pw", "hunter2", mode)
    with pytest.raises(CredentialError, match=f"open to others.*{mode:04o}") as caught:
        resolve_credential(f"{scheme}:{path}")
    assert caught.value.hint == f"Run: chmod 600 {path}"


def test_what_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    monkeypatch.setenv("PEM", "-----BEGIN RSA PRIVATE KEY-----")
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    private(tmp_path / "empty", "")
    private(tmp_path / "long", "x" * 70_000)
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    (tmp_path / "latin").chmod(0o600)
    cases = [
        ("env:NOT_THERE", "is not set", "Set NOT_THERE where fleetpatch"),
        ("env:PEM", "holds a private key", "write key:PATH"),
        (f"file:{tmp_path}/none", "there is no password file", "Correct the path"),
        (f"key:{tmp_path}/none", "there is no private key file", "Correct the path"),
        (f"file:{tmp_path}/dir", "no regular file", "Point the reference"),
        (f"file:{tmp_path}/pipe", "no regular file", "Point the reference"),
        (f"file:{tmp_path}/empty", "empty", "Write the password"),
        (f"file:{tmp_path}/long", "too long", "and nothing else"),
        (f"file:{tmp_path}/latin", "UTF-8", "UTF-8"),
        ("prefect:login", "no Prefect server", "env:NAME or file:PATH"),
    ]
    for reference, message, hint in cases:
        with pytest.raises(CredentialError, match=message) as caught:
            resolve_credential(reference)
        assert hint in caught.value.hint, reference


def test_prefect_blocks_come_from_the_callable() -> None:
    secret = resolve_credential("prefect:login", SecretSources({"login": "pw"}.__getitem__)).secret
    assert secret == Secret("pw")
    with pytest.raises(CredentialError, match="no Prefect block 'other'") as caught:
        resolve_credential("prefect:other", SecretSources({"login": "pw"}.__getitem__))
    assert "Create a Secret block named 'other'" in caught.value.hint
    with pytest.raises(CredentialError, match="holds no text"):
        resolve_credential("prefect:login", SecretSources(lambda name: {"a": 1}))  # type: ignore[arg-type,return-value]


def test_other_failures_of_the_callable_are_not_hidden() -> None:
    def broken(name: str) -> str:
        raise RuntimeError("server is gone")

    with pytest.raises(RuntimeError, match="server is gone"):
        resolve_credential("prefect:login", SecretSources(broken))


def test_a_secret_shows_itself_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "hunter2")
    credential = resolve_credential("env:PW")
    assert credential.secret is not None
    shown = f"{credential} {credential!r} {credential.secret} {credential.secret!s:>20} {credential.secret!r} "
    shown += f"{dataclasses.asdict(credential)} %s" % credential.secret
    assert "hunter2" not in shown
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(credential, protocol)
    with pytest.raises(TypeError):
        json.dumps(credential.secret)
    assert not hasattr(credential.secret, "__dict__")
    assert copy.deepcopy(credential) == credential
    assert credential.secret.reveal() == "hunter2"
    assert credential.secret != "hunter2"
    assert hash(credential.secret) == hash(Secret("hunter2"))
