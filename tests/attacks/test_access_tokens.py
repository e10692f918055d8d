"""Attacks by SQL on access tokens: somebody can write the database, or controls the pages' process."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from fleetpatch.access.login_admin import DEFAULT_DAYS, create_access_token, remove_access_token
from fleetpatch.access.token_secrets import create_token, digest_secret
from fleetpatch.cli.views.web_access import build_tokens_json, print_tokens
from inventory.files.own_keys import FOLDER_VARIABLE
from tasks.domain.errors import RecordsError
from tasks.records.access_tokens import AccessToken, SqlAccessTokens
from tasks.records.setup import open_records

NOW = datetime.now(UTC)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def text(keys: Path, tmp_path: Path) -> str:
    """Make a token that may look, which ends in a day. Its text is what its owner has."""
    with open_records(url(tmp_path)) as records:
        create_access_token(records, "bert", ["run"], 1)
        return create_access_token(records, "anna", ["view"], 1)[1]


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'records.db'}"


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "records.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def find(folder: Path, text: str, now: datetime = NOW) -> AccessToken | None:
    with open_records(url(folder)) as records:
        return SqlAccessTokens(records.database).find_by_token(digest_secret(text), now)


def test_a_token_that_nobody_changed_is_valid_until_its_end(text: str, tmp_path: Path) -> None:
    """No attacker: the signature fits."""
    found = find(tmp_path, text)
    assert found is not None
    assert found.roles == ("view",)
    assert find(tmp_path, text, NOW + timedelta(days=2)) is None


def test_the_file_of_public_keys_may_have_comments(text: str, keys: Path, tmp_path: Path) -> None:
    """No attacker: the units need the file before there is a token. Without a key in it, no token is valid."""
    file = keys / "token-verification"
    public = file.read_text()
    file.write_text("# public keys of access tokens\n")
    assert find(tmp_path, text) is None
    file.write_text(f"# public keys of access tokens\n{public}")
    assert find(tmp_path, text) is not None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE access_tokens SET expires_at = '2036-01-01 00:00:00' WHERE name = 'anna'",
        "UPDATE access_tokens SET expires_at = NULL WHERE name = 'anna'",
        "UPDATE access_tokens SET roles = 'view,approve,run' WHERE name = 'anna'",
        "UPDATE access_tokens SET roles = 'view,run@env=stage' WHERE name = 'anna'",
        "UPDATE access_tokens SET name = 'root' WHERE name = 'anna'",
        "UPDATE access_tokens SET signature = NULL WHERE name = 'anna'",
        "UPDATE access_tokens SET signature = (SELECT signature FROM access_tokens WHERE name = 'bert') "
        "WHERE name = 'anna'",
    ],
)
def test_a_changed_token_opens_nothing(text: str, tmp_path: Path, change: str) -> None:
    """Attacker: who can write the database. Way: UPDATE of its end, roles or name. It must be refused."""
    execute(tmp_path, change)
    assert find(tmp_path, text) is None
    assert find(tmp_path, text, NOW + timedelta(days=2)) is None


def test_an_own_token_in_place_of_another_opens_nothing(text: str, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: the digest of a made-up token in a row of more roles. Refused."""
    own = create_token()
    execute(tmp_path, "UPDATE access_tokens SET digest = ? WHERE name = 'bert'", digest_secret(own))
    assert find(tmp_path, own) is None


def test_a_removed_token_is_not_made_valid_by_a_row_that_remains(text: str, tmp_path: Path) -> None:
    """Attacker: the owner of a removed token, who can write the database. Way: its digest in another row. Refused."""
    with open_records(url(tmp_path)) as records:
        remove_access_token(records, "anna")
    assert find(tmp_path, text) is None
    execute(tmp_path, "UPDATE access_tokens SET digest = ?, name = 'anna' WHERE name = 'bert'", digest_secret(text))
    assert find(tmp_path, text) is None


def test_pages_without_the_private_key_make_no_token(text: str, keys: Path, tmp_path: Path) -> None:
    """Attacker: who controls the pages' process, with their keys. Way: `web token add` there. It must open nothing."""
    pages = tmp_path / "pages-keys"
    pages.mkdir(mode=0o700)
    (pages / "token-verification").write_bytes((keys / "token-verification").read_bytes())
    (pages / "token-verification").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch, open_records(url(tmp_path)) as records:
        patch.setenv(FOLDER_VARIABLE, str(pages))
        assert find(tmp_path, text) is not None
        with pytest.raises(RecordsError, match="lacks the public key"):
            create_access_token(records, "eve", ["run"])
        assert [token.name for token in SqlAccessTokens(records.database).list_tokens()] == ["anna", "bert"]
        (pages / "token-verification").unlink()
        assert find(tmp_path, text) is None


def test_a_token_ends_after_90_days_unless_said_otherwise(keys: Path, tmp_path: Path) -> None:
    """Attacker: who finds a token of long ago. It must have ended; and before, people must be warned."""
    with open_records(url(tmp_path)) as records:
        token, text = create_access_token(records, "anna", ["view"])
    assert token.expires_at is not None
    assert token.expires_at - token.created_at == timedelta(days=DEFAULT_DAYS) == timedelta(days=90)
    assert find(tmp_path, text, NOW + timedelta(days=89)) is not None
    assert find(tmp_path, text, NOW + timedelta(days=91)) is None
    assert not token.ends_soon(NOW + timedelta(days=75))
    assert token.ends_soon(NOW + timedelta(days=77))
    assert not token.ends_soon(NOW + timedelta(days=91))


def test_a_token_keeps_its_signature_when_its_key_is_replaced(text: str, keys: Path, tmp_path: Path) -> None:
    """No attacker: with both public keys, tokens of the old and the new private key are valid."""
    old = (keys / "token-verification").read_bytes()
    for name in ("token-signing", "token-verification"):
        (keys / name).unlink()
    with open_records(url(tmp_path)) as records:
        _, new_text = create_access_token(records, "carl", ["view"])
    assert find(tmp_path, text) is None
    (keys / "token-verification").write_bytes((keys / "token-verification").read_bytes() + old)
    assert find(tmp_path, text) is not None
    assert find(tmp_path, new_text) is not None


def test_the_command_shows_which_token_is_not_valid(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: the list shows what somebody has changed."""
    execute(tmp_path, "UPDATE access_tokens SET roles = 'view,run' WHERE name = 'anna'")
    with open_records(url(tmp_path)) as records:
        tokens = SqlAccessTokens(records.database).list_tokens()
    assert [token.is_signed for token in tokens] == [False, True]
    assert [each["is_signed"] for each in build_tokens_json(tokens, NOW)] == [False, True]
    # a console of its own: at 120 columns, the words of a cell stand in two lines
    monkeypatch.setattr("fleetpatch.cli.runtime.output.get_stdout_console", lambda: Console(width=200))
    print_tokens(tokens, NOW)
    shown = " ".join(capsys.readouterr().out.split())
    assert "its signature doesn't fit" in shown
    assert "(in 1 day)" in shown
    assert not re.search(r"\d\.\d", shown), "a time has parts of a second"
