"""Walks, leftovers, disputes and second looks."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    """Add the columns and the indexes."""
    statements = (_SQL / f"0004_{op.get_bind().dialect.name}.sql").read_text("utf-8")
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(text(statement.replace(":", "\\:")))
