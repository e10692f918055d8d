"""Says which certificate a machine shows that is not trusted, so that a person can compare it, and pin it."""

import hashlib
import socket
import ssl
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_SECONDS: Final = 5.0
_MAX_NAME_LENGTH: Final = 100


def describe_shown_certificate(host: str, port: int) -> str:
    """Return a sentence about the certificate that a machine shows; "" if it shows none now.

    It is asked for on a connection of its own, on which nothing is sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # this is only about what is shown: nothing is sent to it
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as line,
        ):
            shown = line.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return ""
    return describe_certificate(shown) if shown else ""


def describe_certificate(shown: bytes) -> str:
    """Return a sentence about a certificate (DER): its name, issuer and end, and both of its thumbprints."""
    sha256 = hashlib.sha256(shown).hexdigest().upper()
    sha1 = hashlib.sha1(shown, usedforsecurity=False).hexdigest().upper()
    try:
        x509_certificate = x509.load_der_x509_certificate(shown)
        subject_text = f" of {_find_name(x509_certificate.subject)}, issued by {_find_name(x509_certificate.issuer)},"
        subject_text += f" valid until {x509_certificate.not_valid_after_utc:%Y-%m-%d},"
    except (ValueError, TypeError):  # what a machine shows may be anything
        subject_text = ""
    return (
        f"It shows the certificate{subject_text} SHA-256 {sha256} (SHA-1, which Windows calls its thumbprint: {sha1}). "
        "If the machine itself says the same, winrm.certificate_thumbprint may have that SHA-256."
    )


def _find_name(name: x509.Name) -> str:
    common_names = [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    text = common_names[-1] if common_names else name.rfc4514_string()
    return "".join(char if char.isprintable() else "?" for char in text)[:_MAX_NAME_LENGTH] or "nobody"
