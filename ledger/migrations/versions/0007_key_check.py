"""The fingerprint of the ledger's own keys, so that others are refused before they do harm."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; whoever opens the ledger first fills it."""
    op.create_table(
        "key_check",
        sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
