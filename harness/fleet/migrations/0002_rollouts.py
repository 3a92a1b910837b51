"""Rollouts: their waves, and how far each host is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "rollout",
        sa.Column("rollout", sa.String, primary_key=True),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("planned_s", sa.Float(53), nullable=False),
        sa.Column("planned_by", sa.String, nullable=False),
    )
    op.create_table(
        "rollout_host",
        sa.Column("rollout", sa.String, primary_key=True),
        sa.Column("host", sa.String, primary_key=True),
        sa.Column("wave", sa.Integer),
        sa.Column("canary", sa.Boolean, nullable=False),
        sa.Column("sets", sa.Text, nullable=False),
        sa.Column("guests", sa.Integer, nullable=False),
        sa.Column("not_needed", sa.Text),
    )
    op.create_table(
        "rollout_part",
        sa.Column("rollout", sa.String, primary_key=True),
        sa.Column("host", sa.String, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("doing", sa.Text, nullable=False),
        sa.Column("soaking", sa.Boolean, nullable=False),
        sa.Column("began_s", sa.Float(53), nullable=False),
        sa.Column("told_s", sa.Float(53), nullable=False),
        sa.Column("due_s", sa.Float(53)),
        sa.Column("ended_s", sa.Float(53)),
        sa.Column("ending", sa.String),
        sa.Column("exit_code", sa.Integer),
        sa.Column("message", sa.Text),
        sa.Column("pause_window_s", sa.Float(53)),
        sa.Column("residual_s", sa.Float(53)),
        sa.Column("guests", sa.Integer),
        sa.Column("answer", sa.Text),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("rollout_part", "rollout_host", "rollout"):
        op.drop_table(table)
