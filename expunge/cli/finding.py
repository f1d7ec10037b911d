"""`expunge find`: was somebody erased, when, and how surely?"""

from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from expunge.cli.output import Output, OutputOption, show_many
from expunge.tables import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ledger.lookups import Known

__all__ = ["add_to", "names_from", "show_known", "tell_untold"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("find")(find)


def find(
    user: str | None = typer.Option(
        None, "--user", metavar="@FILE", help="User ids, one a line; `-` is standard input."
    ),
    agent: str | None = typer.Option(None, "--agent", metavar="@FILE", help="Agent ids, as above."),
    project: list[str] = typer.Option([], help="Only of this project; repeatable."),
    output: OutputOption = Output.TABLE,
) -> None:
    """Say for each name whether it was erased, when, and how surely; by its line, never by itself.

    Knows purges, and batches whose user was named. The look itself is recorded, without the names.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.lookups import find_subjects  # noqa: PLC0415
    from ledger.macs import Macs  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    if (user is None) == (agent is None):
        msg = "Name either --user or --agent, each with a file, so that no id is in the history."
        raise RequestError(msg)
    names = names_from(user or agent or "", option="--user" if user else "--agent")
    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        looked = find_subjects(
            database,
            Macs(Keys.load(settings.keys_dir)),
            names,
            principal=operator(),
            projects=project or None,
            agents=agent is not None,
        )
    show_known(looked.known, output=output)
    tell_untold(looked.untold)


def names_from(value: str, *, option: str) -> "Iterator[str]":
    """Yield the names of a file or of standard input, one a line, as they stand there.

    An empty line comes as an empty name, so that the others keep their numbers. At the end it says
    on stderr what makes names unknown by mistake: there are none, or blanks stand around them.

    Raises:
        RequestError: It is no file: a name on the command line would stay in the shell's history.
    """
    from ledger.errors import RequestError  # noqa: PLC0415
    from producer.files import open_source  # noqa: PLC0415

    if value != "-" and not value.startswith("@"):
        msg = f"{option} takes @FILE or -, so that no id stays in the shell's history."
        raise RequestError(msg)
    names = padded = 0
    with open_source(value.removeprefix("@")) as source:
        for line in source.lines():
            names += line.content != ""
            padded += line.content != line.content.strip()
            yield line.content
    if not names:
        typer.echo("There is no name in it.", err=True)
    if padded:
        typer.echo(
            f"{counted(padded, 'line')} with blanks before or after the name: they count, and "
            "nobody is known by them who was ordered without.",
            err=True,
        )


def show_known(known: "Sequence[Known]", *, output: Output) -> None:
    """Print answers, one a row."""
    records: list[dict[str, Any]] = []
    for one in known:
        fields = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(one).items()
        }
        records.append({"id": one.request} | fields)
    if output is Output.ID:
        records = [record for record in records if record["id"] is not None]
    columns = {
        name.replace("_", " "): name
        for name in (
            "line",
            "answer",
            "project",
            "kind",
            "result",
            "certainty",
            "ended_at",
            "request",
        )
    }
    show_many(records, output=output, columns=columns)


def tell_untold(untold: "Sequence[int]") -> None:
    """Say on stderr what cannot be told any more."""
    if untold:
        numbers = ", ".join(map(str, untold))
        typer.echo(
            f"The pseudonym keys of these epochs are destroyed, or not in EXPUNGE_KEYS_DIR: "
            f"{numbers}. Of what was erased under them nothing can be told here, so `not_known` is "
            "no No there.",
            err=True,
        )
