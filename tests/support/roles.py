"""Roles of their own in a PostgreSQL ledger, as an installation with separate duties has them."""

import secrets
from dataclasses import dataclass

from sqlalchemy import create_engine, make_url, text

from ledger import upgrade

__all__ = ["Roles", "upgrade_with_roles"]


@dataclass(frozen=True)
class Roles:
    """URLs of the application's and of the sealer's role."""

    app: str
    sealer: str


def upgrade_with_roles(url: str) -> Roles:
    """Make two roles, and the ledger's tables with the rights that these need."""
    mark = secrets.token_hex(4)
    names = [f"app-{mark}", f"sealer-{mark}"]
    engine = create_engine(url)
    try:
        with engine.begin() as conn:
            for name in names:
                conn.execute(text(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'x'"))
    finally:
        engine.dispose()
    upgrade(url, app_role=names[0], sealer_role=names[1])
    parsed = make_url(url)
    urls = [
        parsed.set(username=name, password="x").render_as_string(hide_password=False)
        for name in names
    ]
    return Roles(*urls)
