"""The tables of the first release."""

from pathlib import Path

from alembic import context, op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    """Create all tables, and note whose clock the ledger follows."""
    statements = (_SQL / f"0001_{op.get_bind().dialect.name}.sql").read_text("utf-8")
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(text(statement.replace(":", "\\:")))
    op.get_bind().execute(
        text("INSERT INTO clock (id, source) VALUES (1, :source)"),
        {"source": context.config.attributes["clock_source"]},
    )
