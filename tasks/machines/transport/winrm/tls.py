"""How the machine's certificate is checked: by a CA, or by its thumbprint. There is no way to leave it out.

Of one that is not trusted, a person is told which it is, to compare it and to pin it.
"""

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from inventory.errors import InventoryError
from inventory.files.paths import expand_home
from inventory.machine import WinrmSettings
from tasks.domain.errors import HostKeyMismatch, HostKeyUnknown, TransportError

_PIN_HINT = (
    "Compare it with the machine's own (certlm.msc, or Get-ChildItem Cert:\\LocalMachine\\My there). If it was "
    "replaced on purpose, correct certificate_thumbprint; else someone is between."
)
_TRUST_HINT = "Give its thumbprint as winrm.certificate_thumbprint, or the certificate itself as winrm.ca_file."
_NAME_HINT = "Write the name that is in the certificate as the address, or pin winrm.certificate_thumbprint."
_HINTS_BY_REASON = {
    "self-signed": _TRUST_HINT,
    "self signed": _TRUST_HINT,
    "expired": "Renew it on the machine, and give the listener the new one.",
    "not yet valid": "Compare the clocks of the machine and of the controller.",
    "mismatch": _NAME_HINT,
    "not valid for": _NAME_HINT,
    "issuer": "Give the CA's certificates (root and intermediate, PEM) as winrm.ca_file.",
}
_NO_TLS_HINT = (
    "Is the listener on that port an HTTPS one (winrm enumerate winrm/config/listener), with a certificate? "
    "TLS 1.2 is needed."
)


def build_tls_context(
    settings: WinrmSettings, key: Path | None = None, passphrase: str | None = None
) -> ssl.SSLContext:
    """Return the TLS settings of a connection.

    ``key`` and ``passphrase`` are of the machine's client certificate, if it has one.

    Raises:
        InventoryError: a file can't be used.
    """
    ca_file = expand_home(settings.ca_file) if settings.ca_file else None
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise InventoryError(
            f"winrm.ca_file {ca_file} can't be read: {error.strerror or error}",
            hint="It has certificates in PEM: text that begins with -----BEGIN CERTIFICATE-----.",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        # the file may have an intermediate CA, or the machine's own certificate, without the root
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # certificates of internal CAs often lack extensions
    elif settings.certificate_thumbprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the thumbprint is compared instead, before anything is sent
    if settings.client_certificate is not None:
        # Windows asks for the certificate after the handshake. With TLS 1.3 (Server 2022 and later), WinRM resets the
        # connection then, also for Windows' own clients; with TLS 1.2 it works.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        path = expand_home(settings.client_certificate)
        try:
            # a function, because without one OpenSSL would ask for a passphrase on the terminal
            context.load_cert_chain(path, key, password=lambda: passphrase or "")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise InventoryError(
                f"the client certificate {path} with the key {key} can't be used: {error}",
                hint="Both are PEM, and belong to each other; an encrypted key is written key:PATH?passphrase=REF.",
            ) from error
    return context


def build_certificate_error(error: BaseException, settings: WinrmSettings) -> TransportError:
    """Return the error for a TLS handshake that failed, from any error that has its cause in its text."""
    text = str(error)
    if "Fingerprints did not match" in text or "thumbprint" in text:
        return HostKeyMismatch("the machine's certificate is not the pinned one", hint=_PIN_HINT)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        reason = text.rpartition("certificate verify failed:")[2].partition("(_ssl")[0].strip(" '\")") or text
        hint = next((hint for phrase, hint in _HINTS_BY_REASON.items() if phrase in reason.lower()), _TRUST_HINT)
        return HostKeyUnknown(f"the machine's certificate is not trusted: {reason}", hint=hint)
    if settings.client_certificate is not None and "alert" in text.lower():
        return TransportError(
            f"the TLS handshake failed: {text}", hint="The machine may not trust the CA of the client certificate."
        )
    return TransportError(f"the TLS handshake failed: {text}", hint=_NO_TLS_HINT)


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
            der = line.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return ""
    return describe_certificate(der) if der else ""


def describe_certificate(der: bytes) -> str:
    """Return a sentence about a certificate: its name, issuer and end, and both of its thumbprints."""
    sha256 = hashlib.sha256(der).hexdigest().upper()
    sha1 = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject_text = f" of {_find_name(certificate.subject)}, issued by {_find_name(certificate.issuer)},"
        subject_text += f" valid until {certificate.not_valid_after_utc:%Y-%m-%d},"
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
