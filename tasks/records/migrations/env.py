"""Alembic's entry point. It uses the connection and the transaction of tasks/records/setup.py."""

from alembic import context

from tasks.records.schema import metadata, schema_version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=schema_version.name,
    transactional_ddl=True,  # SQLite supports it, because the driver does not begin transactions here
)
context.run_migrations()
