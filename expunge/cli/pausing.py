"""`expunge resume`: let a project go on that was stopped; and what stands still, for `list`."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ledger import Ledger

__all__ = ["add_to", "warn_of_pauses"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resume")(resume)


def resume(
    project: str = typer.Argument(help="The project, as `list` names it."),
) -> None:
    """Let a project go on that was stopped because its key or address was refused."""
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        changed = ledger.resume_project(project, principal=operator())
    typer.echo(
        f"Project {project} goes on." if changed else f"Project {project} was not stopped.",
        err=True,
    )


def warn_of_pauses(ledger: "Ledger") -> None:
    """Say on stderr what stands still, so that nobody waits for it unknowingly."""
    for pause in ledger.pauses():
        if pause.scope == "project":
            typer.echo(
                f"Project {pause.name} is paused ({pause.reason}): nothing of it is sent. Mend "
                f"its key or address, then run: expunge resume {pause.name}",
                err=True,
            )
        else:
            typer.echo(
                f"Account {pause.name} rests for {pause.seconds_left or 0:.0f} s more "
                f"({pause.reason}).",
                err=True,
            )
