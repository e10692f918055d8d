"""Signatures of access tokens: only who has the private key makes a token valid (Ed25519, RFC 8032).

The command that adds tokens signs them. The pages have only the public key: neither who writes their tables nor who
controls their process makes a token valid, longer, or mightier. Both keys are files of
inventory/files/private_keys.py. A file of public keys may have several lines, so that a key can be replaced.
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from inventory.files.private_keys import KeyFileError, ensure_key, find_key_path, read_key
from tasks.domain.errors import RecordsError
from tasks.records.fleets import DEFAULT_FLEET

SIGNING_KEY: Final = "token-signing"
VERIFICATION_KEY: Final = "token-verification"


def sign_token(
    *, fleet: str, name: str, digest: str, roles: Sequence[str], created_at: datetime, expires_at: datetime | None
) -> str:
    """Return the signature of an access token of a fleet. The first call makes both keys.

    Raises:
        RecordsError: a key can't be read or made, or the public key is another one's.
    """
    try:
        key = _load_private_key(ensure_key(SIGNING_KEY, _create_private_key))
        public = base64.b64encode(key.public_key().public_bytes_raw())
        verifying = ensure_key(VERIFICATION_KEY, lambda: public)
    except KeyFileError as error:
        raise RecordsError(error.message, hint=error.hint) from error
    if public not in verifying.split():
        raise RecordsError(
            f"{find_key_path(VERIFICATION_KEY)} lacks the public key of {find_key_path(SIGNING_KEY)}",
            hint=f"No pages would accept the token. Add the line {public.decode()} to it.",
        )
    return base64.b64encode(key.sign(_build_message(fleet, name, digest, roles, created_at, expires_at))).decode()


def is_signed(
    signature: str | None,
    *,
    fleet: str,
    name: str,
    digest: str,
    roles: Sequence[str],
    created_at: datetime,
    expires_at: datetime | None,
) -> bool:
    """Return whether an access token has a signature that one of the public keys verifies. Without a key: no.

    Raises:
        RecordsError: the public keys can't be read.
    """
    if not signature:
        return False
    message = _build_message(fleet, name, digest, roles, created_at, expires_at)
    for key in _read_public_keys():
        try:
            key.verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _build_message(
    fleet: str, name: str, digest: str, roles: Sequence[str], created_at: datetime, expires_at: datetime | None
) -> bytes:
    """Return what is signed. The token of one fleet opens nothing of another one with the same keys."""
    moments = (moment.astimezone(UTC).isoformat() if moment else "" for moment in (created_at, expires_at))
    folder_parts = [] if fleet == DEFAULT_FLEET else [fleet]
    return json.dumps(["fleetpatch access token", name, digest, list(roles), *moments, *folder_parts]).encode()


def _create_private_key() -> bytes:
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw())


def _load_private_key(content: bytes) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(content, validate=True))
    except ValueError as error:
        path = find_key_path(SIGNING_KEY)
        raise RecordsError(f"{path} is no Ed25519 key", hint="Restore it, or remove both keys of tokens.") from error


def _read_public_keys() -> Sequence[Ed25519PublicKey]:
    try:
        content = read_key(VERIFICATION_KEY)
        lines = (line.strip() for line in (content or b"").splitlines())
        keys = [line for line in lines if line and not line.startswith(b"#")]
        return [Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True)) for key in keys]
    except KeyFileError as error:
        raise RecordsError(error.message, hint=error.hint) from error
    except ValueError as error:
        path = find_key_path(VERIFICATION_KEY)
        raise RecordsError(f"{path} has a line that is no public key", hint="Copy it again.") from error
