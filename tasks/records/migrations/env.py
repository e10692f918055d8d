"""Where Alembic starts: on the connection, and in the transaction, that tasks/records/setup.py hands over."""

from alembic import context

from tasks.records.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite can, once the driver no longer decides where transactions begin
)
context.run_migrations()
