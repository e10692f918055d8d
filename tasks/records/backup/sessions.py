"""Which programs have the records open: under them, nothing is restored."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import text

from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.records.fleets import build_slug
from tasks.records.storage.database import APPLICATION_NAME, Database

_CLOSING_SECONDS: Final = 2.0
_SESSIONS: Final = text(
    """
    SELECT pid, usename, application_name, host(client_addr) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND coalesce(backend_type, 'client backend') = 'client backend'
      ORDER BY pid
    """
)


def find_sessions(database: Database) -> tuple[str, ...]:
    """Return who has the records of a fleet open, in words. Of a file, only programs that this user may see.

    A session that was closed just now is still there for a moment on PostgreSQL. So it is looked for again.

    Raises:
        RecordsError: the database cannot be reached.
    """
    if database.is_sqlite:
        return _find_processes(Path(str(database.url.database)))
    clock = SystemClock()
    deadline = Deadline.after(clock, _CLOSING_SECONDS)
    while (sessions := _read_sessions(database)) and deadline.remaining_seconds(clock) > 0:
        clock.sleep(0.1)
    return sessions


def _read_sessions(database: Database) -> tuple[str, ...]:
    own = f"{APPLICATION_NAME} {build_slug(database.fleet)}"
    with database.begin_read("look for other sessions") as connection:
        rows = connection.execute(_SESSIONS).tuples().all()
    return tuple(
        f"{name or 'a session'} of {user}{f' at {address}' if address else ''} (server process {pid})"
        for pid, user, name, address in rows
        if name == own or not str(name or "").startswith(f"{APPLICATION_NAME} ")
    )


def _find_processes(path: Path) -> tuple[str, ...]:
    real_paths = {os.path.realpath(path) + end for end in ("", "-wal", "-shm")}
    sessions = []
    for process in sorted((each for each in Path("/proc").glob("[0-9]*")), key=lambda each: int(each.name)):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):
            if any(_read_link(each) in real_paths for each in (process / "fd").iterdir()):
                parts = (process / "cmdline").read_bytes().split(b"\0")
                command = " ".join(word.decode(errors="replace") for word in parts if word)
                sessions.append(f"process {process.name} ({command[:100] or 'of no name'})")
    return tuple(sessions)


def _read_link(path: Path) -> str:
    with suppress(OSError):
        return str(path.readlink())
    return ""
