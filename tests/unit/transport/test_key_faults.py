"""Why a private key can't be loaded: one reason and one remedy, for each kind of file, without its content."""

import base64
import subprocess
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from inventory.credentials import Credential, CredentialKind, Secret
from tasks.domain.errors import CredentialError
from tasks.machines.transport.ssh.private_keys import KeyFault, find_format_fault, find_loading_fault, load_private_key

KEY = ed25519.Ed25519PrivateKey.generate()
OPENSSH = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"right"))
PKCS8_LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
DSA = dsa.generate_private_key(1024)
ED448 = ed448.Ed448PrivateKey.generate()
BODY = "".join(OPENSSH.decode().split("-----")[2].split())


def with_cipher(name: bytes) -> bytes:
    """A key that is encrypted in a way that the libraries don't know; a cipher's name has the length of another's."""
    lines = base64.b64decode("".join(LOCKED.decode().split("-----")[2].split())).replace(b"aes256-ctr", name)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(lines) + b"-----END OPENSSH PRIVATE KEY-----\n"


def find_key_fault(text: bytes, passphrase: bytes | None) -> KeyFault | None:
    return find_format_fault(text, passphrase) or find_loading_fault(text, passphrase)


with warnings.catch_warnings(action="ignore"):  # the library will not write such keys for ever
    OPENSSH_DSA = DSA.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
FAULTS = {
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "key of PuTTY"),
    "public": (KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "public key"),
    "text": (b"machine: x\n", "no private key"),
    "empty": (b"", "no private key"),
    "DSA, OpenSSH": (OPENSSH_DSA, "kind ssh-dss are not"),
    "DSA, PEM": (DSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()), "kind DSA are not"),
    "Ed448": (ED448.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "kind Ed448 are not"),
    "encrypted": (LOCKED, "encrypted, and the credential has no passphrase"),
    "encrypted, PKCS8": (PKCS8_LOCKED, "encrypted, and the credential has no passphrase"),
    "cut": (OPENSSH[: len(OPENSSH) // 2], "damaged"),
    "a line is missing": (b"\n".join(OPENSSH.splitlines()[:2] + OPENSSH.splitlines()[3:]), "damaged"),
}
WITH_PASSPHRASE = {
    "wrong": (LOCKED, "passphrase is wrong"),
    "wrong, PKCS8": (PKCS8_LOCKED, "passphrase is wrong"),
    "unknown cipher": (with_cipher(b"aes999-xyz"), "encryption (aes999-xyz) is not supported"),
}


def load(path: Path, content: bytes, passphrase: str = "") -> CredentialError:
    path.write_bytes(content)
    path.chmod(0o600)
    credential = Credential(CredentialKind.KEY, path=path, secret=Secret(passphrase) if passphrase else None)
    with pytest.raises(CredentialError) as caught:
        load_private_key(credential, "patch")
    words = f"{caught.value} {caught.value.hint}"
    assert str(path) in words
    assert not any(word in words for word in ("Error", "Unsupported", "Exception", BODY[60:76], "PATH "))
    return caught.value


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_is_no_key_for_a_login(tmp_path: Path, name: str) -> None:
    content, expected = FAULTS[name]
    error = load(tmp_path / "id", content)
    assert expected in error.message
    assert error.hint


@pytest.mark.parametrize("name", WITH_PASSPHRASE)
def test_an_encrypted_key(tmp_path: Path, name: str) -> None:
    content, expected = WITH_PASSPHRASE[name]
    assert expected in load(tmp_path / "id", content, "other").message


def test_a_certificate_beside_the_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "id-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA\n")
    assert f"the certificate {tmp_path / 'id-cert.pub'}" in load(tmp_path / "id", OPENSSH).message


def test_a_key_that_a_secret_store_gives() -> None:
    for content, expected in FAULTS.values():
        with pytest.raises(CredentialError) as caught:
            load_private_key(Credential(CredentialKind.KEY, private_key=Secret(content.decode())), "patch")
        assert expected in caught.value.message


@pytest.mark.parametrize("key", [KEY, ec.generate_private_key(ec.SECP384R1())])
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_good_key_has_no_fault(key, form: PrivateFormat) -> None:
    assert find_key_fault(key.private_bytes(Encoding.PEM, form, NoEncryption()), None) is None


def test_keys_of_openssh_itself_have_no_fault(tmp_path: Path) -> None:
    for number, words in enumerate((["ed25519"], ["rsa", "-b", "2048"], ["ecdsa"], ["rsa", "-b", "2048", "-m", "PEM"])):
        path = tmp_path / str(number)
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", *words, "-f", str(path)], check=True)
        assert find_key_fault(path.read_bytes(), None) is None
        assert load_private_key(Credential(CredentialKind.KEY, path=path), "patch")


@given(st.binary(max_size=200), st.sampled_from([b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"openssh-key-v1\0"]))
def test_any_content_has_an_answer(content: bytes, head: bytes) -> None:
    armoured = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.b64encode(head + content)
    for text in (head + content, armoured, armoured + b"\n-----END OPENSSH PRIVATE KEY-----\n"):
        fault = find_key_fault(text, b"x")
        assert fault is not None
        assert fault.reason.isprintable()
