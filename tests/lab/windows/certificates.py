"""Certificates for hosts and users of the tests: an authority, what it signs, and what it should not have signed."""

import datetime
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.lab.windows.ports import ADDRESS

Kind = Literal["good", "renewed", "self-signed", "expired", "other-name"]
"""What a host shows: "renewed" is as good, but another one; the rest a careful client refuses."""
_UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
"""Windows finds the account of a client certificate by this name in it."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files."""

    chain: Path
    key: Path

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.chain.read_text())

    @property
    def thumbprint(self) -> str:
        """The SHA-1 of it, which Windows calls its thumbprint."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest().upper()


class Authority:
    """Signs certificates, and writes them to a folder. One does for all hosts of a process."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder = folder
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(self._name, self._name, self._key, days=(-1, 30)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / f"{name.replace(' ', '-').lower()}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def for_host(self, name: str, kind: Kind = "good") -> Certificate:
        """What the host of that name shows."""
        shown = "elsewhere" if kind == "other-name" else name
        names: list[x509.GeneralName] = [x509.DNSName(shown)]
        if kind != "other-name":
            names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(ADDRESS))]
        days = (-30, -2) if kind == "expired" else (-1, 20)
        return self._issue(f"{name}-{kind}", shown, names, days=days, signed=kind != "self-signed", client=False)

    def for_user(self, upn: str) -> Certificate:
        """What a user logs in with, whose name is that, such as "patch@localhost"."""
        names: list[x509.GeneralName] = [x509.OtherName(_UPN, b"\x0c" + bytes([len(upn)]) + upn.encode())]
        return self._issue(f"user-{upn}", upn, names, days=(-1, 20), signed=True, client=True)

    def _issue(
        self,
        file: str,
        subject: str,
        names: list[x509.GeneralName],
        *,
        days: tuple[int, int],
        signed: bool,
        client: bool,
    ) -> Certificate:
        key = generate_private_key(SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        made = (
            _builder(name, self._name if signed else name, key, days=days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key((self._key if signed else key).public_key()),
                critical=False,
            )
            .sign(self._key if signed else key, hashes.SHA256())
        )
        serial = f"{made.serial_number:x}"
        chain, secret = self.folder / f"{file}-{serial}.pem", self.folder / f"{file}-{serial}.key"
        chain.write_bytes(made.public_bytes(Encoding.PEM))
        secret.touch(mode=0o600)
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Certificate(chain, secret)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, *, days: tuple[int, int]
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def user_names(der: bytes) -> list[str]:
    """The names (UPN) in a user's certificate."""
    found = x509.load_der_x509_certificate(der)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.value[2:].decode() for name in names if isinstance(name, x509.OtherName) and name.type_id == _UPN]


def server_context(certificate: Certificate, clients: Path) -> ssl.SSLContext:
    """How a host speaks TLS: it asks for a client's certificate, and can do without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
