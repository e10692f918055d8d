"""Prefect's empty tables on SQLite, made once per release of Prefect and copied to each server that begins with none.

Making them is 16 s of a processor's time, two thirds of a server's first start (two cores, Prefect 3.8.8).
"""

import fcntl
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import __version__

from tests.ci.tree import TOP
from tests.support.environment import without_ours


def put_tables(home: Path) -> None:
    """Put the tables where a server with this PREFECT_HOME looks for them, unless it has some."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "prefect.db").exists():
        copy_tables(home / "prefect.db")


def copy_tables(target: Path) -> None:
    """Put the tables into a new file."""
    shutil.copyfile(_made(), target)


def _made() -> Path:
    place = TOP / "build"
    place.mkdir(exist_ok=True)
    made = place / f"prefect-{__version__}.db"
    with (place / "prefect.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in other processes want them as well
        if not made.exists():
            _make(made)
    return made


def _make(made: Path) -> None:
    with TemporaryDirectory(dir=made.parent) as home:
        words = (sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes")
        subprocess.run(words, env={**without_ours(), "PREFECT_HOME": home}, capture_output=True, check=True)
        whole = Path(home, "whole.db")
        with closing(sqlite3.connect(Path(home, "prefect.db"))) as found:
            found.execute("VACUUM INTO ?", (str(whole),))  # one file, with what its journal holds
        whole.replace(made)
