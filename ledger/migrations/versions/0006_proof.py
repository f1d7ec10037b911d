"""Certificates, scrubbing, epochs of pseudonym keys, and what calls a person."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    """Add the columns, the table and the indexes."""
    statements = (_SQL / f"0006_{op.get_bind().dialect.name}.sql").read_text("utf-8")
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(text(statement.replace(":", "\\:")))
