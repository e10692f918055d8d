"""Host certificates, as OpenSSH's PROTOCOL.certkeys has them: one good, and everything that makes one bad."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from inventory.host_key_store import HostKeyStore, load_host_key_store
from inventory.machine import HostKeyPolicy, HostKeySettings
from tasks.domain.errors import HostKeyMismatch, HostKeyUnknown
from tasks.machines.transport.ssh.host_key_verifier import HostKeyVerifier
from tasks.machines.transport.ssh.restricted_transport import (
    HOST_CERTIFICATE_ALGORITHMS,
    HOST_KEY_ALGORITHMS,
    parse_host_public_key,
)

NOW = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
HostKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
AUTHORITY = Ed25519PrivateKey.generate()


def line(key: HostKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def blob(openssh: bytes) -> bytes:
    return base64.b64decode(openssh.split()[1])


def certificate(
    host_key, *, signer=AUTHORITY, names=(b"db.example",), kind=SSHCertificateType.HOST, hours=(-1, 1), critical=()
):
    builder = (
        SSHCertificateBuilder()
        .public_key(host_key.public_key())
        .type(kind)
        .key_id(b"db")
        .valid_after((NOW + timedelta(hours=hours[0])).timestamp())
        .valid_before((NOW + timedelta(hours=hours[1])).timestamp())
    )
    builder = builder.valid_principals(list(names)) if names else builder.valid_for_all_principals()
    for name in critical:
        builder = builder.add_critical_option(name, b"")
    return blob(builder.sign(signer).public_bytes())


def trust(tmp_path: Path, text: str, policy: HostKeyPolicy = HostKeyPolicy.CA, port: int = 22) -> HostKeyVerifier:
    path = tmp_path / "known_hosts"
    path.write_text(text)
    return HostKeyVerifier(policy, HostKeyStore.load(path), host="db.example", port=port, now=lambda: NOW)


def authority(names: str = "*.example") -> str:
    return f"@cert-authority {names} {line(AUTHORITY)}\n"


HOST_KINDS: dict[str, HostKey] = {
    "ed25519": Ed25519PrivateKey.generate(),
    "ecdsa": generate_private_key(SECP256R1()),
    "rsa": generate_rsa(65537, 2048),
}


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_a_good_certificate_is_trusted_and_its_key_is_found_in_it(tmp_path, kind):
    shown = certificate(HOST_KINDS[kind])
    rules = trust(tmp_path, authority())
    assert rules.select_algorithms() == HOST_CERTIFICATE_ALGORITHMS
    rules.verify_host_key(shown)
    plain = parse_host_public_key(shown)
    assert plain.get_base64() == line(HOST_KINDS[kind]).split()[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"signer": Ed25519PrivateKey.generate()}, "is not trusted for this host"),
        ({"names": (b"web.example",)}, "it is for web.example"),
        ({"names": ()}, "no named host"),
        ({"names": (b"*.example",)}, "it is for"),
        ({"kind": SSHCertificateType.USER}, "not a host's"),
        ({"hours": (-3, -1)}, "not valid now"),
        ({"hours": (1, 3)}, "not valid now"),
        ({"critical": (b"force-command",)}, "critical options"),
    ],
)
def test_a_certificate_that_does_not_vouch_for_this_host_now_is_a_mismatch(tmp_path, change, why):
    with pytest.raises(HostKeyMismatch, match=why):
        trust(tmp_path, authority()).verify_host_key(certificate(HOST_KINDS["ed25519"], **change))


def test_a_certificate_that_was_changed_after_it_was_signed_is_a_mismatch(tmp_path):
    shown = certificate(HOST_KINDS["ed25519"], names=(b"aa.example",)).replace(b"aa.example", b"db.example")
    with pytest.raises(HostKeyMismatch, match="signature is wrong"):
        trust(tmp_path, authority()).verify_host_key(shown)


def test_an_authority_vouches_only_for_its_own_names(tmp_path):
    with pytest.raises(HostKeyUnknown, match="no @cert-authority line"):
        trust(tmp_path, authority("*.elsewhere")).select_algorithms()
    with pytest.raises(HostKeyMismatch, match="is not trusted for this host"):
        trust(tmp_path, authority("*.elsewhere")).verify_host_key(certificate(HOST_KINDS["ed25519"]))


@pytest.mark.parametrize("revoked", [AUTHORITY, HOST_KINDS["ed25519"]])
def test_a_revoked_authority_or_key_vouches_for_nothing(tmp_path, revoked):
    text = authority() + f"@revoked * {line(revoked)}\n"
    with pytest.raises(HostKeyMismatch, match="revoked"):
        trust(tmp_path, text).verify_host_key(certificate(HOST_KINDS["ed25519"]))


def test_a_plain_key_will_not_do_where_certificates_are_asked_for(tmp_path):
    key = HOST_KINDS["ed25519"]
    text = authority() + f"db.example {line(key)}\n"
    with pytest.raises(HostKeyMismatch, match="plain ssh-ed25519 key"):
        trust(tmp_path, text).verify_host_key(blob(line(key).encode()))


def test_bytes_that_are_no_key_are_a_mismatch(tmp_path):
    for junk in (b"", b"\x00\x00\x00\x20ssh-ed25519-cert-v01@openssh.com", b"\xff" * 40):
        with pytest.raises(HostKeyMismatch):
            trust(tmp_path, authority()).verify_host_key(junk)


def test_the_kinds_that_are_pinned_are_asked_for_first(tmp_path):
    text = f"db.example {line(HOST_KINDS['rsa'])}\n"
    wanted = trust(tmp_path, text, HostKeyPolicy.PINNED).select_algorithms()
    assert wanted[:2] == ("rsa-sha2-512", "rsa-sha2-256")
    assert sorted(wanted) == sorted(HOST_KEY_ALGORITHMS)


def test_a_key_pinned_for_one_port_says_nothing_of_another(tmp_path):
    key = HOST_KINDS["ed25519"]
    text = f"db.example {line(key)}\n"
    trust(tmp_path, text, HostKeyPolicy.PINNED).verify_host_key(blob(line(key).encode()))
    with pytest.raises(HostKeyUnknown):
        trust(tmp_path, text, HostKeyPolicy.PINNED, port=2222).verify_host_key(blob(line(key).encode()))


def test_known_hosts_is_read_again_only_when_it_changed(tmp_path):
    path = tmp_path / "known_hosts"
    keys = HostKeySettings(known_hosts=path)
    assert load_host_key_store(keys).find_keys("db.example") == ()
    path.write_text(f"db.example {line(HOST_KINDS['ecdsa'])}\n")
    store = load_host_key_store(keys)
    assert len(store.find_keys("db.example")) == 1
    assert load_host_key_store(keys) is store


def test_a_certificate_of_an_unknown_kind_has_no_plain_key():
    message = paramiko.Message()
    message.add_string("sk-ssh-ed25519@openssh.com")
    message.add_string(b"x" * 32)
    with pytest.raises(Exception, match="sk-ssh"):
        parse_host_public_key(message.asbytes())
