"""The key that encrypts the Secret blocks of Prefect's server: a private file, never in the database that it protects.

Left alone, Prefect makes the key itself and writes it into a table of the same database (prefect/server/utilities/
encryption.py). Who reads a backup or a replica then reads the secrets. PREFECT_SERVER_ENCRYPTION_KEY replaces that key.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from flows.prefect_api.server_database import connect_database
from inventory.data_class import dataclass
from inventory.files.own_keys import ensure_key, find_key_path, read_key
from inventory.name_lists import join_first_names
from tasks.domain.errors import CannotRun

KEY_NAME: Final = "prefect-encryption"
PREVIOUS_KEY_NAME: Final = "prefect-encryption-previous"
"""The key before the last rotation. The next start encrypts anew what was encrypted with it."""
KEY_VARIABLE: Final = "PREFECT_SERVER_ENCRYPTION_KEY"
FORMER_KEY_VARIABLE: Final = "ORION_ENCRYPTION_KEY"
"""Prefect still reads it."""
_OWN_KEY: Final = "ENCRYPTION_KEY"
_FORM: Final = "A key is 32 random bytes in URL-safe base64: head -c 32 /dev/urandom | base64 | tr '+/' '-_'"


def prepare_encryption(database_url: str, environ: Mapping[str, str]) -> str:
    """Return the key for the server, and encrypt anew what another key had encrypted.

    Another key is the previous one, or the one that Prefect had made in its database. The first call makes the key.
    After it, the database has no key any more. Blocks that no key decrypts stay as they are, and standard error names
    them.

    ``database_url`` is in the form of SQLAlchemy. A key in ``environ`` is used instead of the file.

    Raises:
        KeyFileError: a file of a key can't be read or made, or others than its owner can read it.
        CannotRun: a key is not of the right form, or the database can't be read.
    """
    given_key = environ.get(KEY_VARIABLE) or environ.get(FORMER_KEY_VARIABLE)
    name = KEY_VARIABLE if given_key else str(find_key_path(KEY_NAME))
    key = given_key or ensure_key(KEY_NAME, Fernet.generate_key).decode()
    keys = [_build_cipher(key, name)]
    if previous := read_key(PREVIOUS_KEY_NAME):
        keys.append(_build_cipher(previous.decode(), str(find_key_path(PREVIOUS_KEY_NAME))))
    if lost := _encrypt_anew(database_url, environ, keys):
        remedy = "restore the key from a backup as the previous key, or write these blocks anew"
        sys.stderr.write(f"server: no key decrypts {len(lost)} blocks ({join_first_names(lost)}): {remedy}\n")
    return key


def find_encryption_key(database_url: str, environ: Mapping[str, str]) -> str | None:
    """Return the key for a server that must not change how its database is encrypted, because it is not the only one.

    ``database_url`` is in the form of SQLAlchemy. A key in ``environ`` is used instead of the file.

    Returns:
        None: the database has a key of its own, which Prefect reads, or there is no key yet.

    Raises:
        KeyFileError: the file of the key can't be read, or others than its owner can read it.
        CannotRun: the database can't be read.
    """
    if given_key := environ.get(KEY_VARIABLE) or environ.get(FORMER_KEY_VARIABLE):
        return given_key
    key = read_key(KEY_NAME)
    if key is None:
        return None
    with _open_tables(database_url, environ) as tables:
        has_own_key = tables is not None and tables.connection.scalar(sa.select(sa.exists(tables.own_keys)))
    return None if has_own_key else key.decode()


def _build_cipher(key: str, name: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError as error:
        raise CannotRun(f"{name} is no key of Prefect's encryption", hint=_FORM) from error


def _encrypt_anew(database_url: str, environ: Mapping[str, str], keys: list[Fernet]) -> list[str]:
    """Encrypt all blocks with the first key, and remove the database's own.

    Returns:
        the names of blocks that no key decrypts.
    """
    with _open_tables(database_url, environ) as tables:
        if tables is None:
            return []
        fernets = [Fernet(value["fernet_key"]) for value in tables.connection.scalars(tables.own_keys)]
        lost = _rotate(tables.connection, tables.blocks, [*keys, *fernets])
        if not lost:
            tables.connection.execute(sa.delete(tables.settings).where(tables.settings.c.key == _OWN_KEY))
        return lost


@dataclass(frozen=True, slots=True)
class _Tables:
    """Prefect's tables of blocks and settings, in a transaction."""

    connection: sa.Connection
    settings: sa.Table
    blocks: sa.Table

    @property
    def own_keys(self) -> sa.Select[tuple[Any]]:
        """The keys that Prefect made in the database."""
        return sa.select(self.settings.c.value).where(self.settings.c.key == _OWN_KEY)


@contextmanager
def _open_tables(database_url: str, environ: Mapping[str, str]) -> Iterator[_Tables | None]:
    """Give the tables of a database; None if the server has yet to make them."""
    with connect_database(database_url, environ) as connection:
        if connection is None or not {"block_document", "configuration"} <= set(
            sa.inspect(connection).get_table_names()
        ):
            yield None
            return
        metadata = sa.MetaData()
        names = ("configuration", "block_document")
        yield _Tables(connection, *(sa.Table(name, metadata, autoload_with=connection) for name in names))


def _rotate(connection: sa.Connection, blocks: sa.Table, keys: Iterable[Fernet]) -> list[str]:
    first, *_ = keys = list(keys)
    lost = []
    for identity, name, data in connection.execute(sa.select(blocks.c.id, blocks.c.name, blocks.c.data)).all():
        if not isinstance(data, str) or _decrypts(first, data):
            continue
        try:
            token = MultiFernet(keys).rotate(data.encode()).decode()
        except InvalidToken:
            lost.append(str(name))
            continue
        connection.execute(sa.update(blocks).where(blocks.c.id == identity).values(data=token))
    return sorted(lost)


def _decrypts(key: Fernet, token: str) -> bool:
    try:
        key.decrypt(token.encode())
    except InvalidToken:
        return False
    return True
