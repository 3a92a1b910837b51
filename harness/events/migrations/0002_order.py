"""What is scheduled is data, and no command: its column says so."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the column; rows keep what they hold, which is read as before."""
    op.execute("ALTER TABLE schedule RENAME COLUMN command TO order_json")
    # An earlier harness, which would look for the old name, refuses the store by this.
    op.execute("PRAGMA user_version = 2")


def downgrade() -> None:
    """Give it the old name again."""
    op.execute("ALTER TABLE schedule RENAME COLUMN order_json TO command")
    op.execute("PRAGMA user_version = 1")
