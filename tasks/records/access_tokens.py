"""Stores who may use the pages and the API: access tokens, and their signatures (Ed25519, RFC 8032).

No token is stored, only its SHA-256 digest. Only who has the private key makes a token valid. The command that adds
tokens signs them. The pages have only the public key: neither who writes their tables nor who controls their process
makes a token valid, longer, or mightier. Both keys are files of inventory/files/own_keys.py. A file of public keys
may have several lines, so that a key can be replaced. All threads of a process may share the objects.
"""

import base64
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import delete, insert, select, update

from inventory.data_class import dataclass
from inventory.files.own_keys import KeyFileError, ensure_key, find_key_path, read_key
from tasks.domain.errors import RecordsError, RequestError
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.fleets import DEFAULT_FLEET
from tasks.records.page_schema import access_tokens, web_sessions
from tasks.records.statements import build_row
from tasks.records.storage.database import Database

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


logger = logging.getLogger(__name__)

END_WARNING: Final = timedelta(days=14)
"""How long before its end people are warned."""
TOKEN_SOURCE: Final = "token"  # noqa: S105 - no secret
"""The source of sessions that were opened with an access token. Their subject is the token's digest."""

_REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A login of a person or a program."""

    name: str  # who it is, in records and in the audit log
    roles: tuple[str, ...]  # what it may do: words of ``fleetpatch.access.roles.Role``.
    created_by: str  # who made it: the account of the operating system
    created_at: datetime
    expires_at: datetime | None = None  # the end of its use; None: it has none
    used_at: datetime | None = None  # its last use, exact to a minute; None: never
    is_signed: bool = True  # whether its signature fits: nobody has changed it in the database

    def ends_soon(self, now: datetime) -> bool:
        """Return whether its end comes within ``END_WARNING``."""
        return self.expires_at is not None and now < self.expires_at <= now + END_WARNING

    def has_expired(self, now: datetime) -> bool:
        """Return whether its end has come."""
        return self.expires_at is not None and self.expires_at <= now


class SqlAccessTokens:
    """Access tokens and sessions in the database of the records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decisions = SqlDecisions(database)

    def add(self, token: AccessToken, digest: str) -> None:
        """Sign and store a new token.

        Raises:
            RequestError: the name is taken.
            RecordsError: the records can't be written, or this process can't sign tokens.
        """
        signature = sign_token(
            fleet=self._database.fleet,
            name=token.name,
            digest=digest,
            roles=token.roles,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
        row = build_row(access_tokens, token, digest=digest, roles=",".join(token.roles), signature=signature)
        with self._database.begin_write(f"store the access token {token.name}") as connection:
            taken = connection.execute(select(access_tokens.c.name).where(access_tokens.c.name == token.name)).first()
            if taken is not None:
                raise RequestError(
                    f"there is an access token {token.name} already",
                    hint=f"Choose another name, or end that one first: fleetpatch web token remove {token.name}",
                )
            connection.execute(insert(access_tokens).values(row))

    def remove(self, name: str) -> bool:
        """Remove a token and end its sessions at once. Return False if there is none with this name."""
        with self._database.begin_write(f"remove the access token {name}") as connection:
            connection.execute(
                delete(web_sessions).where(web_sessions.c.name == name, web_sessions.c.source == TOKEN_SOURCE)
            )
            ended = delete(access_tokens).where(access_tokens.c.name == name).returning(access_tokens.c.digest)
            digest = connection.execute(ended).scalar_one_or_none()
            if digest is not None:
                self._decisions.append(connection, DecisionKind.TOKEN, _REMOVED, digest)
        if digest is not None:
            self._decisions.note_newest()
        return digest is not None

    def list_tokens(self) -> Sequence[AccessToken]:
        """Return all tokens by name."""
        rows = self._database.read_rows("read the access tokens", select(access_tokens).order_by(access_tokens.c.name))
        return [_build(row, self._database.fleet) for row in rows]

    def find_by_token(self, digest: str, now: datetime) -> AccessToken | None:
        """Return the token with this digest, if its signature fits, it has not expired, and nobody has removed it.

        Raises:
            SealBroken: the chain of decisions is not whole: it can't be said who was removed.
        """
        query = select(access_tokens).where(access_tokens.c.digest == digest)
        with self._database.begin_read("read an access token") as connection:
            row = connection.execute(query).first()
        token = _build(row, self._database.fleet) if row is not None else None
        if token is not None and not token.is_signed:
            logger.warning("the access token %s has no signature that fits: it opens nothing", token.name)
            return None
        if row is None or token is None or token.has_expired(now):
            return None
        if self._decisions.find(DecisionKind.TOKEN, row.digest) is not None:
            logger.warning(
                "the access token %s was removed, and was put back in the database: it opens nothing", token.name
            )
            return None
        return token

    def store_use(self, name: str, at: datetime) -> None:
        """Store the last use of a token."""
        with self._database.begin_write("store the use of an access token") as connection:
            connection.execute(update(access_tokens).where(access_tokens.c.name == name).values(used_at=at))


def _build(row: Any, fleet: str) -> AccessToken:  # noqa: ANN401 - SQLAlchemy's row
    roles = tuple(part for part in row.roles.split(",") if part)
    fits = is_signed(
        row.signature,
        fleet=fleet,
        name=row.name,
        digest=row.digest,
        roles=roles,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
    return AccessToken(row.name, roles, row.created_by, row.created_at, row.expires_at, row.used_at, fits)
