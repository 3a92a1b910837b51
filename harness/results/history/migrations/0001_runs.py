"""Runs and their figures."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("accelerator", sa.String, nullable=False),
        sa.Column("hypervisor", sa.String, nullable=False),
        sa.Column("update_kind", sa.String, nullable=False),
        sa.Column("update_command", sa.Text, nullable=False),
        sa.Column("guests", sa.Integer, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("harness_version", sa.String, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
    )
    op.create_index("runs_by_time", "runs", ["started_at"])
    op.create_table(
        "figures",
        sa.Column(
            "run_id",
            sa.String,
            sa.ForeignKey("runs.run_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("guest", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Remove both."""
    op.drop_table("figures")
    op.drop_table("runs")
