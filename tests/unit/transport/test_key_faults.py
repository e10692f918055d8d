"""Why a private key can't be loaded: one reason and one remedy, for each kind of file, without its content."""

import base64
import shlex
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
from paramiko import Message, PKey

from inventory.credentials import Credential, CredentialKind, Secret
from tasks.domain.errors import CredentialError
from tasks.machines.transport.ssh.private_keys import KeyFault, load_private_key, parse_private_key

KEY = ed25519.Ed25519PrivateKey.generate()
OPENSSH = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"right"))
PKCS8_LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
DSA = dsa.generate_private_key(1024)
ED448 = ed448.Ed448PrivateKey.generate()
FIDO = b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n" % base64.b64encode(
    b"openssh-key-v1\0" + b"\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1\0\0\0\x20\0\0\0\x1ask-ssh-ed25519@openssh.com\0\0"
)
BODY = "".join(OPENSSH.decode().split("-----")[2].split())


def with_cipher(name: bytes) -> bytes:
    """A key that is encrypted in a way that the libraries don't know; a cipher's name has the length of another's."""
    lines = base64.b64decode("".join(LOCKED.decode().split("-----")[2].split())).replace(b"aes256-ctr", name)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(lines) + b"-----END OPENSSH PRIVATE KEY-----\n"


with warnings.catch_warnings(action="ignore"):  # the library will not write such keys for ever
    OPENSSH_DSA = DSA.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
FAULTS = {
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "key of PuTTY"),
    "public": (KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "public key"),
    "certificate": (b"ssh-ed25519-cert-v01@openssh.com AAAA x\n", "certificate"),
    "FIDO": (FIDO, "FIDO key (sk-ssh-ed25519@openssh.com)"),
    "public, PKCS#1": (b"-----BEGIN RSA PUBLIC KEY-----\nMIGJAoGB\n", "public key"),
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
    assert not isinstance(parse_private_key(key.private_bytes(Encoding.PEM, form, NoEncryption()), None), KeyFault)


@given(st.binary(max_size=200), st.sampled_from([b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"openssh-key-v1\0"]))
def test_any_content_has_an_answer(content: bytes, head: bytes) -> None:
    armoured = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.b64encode(head + content)
    for text in (head + content, armoured, armoured + b"\n-----END OPENSSH PRIVATE KEY-----\n"):
        fault = parse_private_key(text, b"x")
        assert isinstance(fault, KeyFault)
        assert fault.reason.isprintable()


GENERATED = {  # the command with OUT for the file; the kind of the key, or the reason why it is none for a login
    "RSA 1024": ("ssh-keygen -t rsa -b 1024 -N '' -f OUT", "ssh-rsa"),
    "RSA, PKCS#1": ("ssh-keygen -t rsa -b 1024 -m PEM -N '' -f OUT", "ssh-rsa"),
    "RSA, PKCS#8": ("ssh-keygen -t rsa -b 1024 -m PKCS8 -N '' -f OUT", "ssh-rsa"),
    "RSA, PKCS#1, encrypted": ("ssh-keygen -t rsa -b 1024 -m PEM -N right -f OUT", "ssh-rsa"),
    "RSA, PKCS#8, encrypted": ("ssh-keygen -t rsa -b 1024 -m PKCS8 -N right -f OUT", "ssh-rsa"),
    "RSA of openssl": ("openssl genrsa -out OUT 1024", "ssh-rsa"),
    "RSA 512": ("openssl genrsa -out OUT 512", "RSA key of 512 bits is too short"),
    "RSA 768, PKCS#1": ("openssl genrsa -traditional -out OUT 768", "RSA key of 768 bits is too short"),
    "RSA, triple DES": ("openssl genrsa -traditional -des3 -passout pass:right -out OUT 1024", "ssh-rsa"),
    "RSA, ARIA": ("openssl genrsa -traditional -aria256 -passout pass:right -out OUT 1024", "passphrase is wrong, or"),
    "ECDSA 256": ("ssh-keygen -t ecdsa -b 256 -N '' -f OUT", "ecdsa-sha2-nistp256"),
    "ECDSA 384, SEC1": ("ssh-keygen -t ecdsa -b 384 -m PEM -N '' -f OUT", "ecdsa-sha2-nistp384"),
    "ECDSA 521, PKCS#8": ("ssh-keygen -t ecdsa -b 521 -m PKCS8 -N '' -f OUT", "ecdsa-sha2-nistp521"),
    "ECDSA of openssl, with parameters": ("openssl ecparam -name prime256v1 -genkey -out OUT", "ecdsa-sha2-nistp256"),
    "Ed25519": ("ssh-keygen -t ed25519 -N '' -f OUT", "ssh-ed25519"),
    "Ed25519 of openssl": ("openssl genpkey -algorithm ED25519 -out OUT", "ssh-ed25519"),
    "Ed25519 of openssl, encrypted": (
        "openssl genpkey -algorithm ED25519 -aes256 -pass pass:right -out OUT",
        "ssh-ed25519",
    ),
    **{
        f"{curve} {form}": (f"openssl {words}", f"no keys of its curve ({name})")
        for curve, name in (("secp256k1",) * 2, ("brainpoolP256r1",) * 2, ("prime192v1", "secp192r1"))
        for form, words in (
            ("SEC1", f"ecparam -name {curve} -genkey -noout -out OUT"),
            ("PKCS#8", f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out OUT"),
        )
    },
    "sect283k1": ("openssl ecparam -name sect283k1 -genkey -noout -out OUT", "kind is not supported"),
    **{
        name: (f"openssl genpkey -algorithm {name} -out OUT", f"kind {name.title()} are not")
        for name in ("Ed448", "X25519", "X448")
    },
    **{
        cipher: (f"ssh-keygen -t ed25519 -a 1 -Z {cipher} -N right -f OUT", expected)
        for cipher, expected in (
            ("aes256-ctr", "ssh-ed25519"),
            ("aes256-cbc", "ssh-ed25519"),
            ("aes128-ctr", "encryption (aes128-ctr) is not supported"),
            ("chacha20-poly1305@openssh.com", "encryption (chacha20-poly1305@openssh.com) is not supported"),
        )
    },
}


@pytest.mark.parametrize("name", GENERATED)
def test_a_key_of_ssh_keygen_or_openssl_logs_in_or_says_why_not(tmp_path: Path, name: str) -> None:
    command, expected = GENERATED[name]
    path = tmp_path / "id"
    words = shlex.split(command.replace("OUT", str(path)))
    subprocess.run(words, check=True, capture_output=True)
    if not expected.startswith(("ssh-", "ecdsa-")):
        assert expected in load(path, path.read_bytes(), "right").message
        return
    if b"ENCRYPTED" in path.read_bytes():
        assert "no passphrase" in load(path, path.read_bytes()).message
    key = load_private_key(Credential(CredentialKind.KEY, path=path, secret=Secret("right")), "patch")
    assert key.get_name() == expected
    signature = key.sign_ssh_data(b"a login", "rsa-sha2-512" if expected == "ssh-rsa" else None)
    public = PKey.from_type_string(expected, key.asbytes())
    assert public.verify_ssh_sig(b"a login", Message(signature.asbytes()))


def test_a_key_between_other_things_is_found(tmp_path: Path) -> None:
    path = tmp_path / "id"
    for content in (b"Bag Attributes\n  name: x\n" + OPENSSH, b"\n\n" + OPENSSH.replace(b"\n", b"\r\n") + b"\n\nnext"):
        path.write_bytes(content)
        assert load_private_key(Credential(CredentialKind.KEY, path=path), "patch").get_name() == "ssh-ed25519"
        path.unlink()
