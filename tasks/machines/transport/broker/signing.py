"""Signs scripts for a machine's broker, and builds what installs a broker.

ECDSA on P-256: ``openssl dgst -verify`` checks it with every OpenSSL since 1.0. Ed25519 would need ``openssl pkeyutl
-rawin`` (OpenSSL 3.0) or ``ssh-keygen -Y verify`` (OpenSSH 8.1); RHEL 8 has OpenSSL 1.1.1 and OpenSSH 8.0.
"""

import base64
import secrets
import shlex
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from inventory.files.own_keys import KeyFileError, ensure_key, read_key
from tasks.machines.transport.broker import BROKER_PATH
from tasks.machines.transport.script_library import load_script

KEY_NAME: Final = "broker"
VALIDITY: Final = timedelta(minutes=5)
"""How long a signed script may be begun. The clocks of controller and machine may differ by less than that."""


def sign_script(script: bytes, machine: str, now: datetime) -> bytes:
    """Return the input of a machine's broker: the script, for this machine, once, within some minutes.

    ``script`` is the input of the root shell.

    Raises:
        KeyFileError: the key can't be read or made.
    """
    expires = int((now + VALIDITY).timestamp())
    head = f"machine {machine}\nexpires {expires}\nnonce {secrets.token_hex(16)}\n"
    payload = head.encode() + script
    signature = base64.b64encode(_load_key().sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    return f"fleetpatch-broker 1 {len(payload)} {signature}\n".encode() + payload


def build_installer(machine: str, user: str) -> str:
    """Return a shell script that installs the broker on a machine. It must run as root there.

    ``user`` is the login that may call the broker.

    Raises:
        KeyFileError: the key can't be read or made.
    """
    pem = _to_pem(_load_key())
    broker = load_script("broker", __package__)
    rule = f'Defaults!{BROKER_PATH} env_reset\n{user} ALL=(root) NOPASSWD: {BROKER_PATH} ""\n'
    return f"""#!/bin/sh
set -eu
umask 022
command -v openssl >/dev/null
install -d -m 0755 -o root -g root /etc/fleetpatch-broker
install -d -m 0700 -o root -g root /var/lib/fleetpatch-broker /var/lib/fleetpatch-broker/used
printf '%s' {shlex.quote(pem)} >/etc/fleetpatch-broker/controller.pem
printf '%s\\n' {shlex.quote(machine)} >/etc/fleetpatch-broker/machine
printf '%s' {shlex.quote(broker)} >{BROKER_PATH}.new
chown root:root {BROKER_PATH}.new
chmod 0755 {BROKER_PATH}.new
mv {BROKER_PATH}.new {BROKER_PATH}
printf '%s' {shlex.quote(rule)} >/etc/sudoers.d/.fleetpatch-broker.new
chmod 0440 /etc/sudoers.d/.fleetpatch-broker.new
visudo -cqf /etc/sudoers.d/.fleetpatch-broker.new
mv /etc/sudoers.d/.fleetpatch-broker.new /etc/sudoers.d/fleetpatch-broker
"""


def read_public_key() -> str:
    """Return the key by which brokers know this controller, in PEM; "" if it has none. No key is made.

    Raises:
        KeyFileError: the key can't be read.
    """
    return _to_pem(_load_key()) if read_key(KEY_NAME) is not None else ""


def _to_pem(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _create_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).strip()


def _load_key() -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(ensure_key(KEY_NAME, _create_key), password=None)
    except ValueError as error:
        raise KeyFileError("the key of the broker is no private key", hint="Restore it from a backup.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError("the key of the broker is of another kind", hint="Restore it from a backup.")
    return key
