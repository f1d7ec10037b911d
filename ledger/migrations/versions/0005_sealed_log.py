"""The sealed log: leaves, subtrees, checkpoints, and the triggers that keep them."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    """Make the tables and the triggers."""
    statements = (_SQL / f"0005_{op.get_bind().dialect.name}.sql").read_text("utf-8")
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(text(statement.replace(":", "\\:")))
