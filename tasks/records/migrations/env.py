"""Alembic's entry point. It uses the connection and the transaction of tasks/records/setup.py."""

from alembic import context

from tasks.records.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite supports it, because the driver does not begin transactions here
)
context.run_migrations()
