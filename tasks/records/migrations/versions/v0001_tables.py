"""The tables of release 0.1.0. It makes nothing: ``create_tables`` gives a new database the present tables."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: a database without tables is not migrated."""
