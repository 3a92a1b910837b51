"""Events and guests of several hosts in one store: whose they are.

PostgreSQL never sees this one or those before: there the tables are made as they are now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the host; all there is by now is this host's own."""
    for table in ("member", "event"):
        op.add_column(table, sa.Column("host", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Forget it."""
    for table in ("event", "member"):
        op.drop_column(table, "host")
