"""The connections of the PostgreSQL server of the records."""

from sqlalchemy import text

from tasks.records.storage.database import APPLICATION_NAME, Database
from tasks.rules.connections import ServerRoom

_ROOM = text(
    "SELECT current_setting('max_connections')::int AS most,"
    " current_setting('superuser_reserved_connections')::int"
    # The second setting is of PostgreSQL 16.
    " + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int AS reserved,"
    " (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL"
    " AND coalesce(application_name, '') NOT LIKE :ours) AS others"
)


def read_server_room(database: Database) -> ServerRoom | None:
    """Return how many connections the server allows, and how many others have; None on SQLite.

    Raises:
        RecordsError: the server does not answer.
    """
    if database.is_sqlite:
        return None
    with database.begin_read("read the server's connections") as connection:
        row = connection.execute(_ROOM, {"ours": f"{APPLICATION_NAME} %"}).one()
    return ServerRoom(row.most, row.reserved, row.others)
