"""`expunge certificate …`: what was sealed of a request's end, and does a file say just that?"""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from expunge.cli.output import Output, OutputOption, show_one
from expunge.exit_codes import EXIT_UNVERIFIED

if TYPE_CHECKING:
    from ledger.certificates.checking import Checked

__all__ = ["add_to"]

_Keys = typer.Option(
    [],
    "--public-key",
    metavar="KEY|@FILE",
    help="A public key of the log, or a file of them; repeatable.",
)


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Certificates that verify offline.")
    group.command("issue")(issue)
    group.command("verify")(verify)
    app.add_typer(group, name="certificate")


def issue(
    request_id: str = typer.Argument(metavar="ID", help="A request that has ended."),
    file: Path = typer.Option(
        Path("-"), "--to", metavar="FILE", help="Where it goes; - is stdout."
    ),
    generation: int | None = typer.Option(None, min=1, help="Which end of it; without: the last."),
    opening: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Also write what shows whose memories it is about; an event says who got it.",
    ),
    public_key: list[str] = _Keys,
) -> None:
    """Give the certificate of a request's end, once that is sealed.

    Holds no id of a memory or a user, and no pseudonym. With the opening, whoever has the list or
    the name can show that the certificate is about it.
    """
    from expunge.cli.trusting import trusted_keys  # noqa: PLC0415
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.certificates.issuing import issue as make  # noqa: PLC0415
    from ledger.certificates.issuing import open_up  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.macs import Macs  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    keys = trusted_keys(public_key, settings)
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        made = make(database, request_id, keys=keys, generation=generation)
        if opening is not None:
            ended = json.loads(made)["statement"]["generation"]
            macs = Macs(Keys.load(settings.keys_dir))
            opened = open_up(database, macs, request_id, generation=ended, principal=operator())
            _write(opening, opened.file(), secret=True)
    if str(file) == "-":
        typer.echo(made.decode(), nl=False)
    else:
        _write(file, made, secret=False)


def verify(  # noqa: PLR0917 - options of the command
    file: Path = typer.Argument(help="The certificate."),
    public_key: list[str] = _Keys,
    opening: Path | None = typer.Option(None, metavar="FILE", help="Its opening."),
    items: str | None = typer.Option(
        None, metavar="@FILE", help="The list of ids as it was handed in: is it about these?"
    ),
    subject: str | None = typer.Option(
        None, metavar="@FILE", help="A file with the user's or agent's id: is it about them?"
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a certificate, offline: needs the file and the log's public key, and nothing else.

    Exits with 9 when something is wrong, and names every field that is.
    """
    from expunge.cli.trusting import given_keys  # noqa: PLC0415
    from expunge.cli.values import memory_ids, one_value  # noqa: PLC0415
    from ledger.certificates.checking import (  # noqa: PLC0415
        check_certificate,
        check_items,
        check_subject,
    )
    from ledger.certificates.openings import read_opening  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415

    keys = given_keys(public_key)
    if not keys:
        msg = "Name the log's public key with --public-key; its owner's `expunge keys show` has it."
        raise RequestError(msg)
    if opening is None and (items or subject):
        msg = "To compare a list or a name, the certificate's --opening is needed too."
        raise RequestError(msg)
    checked = check_certificate(_read(file), keys)
    if opening is not None:
        opened = read_opening(_read(opening))
        if items is not None:
            check_items(checked, opened, memory_ids([items]))
        if subject is not None:
            check_subject(checked, opened, one_value(subject, option="--subject"))
    record = _record(checked)
    if output is Output.TABLE:
        _tell(
            checked, compared=[name for name, value in (("ids", items), ("name", subject)) if value]
        )
    else:
        show_one(record | {"id": "good" if checked.good else "bad"}, output=output, shown=record)
    if not checked.good:
        raise typer.Exit(EXIT_UNVERIFIED)


def _record(checked: "Checked") -> dict[str, Any]:
    signed = checked.checkpoint
    return {
        "good": checked.good,
        "faults": checked.faults,
        "statement": checked.statement,
        "origin": None if signed is None else signed.origin,
        "size": None if signed is None else signed.size,
    }


def _tell(checked: "Checked", *, compared: list[str]) -> None:
    for fault in checked.faults:
        typer.echo(fault)
    if not checked.good or checked.statement is None or checked.checkpoint is None:
        typer.echo("This is NOT a certificate to rely on.")
        return
    for name, value in _flat(checked.statement):
        typer.echo(f"{name:<32}  {value}")
    typer.echo(
        f"Good: sealed in {checked.checkpoint.origin}, and signed over its first "
        f"{checked.checkpoint.size:,} events."
    )
    if compared:
        typer.echo(f"It is about the {' and the '.join(compared)} that you gave.")


def _flat(fields: dict[str, Any], under: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in fields.items():
        name = f"{under}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += _flat(value, f"{name}: ")
        elif isinstance(value, list):
            lines += [(name, str(one)) for one in value] or [(name, "none")]
        else:
            lines.append((name, "-" if value is None else str(value)))
    return lines


def _read(path: Path) -> bytes:
    from ledger.errors import RequestError  # noqa: PLC0415

    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}); name the file as it was given."
        raise RequestError(msg) from None


def _write(path: Path, data: bytes, *, secret: bool) -> None:
    import os  # noqa: PLC0415

    from ledger.errors import RequestError  # noqa: PLC0415

    mode = 0o600 if secret else 0o644
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(data)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror}); name a file that is not there yet."
        raise RequestError(msg) from None
