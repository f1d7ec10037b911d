"""`expunge demo`: the whole path on an embedded stack."""

from pathlib import Path

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    files: list[Path] | None = typer.Argument(
        None, help="With --memos env: CSV, JSONL or plain files whose orders are carried out."
    ),
    memos: str = typer.Option(
        "simulator", help="simulator, or env for the MemOS at MEMOS_BASE_URL."
    ),
    yes: bool = typer.Option(False, help="With --memos env: do not ask."),
) -> None:
    """Delete on an embedded stack and prove it; leaves no process and no file behind.

    Starts Valkey, a SQLite ledger and a worker on free ports and, unless told otherwise, a
    simulated MemOS that answers with bursts of errors; hands files in, waits for the end, and
    compares what the record says with what is truly left. Exits with 0 only if they agree, else 9.
    """
    from expunge.demo import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(memos=memos, files=files or [], yes=yes))
