"""Events, their guests and scopes, who saw what, faults of rehearsals, what is scheduled."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables as harness made them before there were migrations."""
    op.create_table(
        "member",
        sa.Column("uuid", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("update_domain", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "scope",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "event",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("scope", "update_domain", "event_type", "resources", "state")
        ),
        sa.Column("not_before_ns", sa.Integer, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("duration_s", sa.REAL, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False, server_default=""),
        sa.Column("announced_ns", sa.Integer),
        sa.Column("approved_ns", sa.Integer),
        sa.Column("approved_by", sa.Text),
        sa.Column("started_ns", sa.Integer),
        sa.Column("removed_ns", sa.Integer),
        sqlite_strict=True,
    )
    op.create_index("event_of_scope", "event", ["scope", "state"])
    op.create_table(
        "seen",
        sa.Column("uuid", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.Integer, primary_key=True),
        sa.Column("at_ns", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "fault",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("until_ns", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "schedule",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("start_ns", sa.Integer, nullable=False),
        sa.Column("notice_s", sa.REAL, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
        sqlite_strict=True,
    )
    # By this an earlier harness knows the tables as its own.
    op.execute("PRAGMA user_version = 1")


def downgrade() -> None:
    """Remove them."""
    for table in ("schedule", "fault", "seen", "event", "scope", "member"):
        op.drop_table(table)
