"""The role of the pages on PostgreSQL: it reads all records, and writes only what is the pages' own.

So who controls the process of the pages, or has its password, can't write a run, a plan, an outcome or an access token.
An SQLite file has no roles: who can write the file can write all of it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Table, text

from tasks.domain.states import WindowStatus
from tasks.records import event_schema, page_schema, schema
from tasks.records.storage.database import Database

PAGES_ROLE: Final = "fleetpatch_pages"
"""Who administers PostgreSQL makes it: deployments/compose/databases.sql."""
ROLE_REMEDY: Final = f"Give the pages a URL with the role {PAGES_ROLE} (docs/reference/services.md)."
PAGES_PRIVILEGES: Final[Mapping[Table, Sequence[str]]] = {
    page_schema.web_sessions: ("INSERT", "UPDATE", "DELETE"),
    page_schema.login_links: ("INSERT", "UPDATE", "DELETE"),
    page_schema.access_tokens: ("UPDATE (used_at)",),
    page_schema.audit_log: ("INSERT",),
    page_schema.requested_runs: ("INSERT",),
    page_schema.component_enrolments: ("INSERT", "UPDATE", "DELETE"),
    schema.stop_requests: ("INSERT",),
    schema.decisions: ("INSERT",),
    schema.occurrences: ("INSERT",),
    schema.approvals: ("UPDATE (decision, who, remark, decided_at, seal)",),
    event_schema.event_documents: ("INSERT", "UPDATE"),
    event_schema.event_machines: ("UPDATE (approved_at)",),
    event_schema.scheduled_events: ("UPDATE (approved_by, approved_at, status, ended_at, reason, withdrawn_by)",),
}
"""What the pages may do besides SELECT. A seal or a signature protects what others could misuse (see seals.py)."""
_MISSED_WINDOWS_ONLY: Final = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "DROP POLICY IF EXISTS everybody ON {table}",
    "CREATE POLICY everybody ON {table} FOR ALL TO PUBLIC USING (true) WITH CHECK (true)",
    "DROP POLICY IF EXISTS pages ON {table}",
    f"CREATE POLICY pages ON {{table}} AS RESTRICTIVE FOR INSERT TO {PAGES_ROLE} "
    f"WITH CHECK (what = '{WindowStatus.MISSED.value}')",
)
"""Of windows, the pages record only that one was missed. That holds up no run: a run may still claim the window."""
_SEQUENCES: Final = ("audit_log_number_seq",)


def has_pages_role(database: Database) -> bool:
    """Return whether the records are in PostgreSQL and the server has the role of the pages."""
    if database.is_sqlite:
        return False
    with database.begin_read("look for the role of the pages") as connection:
        return _exists(connection)


def grant_pages_role(connection: Connection) -> bool:
    """Give the role of the pages its privileges, and take all others from it. Return False if there is no such role.

    That is for the schema of the connection: each fleet has one.

    The user of the connection must own the tables. In one transaction: the pages never have too few.
    """
    if not _exists(connection):
        return False
    schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {PAGES_ROLE}"))
    connection.execute(text(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {PAGES_ROLE}"))
    if schema != "public":  # which everybody may use
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {PAGES_ROLE}"))
    connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {PAGES_ROLE}"))
    for table, privileges in PAGES_PRIVILEGES.items():
        connection.execute(text(f"GRANT {', '.join(privileges)} ON {schema}.{table.name} TO {PAGES_ROLE}"))
    for statement in _MISSED_WINDOWS_ONLY:
        connection.execute(text(statement.format(table=f"{schema}.occurrences")))
    for name in _SEQUENCES:
        connection.execute(text(f"GRANT USAGE ON SEQUENCE {schema}.{name} TO {PAGES_ROLE}"))
    return True


def find_excess_privileges(database: Database, role: str = "") -> Sequence[str]:
    """Return the tables that a role may write beyond what the pages need, by name; none on SQLite.

    ``role``: a role; "": the user of the connection.
    """
    if database.is_sqlite:
        return ()
    with database.begin_read("read the privileges of a role") as connection:
        name = role or connection.execute(text("SELECT current_user")).scalar_one()
        rows = connection.execute(_PRIVILEGES_QUERY, {"role": name}).all()
    allowed = {
        (table.name, *_split(privilege)) for table, privileges in PAGES_PRIVILEGES.items() for privilege in privileges
    }
    columns = {(table, privilege): names for table, privilege, names in allowed}
    excess = {
        row.table
        for row in rows
        if (row.table, row.privilege) not in columns
        or (columns[row.table, row.privilege] and row.column not in columns[row.table, row.privilege])
    }
    return sorted(excess)


_PRIVILEGES_QUERY: Final = text(
    """
    SELECT c.relname AS "table", p.privilege, '' AS "column"
      FROM pg_class c CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p(privilege)
      WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
        AND has_table_privilege(:role, c.oid, p.privilege)
    UNION ALL
    SELECT c.relname, p.privilege, a.attname
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE']) AS p(privilege)
      WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT has_table_privilege(:role, c.oid, p.privilege)
        AND has_column_privilege(:role, c.oid, a.attnum, p.privilege)
    """
)


def _split(privilege: str) -> tuple[str, frozenset[str]]:
    """Return the kind of a privilege, and its columns; none if it is for the whole table."""
    kind, _, columns = privilege.partition(" (")
    return kind, frozenset(name.strip() for name in columns.rstrip(")").split(",") if name.strip())


def _exists(connection: Connection) -> bool:
    query = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    return connection.execute(query, {"role": PAGES_ROLE}).first() is not None
