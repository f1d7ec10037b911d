"""`expunge certificate …`: what was sealed of a request's end, and does a file say just that?"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from expunge.cli.output import Output, OutputOption, show_one
from expunge.exit_codes import EXIT_UNVERIFIED

if TYPE_CHECKING:
    from ledger.certificates.checking import Checked
    from ledger.certificates.openings import Opening

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
    to = None if str(file) == "-" else file
    # Before anybody is recorded to have got the opening: it is written then, or nothing is.
    with _new_file(to, secret=False) as paper, _new_file(opening, secret=True) as open_paper:
        with closing(Database(settings.ledger_url)) as database:
            check_schema(database)
            made = make(database, request_id, keys=keys, generation=generation)
            if opening is not None:
                ended = json.loads(made)["statement"]["generation"]
                macs = Macs(Keys.load(settings.keys_dir))
                opened = open_up(database, macs, request_id, generation=ended, principal=operator())
                open_paper(opened.file())
        if to is not None:
            paper(made)
    if to is None:
        typer.echo(made.decode(), nl=False)


def verify(  # noqa: PLR0917 - options of the command
    file: Path = typer.Argument(help="The certificate."),
    public_key: list[str] = _Keys,
    opening: Path | None = typer.Option(None, metavar="FILE", help="Its opening."),
    items: str | None = typer.Option(
        None, metavar="@FILE|-", help="The list of ids as it was handed in: is it about these?"
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
    from ledger.certificates.checking import check_certificate  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415

    keys = given_keys(public_key)
    if not keys:
        msg = "Name the log's public key with --public-key; its owner's `expunge keys show` has it."
        raise RequestError(msg)
    if opening is None and (items or subject):
        msg = "To compare a list or a name, the certificate's --opening is needed too."
        raise RequestError(msg)
    if items is not None and items != "-" and not items.startswith("@"):
        msg = "--items takes the list as a file, not an id: @FILE, or - for standard input."
        raise RequestError(msg)
    checked = check_certificate(_read(file), keys)
    holds = checked.good
    if opening is not None:
        _compare(checked, opening, items=items, subject=subject)
    record = _record(checked)
    if output is Output.TABLE:
        given = (("opening", opening), ("ids", items), ("name", subject))
        _tell(checked, holds=holds, compared=[name for name, value in given if value is not None])
    else:
        show_one(record | {"id": "good" if checked.good else "bad"}, output=output, shown=record)
    if not checked.good:
        raise typer.Exit(EXIT_UNVERIFIED)


def _compare(checked: "Checked", path: Path, *, items: str | None, subject: str | None) -> None:
    """Compare a certificate with its opening, and with what was named beside."""
    from expunge.cli.values import memory_ids, one_value  # noqa: PLC0415
    from ledger.certificates.checking import (  # noqa: PLC0415
        check_items,
        check_opening,
        check_subject,
    )
    from ledger.certificates.openings import read_opening  # noqa: PLC0415

    opening: Opening = read_opening(_read(path))
    check_opening(checked, opening)
    if items is not None:
        advice = "Nothing was compared; leave out what was not taken when the list was handed in."
        check_items(checked, opening, memory_ids([items], advice=advice))
    if subject is not None:
        check_subject(checked, opening, one_value(subject, option="--subject"))
    elif checked.good and opening.salt is None:
        checked.faults.append(
            "opening: It has no salt, so only with --subject can it be seen whether it belongs to "
            "this certificate."
        )


def _record(checked: "Checked") -> dict[str, Any]:
    signed = checked.checkpoint
    return {
        "good": checked.good,
        "faults": checked.faults,
        "statement": checked.statement,
        "origin": None if signed is None else signed.origin,
        "size": None if signed is None else signed.size,
    }


def _tell(checked: "Checked", *, holds: bool, compared: list[str]) -> None:
    """Show what came of it.

    Args:
        checked: That.
        holds: Whether the certificate is good for itself, whatever it was compared with.
        compared: What it was compared with.
    """
    for fault in checked.faults:
        typer.echo(fault)
    if holds and not checked.good:
        typer.echo(
            "The certificate itself holds. It is NOT shown to be about what you gave with it "
            f"({', '.join(compared)})."
        )
        return
    if not checked.good or checked.statement is None or checked.checkpoint is None:
        typer.echo("This is NOT a certificate to rely on.")
        return
    for name, value in _flat(checked.statement):
        typer.echo(f"{name:<32}  {value}")
    typer.echo(
        f"Good: sealed in {checked.checkpoint.origin}, and signed over its first "
        f"{checked.checkpoint.size:,} events."
    )
    if names := [name for name in compared if name != "opening"]:
        typer.echo(f"It is about the {' and the '.join(names)} that you gave.")
    elif compared:
        typer.echo("The opening that you gave is its own.")


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


@contextmanager
def _new_file(path: Path | None, *, secret: bool) -> Iterator[Callable[[bytes], None]]:
    """Make a file that is not there yet, to be filled; whatever goes wrong leaves none behind.

    Args:
        path: Where; None makes none.
        secret: Only its owner may read it.

    Raises:
        RequestError: It is there already, or cannot be written.
    """
    import os  # noqa: PLC0415

    from ledger.errors import RequestError  # noqa: PLC0415

    if path is None:
        yield _nowhere
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    except OSError as error:
        raise RequestError(_unwritable(path, error)) from None

    def fill(data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[out.write(left) :]
        except OSError as error:
            raise RequestError(_unwritable(path, error)) from None

    with os.fdopen(handle, "wb", buffering=0) as out:
        try:
            yield fill
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _nowhere(_data: bytes) -> None:
    """Fill a file that nobody asked for."""


def _unwritable(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror}); name a file that is not there yet."
