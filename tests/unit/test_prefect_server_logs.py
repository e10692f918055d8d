"""What the server's terminal shows when SQLite is busy."""

import io
import logging
import sqlite3

from flows.prefect_api.log_filters import shorten_busy_database


def test_a_busy_database_is_one_line_and_other_errors_stay_whole() -> None:
    logger, handler = logging.getLogger("of a busy database"), logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(shorten_busy_database)
    logger.addHandler(handler)
    logger.propagate = False
    for words in ("database is locked", "no such table: run"):
        try:
            raise sqlite3.OperationalError(words)
        except sqlite3.OperationalError:
            logger.exception("Worker channel heartbeat persistence failed: work_pool=%s", "fleetpatch")
    first, second, *more = handler.stream.getvalue().splitlines()
    assert first.startswith(
        "WARNING Worker channel heartbeat persistence failed: work_pool=fleetpatch (SQLite was busy"
    )
    assert second.startswith("ERROR Worker channel")
    assert more[-1] == "sqlite3.OperationalError: no such table: run"
