"""`expunge dev`: the whole service on this machine, until it is told to end."""

from pathlib import Path

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dev")(dev)


def dev(
    memos: str = typer.Option(
        "simulator", help="simulator, or env for the MemOS at MEMOS_BASE_URL; that needs --dir."
    ),
    folder: Path | None = typer.Option(
        None,
        "--dir",
        help="A folder that is kept and used again; else EXPUNGE_HOME/dev, which goes at the end.",
    ),
    rate: float | None = typer.Option(
        None, min=0.1, max=5000, help="Calls a second [default: 50, with env the settings' own]."
    ),
) -> None:
    """Run everything on free ports until Ctrl-C: Valkey, ledger, worker, bridge and a MemOS.

    Prints one line of JSON on stdout once everything is up, and writes into the folder: `env`, by
    which another shell finds it (`. FOLDER/env`), and with the simulator `ids.txt`, `export.csv`
    and `erase.jsonl`, whose ids exist there.
    """
    from expunge.dev import run_dev  # noqa: PLC0415

    raise typer.Exit(run_dev(memos=memos, folder=folder, rate=rate))
