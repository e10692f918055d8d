"""The key of Prefect's Secret blocks: out of the database, made once, rotated by the next start."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.dialects.postgresql import JSONB

from deployments.server.connection_urls import build_database_url
from flows.prefect_api.encryption_key import KEY_NAME, KEY_VARIABLE, find_encryption_key, prepare_encryption
from inventory.files.own_keys import KeyFileError, ensure_key
from tasks.domain.errors import CannotRun
from tasks.records.storage.database import LIBPQ_TIMEOUTS
from tests.support import postgres

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
METADATA = sa.MetaData()
SETTINGS = sa.Table("configuration", METADATA, sa.Column("key", sa.String), sa.Column("value", JSON))
BLOCKS = sa.Table("block_document", METADATA, sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
                  sa.Column("name", sa.String), sa.Column("data", JSON))  # fmt: skip
SECRETS = {"sudo": {"value": "first secret"}, "webhook": {"value": "second secret"}}


class Database:
    """The tables of Prefect that matter here, with the columns that matter, in the types that Prefect gives them."""

    def __init__(self, url: str, engine: sa.Engine) -> None:
        self.url = url
        self.engine = engine

    def fill(self, key: bytes, *, keeps_key: bool) -> None:
        """Write the blocks as Prefect does. ``keeps_key``: it has made the key, and stores it here."""
        METADATA.create_all(self.engine)
        with self.engine.begin() as connection:
            for number, (name, data) in enumerate(SECRETS.items(), 1):
                token = Fernet(key).encrypt(json.dumps(data).encode()).decode()
                identity = f"00000000-0000-0000-0000-{number:012}"
                connection.execute(sa.insert(BLOCKS).values(id=identity, name=name, data=token))
            if keeps_key:
                value = {"fernet_key": key.decode()}
                connection.execute(sa.insert(SETTINGS).values(key="ENCRYPTION_KEY", value=value))

    def tokens(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return dict(connection.execute(sa.select(BLOCKS.c.name, BLOCKS.c.data)).tuples().all())

    def decrypt(self, key: str) -> dict[str, object]:
        return {name: json.loads(Fernet(key).decrypt(token)) for name, token in self.tokens().items()}

    def keys(self) -> int:
        with self.engine.connect() as connection:
            return len(connection.execute(sa.select(SETTINGS.c.key)).all())

    def prepare(self, **environ: str) -> str:
        return prepare_encryption(build_database_url(self.url, "a test"), environ)


@contextmanager
def _open(kind: str, folder: Path) -> Iterator[Database]:
    if kind == "sqlite":
        url = f"sqlite:///{folder / 'prefect.db'}"
        yield Database(url, sa.create_engine(url))
        return
    with postgres.fresh_database() as url:
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
        yield Database(url, engine)
        engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with _open(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's keys."""
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path / "keys"


def test_the_key_that_prefect_had_stored_beside_the_secrets_opens_none_any_more(database: Database, keys: Path) -> None:
    stored = Fernet.generate_key()
    database.fill(stored, keeps_key=True)
    key = database.prepare()
    assert database.decrypt(key) == SECRETS
    assert database.keys() == 0
    for token in database.tokens().values():
        with pytest.raises(InvalidToken):
            Fernet(stored).decrypt(token)
    file = keys / "prefect-encryption"
    assert file.read_text().strip() == key
    assert file.stat().st_mode & 0o777 == 0o600
    tokens = database.tokens()
    assert database.prepare() == key  # the next start changes nothing
    assert database.tokens() == tokens


def test_the_next_start_after_a_rotation_encrypts_anew(database: Database, keys: Path) -> None:
    database.fill(database.prepare().encode(), keeps_key=False)
    (keys / "prefect-encryption").rename(keys / "prefect-encryption-previous")
    key = database.prepare()
    assert database.decrypt(key) == SECRETS
    (keys / "prefect-encryption-previous").unlink()
    assert database.decrypt(database.prepare()) == SECRETS


def test_a_lost_key_is_told_and_its_blocks_stay(
    database: Database, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database.fill(database.prepare().encode(), keeps_key=False)
    (keys / "prefect-encryption").rename(keys.parent / "backup")
    tokens = database.tokens()
    database.prepare()
    assert database.tokens() == tokens
    assert "server: no key decrypts 2 blocks (sudo, webhook): restore the key from a backup" in capsys.readouterr().err
    (keys.parent / "backup").rename(keys / "prefect-encryption-previous")
    assert database.decrypt(database.prepare()) == SECRETS
    assert capsys.readouterr().err == ""


def test_a_new_database_needs_nothing(database: Database) -> None:
    assert len(database.prepare()) == 44


def test_a_key_of_the_environment_is_used_instead_of_the_file(database: Database, keys: Path) -> None:
    given = Fernet.generate_key().decode()
    database.fill(Fernet.generate_key(), keeps_key=False)
    assert database.prepare(**{KEY_VARIABLE: given}) == given
    assert not (keys / "prefect-encryption").exists()


def test_what_is_no_key_is_refused(tmp_path: Path, keys: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}"
    with pytest.raises(CannotRun, match=f"{KEY_VARIABLE} is no key") as caught:
        prepare_encryption(url, {KEY_VARIABLE: "short"})
    assert "short" not in f"{caught.value} {caught.value.hint}"
    keys.mkdir(mode=0o700)
    (keys / "prefect-encryption").write_text("short\n")
    (keys / "prefect-encryption").chmod(0o600)
    with pytest.raises(CannotRun, match="prefect-encryption is no key"):
        prepare_encryption(url, {})
    (keys / "prefect-encryption").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read or written by others"):
        prepare_encryption(url, {})


def test_a_database_that_is_away_is_named_and_its_password_is_not() -> None:
    word = "hunter2" * 2
    with pytest.raises(CannotRun, match="database can't be read") as caught:
        prepare_encryption(f"postgresql+asyncpg://prefect:{word}@127.0.0.1:9/prefect", {})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_tls_of_the_database_is_prefects(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, object]]] = []

    def record(url: sa.URL, *, connect_args: dict[str, object]) -> sa.Engine:
        made.append((str(url), connect_args))
        return sa.create_mock_engine("sqlite://", lambda *_: None)  # type: ignore[return-value]

    from flows.prefect_api import server_database

    monkeypatch.setattr(sa, "create_engine", record)
    tls = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_"
    url = sa.make_url("postgresql+asyncpg://p@db.example.org/p?ssl=require")
    server_database.build_engine(url, {f"{tls}ENABLED": "true", f"{tls}CA_FILE": "/ca.pem"})
    server_database.build_engine(url, {})
    assert made == [
        (
            "postgresql+psycopg://p@db.example.org/p",
            {**LIBPQ_TIMEOUTS, "sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        ),
        ("postgresql+psycopg://p@db.example.org/p", {**LIBPQ_TIMEOUTS, "sslmode": "require"}),
    ]


def test_a_server_for_one_run_changes_no_key(database: Database) -> None:
    url, own = build_database_url(database.url, "a test"), Fernet.generate_key()
    assert find_encryption_key(url, {}) is None  # Prefect makes one in its database
    key = ensure_key(KEY_NAME, Fernet.generate_key).decode()
    assert find_encryption_key(url, {}) == key
    database.fill(own, keeps_key=True)
    before = database.tokens()
    assert find_encryption_key(url, {}) is None  # the database's own still fits
    assert find_encryption_key(url, {KEY_VARIABLE: "given"}) == "given"
    assert (database.tokens(), database.keys()) == (before, 1)
    assert database.prepare() == key
    assert find_encryption_key(url, {}) == key
