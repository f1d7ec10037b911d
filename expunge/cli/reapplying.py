"""`expunge reapply`: after the memory store was restored from a backup."""

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from expunge.cli.finding import names_from, show_known, tell_untold
from expunge.cli.output import Output, OutputOption, show_many
from expunge.exit_codes import EXIT_PARTLY
from expunge.tables import counted

if TYPE_CHECKING:
    from ledger.engine import Database
    from ledger.macs import Macs
    from ledger.settings import Settings

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reapply")(reapply)


def reapply(  # noqa: PLR0917 - typer makes options of them, which are named
    since: str = typer.Option(help="When the backup was made, as 2026-11-22T10:00:00+01:00."),
    reason: str = typer.Option("restored", help="A short code for the record."),
    project: list[str] = typer.Option([], help="Only of this project; repeatable."),
    again: int = typer.Option(
        1,
        "--again",
        metavar="N",
        min=1,
        help="This same backup was restored for the N-th time: order all of it once more.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Order nothing; show what would be."),
    users: str | None = typer.Option(
        None,
        metavar="@FILE",
        help="Order nothing: say which of these user ids were erased since, by their lines.",
    ),
    ids: str | None = typer.Option(
        None,
        metavar="@FILE",
        help="Order nothing: say which scrubbed batches this was the list of.",
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Order again what was deleted since a backup of the memory store that was restored now.

    Each request that still has its names is ordered anew, once for this moment however often this
    is run, as a request that follows it. Of those that were scrubbed only their producer knows the
    names: see --users and --ids, and hand them in again. Exits with 3 when there are such.
    """
    from expunge.cli.values import memory_ids, moment  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.macs import Macs  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    start = moment(since, option="--since")
    if start is None or (users is not None and ids is not None):
        msg = "Give either --users or --ids, not both."
        raise RequestError(msg)
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        _check_projects(database, settings, project)
        macs = Macs(Keys.load(settings.keys_dir))
        if users is not None:
            _tell_users(database, macs, users, start, project, output=output)
        elif ids is not None:
            _tell_batches(database, macs, list(memory_ids([ids])), start, project, output=output)
        else:
            _order(
                database,
                macs,
                start,
                project,
                reason=reason,
                times=again,
                dry_run=dry_run,
                output=output,
            )


def _check_projects(database: "Database", settings: "Settings", wanted: list[str]) -> None:
    """Refuse a project that is neither in the settings nor in the ledger: nothing is of it."""
    from sqlalchemy import select  # noqa: PLC0415

    from ledger.errors import UnknownProjectError  # noqa: PLC0415
    from ledger.schema import project as table  # noqa: PLC0415

    recorded = database.read(lambda conn: conn.execute(select(table.c.name)).scalars().all())
    known = {*settings.projects, *recorded}
    if not known.issuperset(wanted):
        msg = (
            "There is no such project in the settings or in the ledger; known are: "
            f"{', '.join(sorted(known))}. Nothing was done."
        )
        raise UnknownProjectError(msg)


def _order(
    database: "Database",
    macs: "Macs",
    since: datetime,
    projects: list[str],
    *,
    reason: str,
    times: int,
    dry_run: bool,
    output: Output,
) -> None:
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.reapplying import reapply as run  # noqa: PLC0415

    made = list(
        run(
            database,
            macs,
            since=since,
            principal=operator(),
            reason=reason,
            projects=projects or None,
            dry_run=dry_run,
            times=times,
        )
    )
    records: list[dict[str, Any]] = [
        {
            "id": one.again,
            "follows": one.id,
            "kind": one.kind.value,
            "ids": one.ids,
            "left_out": one.why,
        }
        for one in made
    ]
    if output is Output.ID:
        records = [record for record in records if record["id"] is not None]
    columns = {
        name.replace("_", " "): name for name in ("id", "follows", "kind", "ids", "left_out")
    }
    show_many(records, output=output, columns=columns)
    scrubbed = sum(one.why == "scrubbed" for one in made)
    tampered = sum(one.why == "tampered" for one in made)
    before = sum(one.why == "ordered" for one in made)
    ordered = len(made) - scrubbed - tampered - before
    done = "Would order again" if dry_run else "Ordered again"
    typer.echo(f"{done}: {counted(ordered, 'request')}.", err=True)
    if before:
        typer.echo(
            f"{before:,} more were ordered again for this moment already, and are not once more. "
            f"When the same backup was restored another time since: `--again {times + 1}`.",
            err=True,
        )
    if scrubbed:
        typer.echo(
            f"{scrubbed:,} more were erased since and have no names here any more. Ask their "
            "producers for the lists; `--users @FILE` and `--ids @FILE` say which of them it was.",
            err=True,
        )
    if tampered:
        typer.echo(
            f"{tampered:,} more are not what was ordered and were left out: docs/operations.md, "
            "`An order was changed`.",
            err=True,
        )
    if scrubbed or tampered:
        raise typer.Exit(EXIT_PARTLY)


def _tell_users(
    database: "Database",
    macs: "Macs",
    users: str,
    since: datetime,
    projects: list[str],
    *,
    output: Output,
) -> None:
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.lookups import find_subjects  # noqa: PLC0415

    looked = find_subjects(
        database,
        macs,
        names_from(users, option="--users"),
        principal=operator(),
        projects=projects or None,
        since=since,
    )
    show_known(looked.known, output=output)
    tell_untold(looked.untold)


def _tell_batches(
    database: "Database",
    macs: "Macs",
    ids: list[str],
    since: datetime,
    projects: list[str],
    *,
    output: Output,
) -> None:
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.clock import from_wall  # noqa: PLC0415
    from ledger.reapplying import recognise  # noqa: PLC0415

    found = recognise(
        database, macs, ids, since=since, principal=operator(), projects=projects or None
    )
    records = [
        {"id": one.id, "ended_at": from_wall(one.ended_at).isoformat(), "unique": one.unique}
        for one in found
    ]
    columns = {"id": "id", "ended at": "ended_at", "unique": "unique"}
    show_many(records, output=output, columns=columns)
    if not found:
        typer.echo(
            "No scrubbed batch since then had exactly this list, in this order. A part of a list "
            "cannot be told.",
            err=True,
        )
