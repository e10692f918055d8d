"""The certificate of the pages: when it ends, and one that the pages make for themselves where none is given."""

import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inventory.files.own_keys import ensure_key, find_key_path
from tasks.domain.errors import CannotRun

WARNING_TIME: Final = timedelta(days=14)
RENEWAL_TIME: Final = timedelta(days=30)
OWN_LENGTH: Final = timedelta(days=397)
"""How long a certificate that the pages make is valid. Apple's systems refuse one that is valid for longer than 398."""
_KEY_NAME: Final = "web-tls"


def read_certificate_end(path: Path) -> datetime:
    """Return when the first certificate of a file ends: browsers refuse it from then on.

    Args:
        path: a PEM file; the certificates of its chain follow the first one.

    Raises:
        CannotRun: it can't be read.
    """
    return _read_certificate(path).not_valid_after_utc


def read_fingerprint(path: Path) -> str:
    """Return the SHA-256 fingerprint of a certificate, as browsers and openssl show it.

    Raises:
        CannotRun: it can't be read.
    """
    return _read_certificate(path).fingerprint(hashes.SHA256()).hex(":").upper()


def describe_certificate_end(ends_at: datetime | None, now: datetime) -> str:
    """Return a warning if a certificate ends soon, or has ended; "" if not. Pure."""
    if ends_at is None or ends_at - now >= WARNING_TIME:
        return ""
    end_text = f"{ends_at:%d %b %Y %H:%M} UTC"
    end = f"ends on {end_text}" if now < ends_at else f"ended on {end_text}: browsers refuse it"
    return f"The certificate of these pages {end}. Renew it, then restart fleetpatch web."


def ensure_own_certificate(names: Sequence[str], now: datetime) -> Path:
    """Return the file with a certificate that the pages have signed themselves, and its key.

    It is made once, and again when it ends within a month or lacks a name. The file is private.

    Raises:
        KeyFileError: the file can't be read or made, or others can read it.
        CannotRun: the file has no certificate.
    """
    ensure_key(_KEY_NAME, lambda: build_own_certificate(names, now))
    path = find_key_path(_KEY_NAME)
    certificate = _read_certificate(path)
    is_old = certificate.not_valid_after_utc - now < RENEWAL_TIME
    if path.name == _KEY_NAME and (is_old or not set(names) <= _list_names(certificate)):  # systemd's is not ours
        path.unlink()
        ensure_key(_KEY_NAME, lambda: build_own_certificate(names, now))
    return path


def build_own_certificate(names: Sequence[str], now: datetime) -> bytes:
    """Return a new key (P-256) and a certificate that it has signed, in PEM form. Pure but for its random numbers.

    It is not one of an authority: who trusts it trusts these pages alone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleetpatch web")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of browsers may be behind
        .not_valid_after(now - timedelta(hours=1) + OWN_LENGTH)
        .add_extension(x509.SubjectAlternativeName([_build_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def list_certificate_names(host: str, public_host: str, allowed_hosts: Sequence[str]) -> tuple[str, ...]:
    """Return the names and addresses that a certificate of these pages is for."""
    names = (socket.gethostname().lower(), socket.getfqdn().lower(), "localhost", "127.0.0.1", "::1")
    all_names = dict.fromkeys([*names, host, public_host, *(name.lower() for name in allowed_hosts)])
    return tuple(name for name in all_names if name and not _is_every_address(name))


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise CannotRun(f"--tls-cert {path} can't be read: {error}", hint="Give a certificate in PEM form.") from error


def _is_every_address(name: str) -> bool:
    try:
        return ip_address(name).is_unspecified
    except ValueError:
        return False


def _build_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _list_names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
