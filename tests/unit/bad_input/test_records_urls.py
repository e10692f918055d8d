"""Whatever stands where a records URL should: it works, or what is wrong is told, and the remedy. No password shows."""

import os
import socket
import sqlite3
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RecordsError
from tasks.records.setup import open_records
from tasks.records.storage.url import find_records_url
from tests.support.fuzzing import fuzzed

WORD = "hunter2"
NEAR = ("", "127.0.0.1", "[::1]", "127.0.0.1:1", "/nowhere", "localhost")  # no name that anybody has to look up
ODD = st.text(st.characters(codec=None), max_size=12)
PIECE = st.one_of(
    ODD,
    ODD.map(lambda text: quote(text, errors="surrogatepass")),
    st.sampled_from(
        [
            "",
            "%",
            "%zz",
            "%00",
            "\x00",
            "²",
            "\u0661",
            "é" * 200,
            "a" * 5000,
            "..",
            "//",
            "~",
            "~nobody-at-all",
            "#",
            "?",
            "@",
            ":",
        ]
    ),
)
PORT = st.one_of(st.just(""), st.sampled_from([":", ":1", ":0", ":-1", ":65536", ":²", ":1_0", ":" + "9" * 5000]), ODD)
OPTION = st.sampled_from(
    [
        "connect_timeout=1", "connect_timeout=soon", "connect_timeout=" + "9" * 400, "sslmode=perhaps", "nonsense=1",
        f"password={WORD}", f"sslpassword={WORD}&sslpassword={WORD}", "host=127.0.0.1&port=1", "port=x", "options=%zz",
        "service=nobody", "passfile=/dev/null", "sslrootcert=/nowhere", "timeout=x", "isolation_level=x", "&&==",
        "client_encoding=x", "hostaddr=256.1.1.1", "target_session_attrs=x", "keepalives=x", "dbname=other",
        "mode=memory", "autocommit=1",
    ]
)  # fmt: skip


@st.composite
def postgres_urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from(["postgresql", "postgres", "postgresql+psycopg", "POSTGRESQL", "postgresql+asyncpg"]))
    user = draw(PIECE)
    host = draw(st.sampled_from(NEAR)) + draw(PORT)
    query = "&".join(
        draw(st.lists(st.one_of(OPTION, PIECE.map(lambda piece: f"application_name={piece}")), max_size=3))
    )
    return f"{scheme}://{user}:{WORD}@{host}/{draw(PIECE)}" + (f"?{query}" if query else "")


@st.composite
def sqlite_urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from(["sqlite", "sqlite+pysqlite", "SQLITE", "sqlite+aiosqlite"]))
    return f"{scheme}:///HERE/{draw(PIECE)}{draw(st.sampled_from(['', '/x.db', '?mode=ro', '?uri=true', '#x']))}"


@st.composite
def other_urls(draw: st.DrawFn) -> str:
    tail = draw(st.one_of(PIECE, st.just(f"u:{WORD}@h/d")))
    return (
        draw(st.sampled_from(["", "mysql://", "oracle://", "://", "sqlite:", "sqlite://", "postgresql:", "a+b+c://"]))
        + tail
    )


def error_of(url: str) -> RecordsError | None:
    """Return why a URL can't be used; None when it can."""
    try:
        open_records(url).close()
    except RecordsError as error:
        return error
    return None


def is_somebodys(url: str, ours: Path) -> bool:
    """Whether a URL that is right is of a file that isn't this test's: it is left alone."""
    try:
        parsed = find_records_url(url)
    except RecordsError:
        return False
    of_file = parsed.get_backend_name() == "sqlite"
    return of_file and not Path(str(parsed.database)).resolve().is_relative_to(ours)


@fuzzed()
@given(url=st.one_of(postgres_urls(), sqlite_urls(), other_urls()))
def test_only_what_is_wrong_and_what_to_do(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    url = url.replace("HERE", str(tmp_path / "here"))
    if is_somebodys(url, tmp_path):
        return
    error = error_of(url)
    if error is not None:
        assert error.message
        assert error.hint, error.message
        assert WORD not in f"{error.message} {error.hint} {''.join(traceback.format_exception_only(error))}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe", "it is a pipe"),
        ("socket", "it is a socket"),
        ("folder", "it is a directory"),
        ("text/records.db", "for the records"),
        ("a" * 5000, "is no path of a file"),
        ("/dev/null", "it is a device"),
        ("/dev/zero", "it is a device"),
    ],
)
def test_what_is_no_file_is_called_by_its_name(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("a letter")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(RecordsError, match=words) as caught:
            open_records(f"sqlite:///{tmp_path / name}")
    assert caught.value.hint
    assert "disk" not in caught.value.message
    assert "system log" not in caught.value.hint
    assert "restore" not in caught.value.hint
    assert (tmp_path / "text").read_text() == "a letter"


def test_another_programs_file_is_left_alone_and_the_remedy_is_of_files(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE moz_places (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RecordsError, match="isn't a fleetpatch database: it contains moz_places") as caught:
        open_records(f"sqlite:///{path}")
    assert "CREATE DATABASE" not in caught.value.hint
    assert "another program's" in caught.value.hint
    assert path.read_bytes() == before
