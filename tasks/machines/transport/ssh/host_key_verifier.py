"""Verifies a host's identity: pinned keys, keys learned at first contact, and host certificates.

Host certificates follow OpenSSH's PROTOCOL.certkeys. paramiko does not verify them, so this module does.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from inventory.errors import HostKeyConflict
from inventory.host_key_store import HostKeyStore
from inventory.known_hosts import PinnedKey, render_known_hosts_name
from inventory.machine import HostKeyPolicy
from tasks.domain.errors import HostKeyMismatch, HostKeyUnknown
from tasks.machines.transport.ssh.restricted_transport import HOST_CERTIFICATE_ALGORITHMS, HOST_KEY_ALGORITHMS

COMPARE_COMMAND: Final = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
"""What a person runs on the machine's console to see the fingerprint."""


class HostKeyVerifier:
    """The host key rules for one host.

    Args:
        policy: what is trusted.
        store: where keys are pinned.
        host: its address in the inventory; known_hosts and certificates use the same name.
        port: port of its SSH server.
        now: gives the time, for the validity of certificates.
        machine: its name in the inventory, for remedies.
    """

    def __init__(
        self,
        policy: HostKeyPolicy,
        store: HostKeyStore,
        *,
        host: str,
        port: int,
        now: Callable[[], datetime],
        machine: str = "",
    ) -> None:
        self._policy = policy
        self._store = store
        self._host = host
        self._port = port
        self._now = now
        self._machine = machine

    @property
    def requires_certificate(self) -> bool:
        """Whether only host certificates are accepted."""
        return self._policy is HostKeyPolicy.CA

    def select_algorithms(self) -> tuple[str, ...]:
        """Return the types of host key to request, pinned types first, so that the host shows a pinned key.

        Raises:
            HostKeyUnknown: no certificate authority is configured for this host.
        """
        if self._policy is HostKeyPolicy.CA:
            if not self._store.find_authorities(self._host, self._port):
                raise HostKeyUnknown(
                    f"no @cert-authority line of {self._store.path} covers {self._address}",
                    hint=f"Add one: @cert-authority {self._address} KEY-TYPE BASE64",
                )
            return HOST_CERTIFICATE_ALGORITHMS
        pinned = {key.type for key in self._store.find_keys(self._host, self._port)}
        if "ssh-rsa" in pinned:
            pinned |= {"rsa-sha2-512", "rsa-sha2-256"}
        return tuple(sorted(HOST_KEY_ALGORITHMS, key=lambda name: name not in pinned))  # sorting is stable

    def verify_host_key(self, blob: bytes) -> None:
        """Return if the host is trusted, else raise.

        ``blob`` is the public key or certificate that it showed, and proved to have.

        Raises:
            HostKeyMismatch: it must not be trusted.
            HostKeyUnknown: it is not pinned yet.
        """
        if self._policy is HostKeyPolicy.CA:
            self._verify_certificate(blob)
        else:
            self._verify_plain_key(PinnedKey.from_blob(blob))

    @property
    def _address(self) -> str:
        return render_known_hosts_name(self._host, self._port)

    def _verify_plain_key(self, shown: PinnedKey) -> None:
        self._require_not_revoked(shown)
        pinned = self._store.find_keys(self._host, self._port)
        if shown in pinned:
            return
        if pinned:
            pinned_text = ", ".join(f"{key.type} {key.fingerprint}" for key in pinned)
            raise HostKeyMismatch(
                f"it shows the host key {shown.type} {shown.fingerprint}, but pinned is {pinned_text}",
                hint="An attacker may be in between, the machine was reinstalled, or an update made new keys. Compare "
                f"the key with the machine's own on its console: {COMPARE_COMMAND}. If it is the same, remove the old "
                f"line: ssh-keygen -R '{self._address}' -f {self._store.path}; and trust the new key: fleetpatch "
                f"doctor {self._machine or self._host} --trust",
            )
        if self._policy is not HostKeyPolicy.LEARN:
            raise HostKeyUnknown(
                f"its host key is not trusted yet: {shown.type} {shown.fingerprint}",
                hint=f"Compare it with the machine's own ({COMPARE_COMMAND}). To trust it: fleetpatch doctor "
                f"{self._machine or self._host} --trust, or add to {self._store.path}: "
                f"{self._address} {shown.type} {shown.base64}",
            )
        try:
            self._store.pin_first_key(self._host, self._port, shown.type, shown.base64)
        except HostKeyConflict as conflict:  # another process learned another key meanwhile
            raise HostKeyMismatch(conflict.message, hint=conflict.hint) from conflict

    def _require_not_revoked(self, key: PinnedKey) -> None:
        if self._store.is_revoked(key.type, key.base64):
            raise HostKeyMismatch(
                f"its key {key.type} {key.fingerprint} is revoked",
                hint="Give the machine a new host key. A revoked key is never trusted again.",
            )

    def _verify_certificate(self, blob: bytes) -> None:
        certificate = _parse_certificate(blob)
        authority = _parse_openssh_key(certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        self._require_not_revoked(authority)
        self._require_not_revoked(
            _parse_openssh_key(certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        )
        self._require_not_revoked(PinnedKey.from_blob(blob))
        if authority not in self._store.find_authorities(self._host, self._port):
            raise HostKeyMismatch(
                f"its host certificate is signed by {authority.fingerprint}, which is not trusted for this host",
                hint=f"Look at the @cert-authority lines of {self._store.path}, and at what answers there.",
            )
        if fault := _describe_certificate_fault(certificate, self._host, self._now()):
            raise HostKeyMismatch(
                f"its host certificate '{certificate.key_id.decode('utf-8', 'replace')}' is no good: {fault}",
                hint="Issue a new one: ssh-keygen -s CA -h -n NAME … on the authority.",
            )


def _describe_certificate_fault(certificate: SSHCertificate, host: str, now: datetime) -> str:
    try:
        certificate.verify_cert_signature()
    except InvalidSignature:
        return "the authority's signature is wrong"
    if certificate.type is not SSHCertificateType.HOST:
        return "it is a user's, not a host's"
    if not certificate.valid_after <= now.timestamp() < certificate.valid_before:
        return "it is not valid now"
    if certificate.critical_options:  # OpenSSH defines none for hosts; an unknown one must be obeyed, so it is refused
        return "it has critical options that fleetpatch does not know"
    names = [name.decode("utf-8", "replace").lower() for name in certificate.valid_principals]
    if host.lower() not in names:  # a certificate without names would be valid for every host, so it is refused too
        return f"it is for {', '.join(names) or 'no named host'}, not for {host}"
    return ""


def _parse_certificate(blob: bytes) -> SSHCertificate:
    shown = PinnedKey.from_blob(blob)
    try:
        certificate = load_ssh_public_identity(f"{shown.type} {shown.base64}".encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HostKeyMismatch(f"its host certificate can't be read: {error}") from error
    if not isinstance(certificate, SSHCertificate):
        raise HostKeyMismatch(
            f"it shows a plain {shown.type} key, and the inventory asks for host certificates (policy ca)",
            hint="Set HostCertificate in its sshd_config, or use the policy pinned.",
        )
    return certificate


def _parse_openssh_key(openssh: bytes) -> PinnedKey:
    name, blob = openssh.decode("ascii").split()[:2]
    return PinnedKey(name, blob)
