"""Attacks on the secrets that Prefect's server stores: `prefect:` credentials, which are passwords of machines."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, InvalidToken
from prefect.server.database import provide_database_interface
from prefect.server.utilities.encryption import decrypt_fernet, encrypt_fernet
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

from flows.prefect_api.encryption_key import KEY_VARIABLE, prepare_encryption
from tests.support.prefect_tables import copy_tables

PASSWORD = {"value": "the password for sudo"}


async def _store() -> str:
    """Encrypt as Prefect's server does when a block is saved."""
    async with provide_database_interface().session_context(begin_transaction=True) as session:
        return await encrypt_fernet(session, PASSWORD)


async def _load(token: str) -> object:
    async with provide_database_interface().session_context() as session:
        return await decrypt_fernet(session, token)


def _steal(backup: Path) -> list[object]:
    """Return what a reader of the database finds: each block, decrypted with each key that is stored in it."""
    with closing(sqlite3.connect(backup)) as database:
        keys = [json.loads(value)["fernet_key"] for (value,) in database.execute("SELECT value FROM configuration")]
        tokens = [json.loads(data) for (data,) in database.execute("SELECT data FROM block_document")]
    stolen = []
    for key in keys:
        for token in tokens:
            try:
                stolen.append(json.loads(Fernet(key).decrypt(token)))
            except InvalidToken:
                continue
    return stolen


def test_who_reads_the_database_reads_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: reads Prefect's database or a backup of it, no other file of the controller.

    Way: Prefect stores the key of its Secret blocks in a table of the same database.
    Must hold: after a start with `fleetpatch server`, the database opens none of its secrets; the server still does.
    """
    path = tmp_path / "prefect.db"
    copy_tables(path)
    url = f"sqlite+aiosqlite:///{path}"
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}):
        token = asyncio.run(_store())
        with closing(sqlite3.connect(path)) as database, database:
            # as if it had been saved: names of types and schemas do not matter here
            columns = [
                row for row in database.execute("PRAGMA table_info(block_document)") if row[3] and row[4] is None
            ]
            row = {name: "2026-01-01 00:00:00" if kind == "TIMESTAMP" else "x" for _, name, kind, *_ in columns}
            row |= {"id": "00000000-0000-0000-0000-000000000001", "name": "sudo", "data": json.dumps(token)}
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO block_document ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        assert _steal(path) == [PASSWORD]  # as Prefect does it

        monkeypatch.setenv(KEY_VARIABLE, prepare_encryption(url, {}))
        assert _steal(path) == []
        with closing(sqlite3.connect(path)) as database:
            (data,) = database.execute("SELECT data FROM block_document").fetchone()
        assert asyncio.run(_load(json.loads(data))) == PASSWORD
        assert json.loads(data) != token
