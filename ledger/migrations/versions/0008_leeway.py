"""Until when an account's slots are farther apart, for calls that may depart late."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no account has leeway yet."""
    op.add_column(
        "account", sa.Column("leeway_until_ns", sa.BigInteger, nullable=False, server_default="0")
    )
