"""`expunge doctor`: checks everything, and says how to mend it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from expunge.cli.output import Output, OutputOption
from expunge.exit_codes import EXIT_UNEXPECTED
from expunge.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expunge.doctor import Finding

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    offline: bool = typer.Option(False, help="Do not call MemOS."),
    output: OutputOption = Output.TABLE,
    secrets_dir: Path | None = typer.Option(
        None, envvar="EXPUNGE_SECRETS_DIR", help="Whose files' modes are looked at."
    ),
    memory_id: str | None = typer.Option(
        None, help="One that is there now (@FILE or -): shows that MemOS's reads find things."
    ),
    project: str = typer.Option("default", help="Whose --memory-id is."),
) -> None:
    """Check settings, keys, ledger, Redis, workers, streams and MemOS, and say how to mend them.

    A line each: ok, warn or fail. Changes nothing, deletes nothing; MemOS gets a few harmless reads
    a project, which take slots of the account's rate like any other call. Exits with 1 when
    something fails.
    """
    from expunge.cli.values import one_value, operator  # noqa: PLC0415
    from expunge.doctor import Grade, examine  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.ids import check_memory_id  # noqa: PLC0415

    there = None
    if memory_id is not None:
        if offline:
            msg = "--memory-id is read at MemOS; leave out --offline."
            raise RequestError(msg)
        found = one_value(memory_id, option="--memory-id")
        there = (project, check_memory_id(found, where="--memory-id"))
    findings = list(
        examine(offline=offline, principal=operator(), secrets_dir=secrets_dir, there=there)
    )
    fails = any(one.grade is Grade.FAIL for one in findings)
    if output is Output.TABLE:
        for line in _lines(findings):
            typer.echo(line)
    elif output is Output.ID:
        for one in findings:
            typer.echo(one.check)
    elif output is Output.JSONL:
        for one in findings:
            typer.echo(json.dumps(asdict(one)))
    else:
        record = {"ok": not fails, "findings": [asdict(one) for one in findings]}
        typer.echo(json.dumps(record, indent=2))
    if fails:
        raise typer.Exit(EXIT_UNEXPECTED)


def _lines(findings: "Sequence[Finding]") -> list[str]:
    """Lay out a line each, and below it what to do."""
    rows = table(
        ["result", "check", "finding"], [[one.grade, one.check, one.says] for one in findings]
    )
    indent = " " * rows[0].index("finding")
    lines = [rows[0]]
    for row, one in zip(rows[1:], findings, strict=True):
        lines.append(row)
        if one.fix is not None:
            lines.append(f"{indent}-> {one.fix}")
    return lines
