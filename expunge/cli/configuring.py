"""`expunge db upgrade` and `config show`: before the first request."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from expunge.cli.output import Output, OutputOption
from expunge.tables import cell, table

if TYPE_CHECKING:
    from ledger.projects import Project
    from ledger.settings import Settings

__all__ = ["add_to"]

_MASK = "********"


def add_to(app: typer.Typer) -> None:
    """Add the groups."""
    for name, text, command, function in (
        ("db", "The ledger's database.", "upgrade", upgrade),
        ("config", "The settings.", "show", show),
    ):
        group = typer.Typer(no_args_is_help=True, help=text)
        group.command(command)(function)
        # A callback keeps typer from melting a group of one command into the command itself.
        group.callback()(_nothing)
        app.add_typer(group, name=name)


def _nothing() -> None:
    """Take no options."""


def upgrade(
    app_role: str | None = typer.Option(
        None, metavar="ROLE|@FILE", help="PostgreSQL: role of producers and workers."
    ),
    sealer_role: str | None = typer.Option(
        None, metavar="ROLE|@FILE", help="PostgreSQL: role of `expunge seal`."
    ),
) -> None:
    """Create the ledger's tables, or bring them up to this release.

    Works on EXPUNGE_LEDGER_ADMIN_URL when that is set, else on EXPUNGE_LEDGER_URL. Roles are given
    what they need and nothing else: the application may only add to the record. A file holds the
    role's URL of the ledger; a role that is missing is made with its password.
    """
    from ledger.migrate import upgrade as upgrade_ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    revision = upgrade_ledger(
        settings.ledger_admin_url or settings.ledger_url,
        app_role=_role(app_role),
        sealer_role=_role(sealer_role),
    )
    typer.echo(f"The ledger is at revision {revision}.")


def _role(given: str | None) -> str | None:
    from ledger.errors import SettingsError  # noqa: PLC0415

    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError):
        msg = f"{given[1:]} cannot be read; it is to hold the role's URL of the ledger."
        raise SettingsError(msg) from None


def show(output: OutputOption = Output.TABLE) -> None:
    """Show all settings with where they come from; secrets are masked."""
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    rows = _rows(settings)
    if output in (Output.JSON, Output.JSONL):
        record = {
            "settings": rows,
            "projects": [_project(one) for one in settings.projects.values()],
            "accounts": [
                {"name": one.name, "rate_per_second": one.rate_per_second}
                for one in settings.accounts.values()
            ],
        }
        typer.echo(json.dumps(record, indent=2 if output is Output.JSON else None))
        return
    if output is Output.ID:
        for row in rows:
            typer.echo(row["name"])
        return
    shown = [[row["name"], cell(row["value"]), row["origin"]] for row in rows]
    for line in table(["setting", "value", "from"], shown):
        typer.echo(line)
    typer.echo("")
    shown = [
        [one["name"], one["account"], one["base_url"], "set" if one["api_key"] else "missing"]
        for one in map(_project, settings.projects.values())
    ]
    for line in table(["project", "account", "base url", "api key"], shown):
        typer.echo(line)


def _rows(settings: "Settings") -> list[dict[str, Any]]:
    from ledger.settings import environment_name  # noqa: PLC0415

    return [
        {
            "name": environment_name(field),
            "value": _masked(getattr(settings, field)),
            "origin": origin,
        }
        for field, origin in settings.origins().items()
    ]


def _project(project: "Project") -> dict[str, Any]:
    return {
        "name": project.name,
        "account": project.account,
        "base_url": project.base_url,
        "api_key": None if project.api_key is None else _MASK,
        "lane": project.lane,
        "verify": project.verify,
        "max_ids_per_request": project.max_ids_per_request,
        "max_purges_per_hour": project.max_purges_per_hour,
        "dialect": project.dialect.value,
        "cubes": list(project.cubes),
        "search": project.search,
        "missing_categories": "empty" if project.missing_is_empty else "unknown",
    }


def _masked(value: object) -> str | int | float | None:
    """Give what may be shown of a value: no key, and a URL without what stands before its `@`."""
    if hasattr(value, "get_secret_value"):
        return _MASK
    text = None if value is None else str(value)
    if text is not None and "://" in text:
        parts = urlsplit(text)
        if "@" in parts.netloc:
            host = parts.netloc.rpartition("@")[2]
            text = parts._replace(netloc=f"{_MASK}@{host}").geturl()
        if parts.query:
            # libpq takes a password there too.
            text = text.replace(f"?{parts.query}", f"?{_MASK}")
        return text
    return value if isinstance(value, int | float) else text
