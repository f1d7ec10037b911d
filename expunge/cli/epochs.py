"""`expunge keys epochs|new-epoch|destroy-epoch`: the keys that turn names into references."""

from contextlib import closing
from dataclasses import asdict
from datetime import datetime

import typer

from expunge.cli.output import Output, OutputOption, show_many
from expunge.tables import counted

__all__ = ["add_to"]


def add_to(group: typer.Typer) -> None:
    """Add the commands to `expunge keys`."""
    group.command("epochs")(epochs)
    group.command("new-epoch")(new_epoch)
    group.command("destroy-epoch")(destroy_epoch_)


def epochs(output: OutputOption = Output.TABLE) -> None:
    """List the epochs of the pseudonym keys: which is in force, which was destroyed and when."""
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.epochs import list_epochs  # noqa: PLC0415
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        found = list_epochs(database, Keys.load(settings.keys_dir))
    records = [
        {"id": str(one.no)}
        | {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(one).items()
        }
        for one in found
    ]
    columns = {
        "epoch": "no",
        "key": "key",
        "in force": "in_force",
        "began": "began_at",
        "destroyed": "destroyed_at",
    }
    show_many(records, output=output, columns=columns)


def new_epoch(
    reason: str = typer.Option(help="A short code for the record, such as yearly."),
) -> None:
    """Make the next pseudonym key. Bring it to all who hand in, and start them anew.

    Older keys stay until they are destroyed, so that what was erased under them is still found.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.epochs import begin_epoch  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        no = begin_epoch(database, keys_dir=settings.keys_dir, principal=operator(), reason=reason)
    typer.echo(
        f"Epoch {no} has its key in {settings.keys_dir}; keep a copy of it apart, and start "
        "workers, bridges and producers anew.",
        err=True,
    )


def destroy_epoch_(
    no: int = typer.Argument(metavar="EPOCH", min=1, help="A past one; `keys epochs` lists them."),
    reason: str = typer.Option(help="A short code for the record, such as retention."),
) -> None:
    """Destroy a past pseudonym key: nobody can tell then any more who was erased under it.

    The log and all certificates still verify. Copies of the key are yours to destroy.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.epochs import destroy_epoch  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.scrubbing import truncate_wal  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        count = destroy_epoch(
            database, keys_dir=settings.keys_dir, no=no, principal=operator(), reason=reason
        )
        truncate_wal(database)
    typer.echo(
        f"The key of epoch {no} is destroyed here, and the references of "
        f"{counted(count, 'request')} with it. Destroy its copies too.",
        err=True,
    )
