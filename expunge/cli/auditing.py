"""`expunge audit …`: whether anybody changed the record, and the record for others to check."""

import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import typer

from expunge.cli.output import Output, OutputOption, show_one
from expunge.exit_codes import EXIT_UNVERIFIED
from expunge.tables import counted

if TYPE_CHECKING:
    from ledger.audit.faults import Verdict
    from ledger.audit.notes import PublicKey
    from ledger.audit.orders import Orders
    from ledger.audit.published import Published
    from ledger.engine import Database
    from ledger.settings import Settings

__all__ = ["add_to"]

_SETTLE_S: Final = 2.0
_LOOK_S: Final = 0.1
_Keys = typer.Option(
    [],
    "--public-key",
    metavar="KEY|@FILE",
    help="A public key to trust, or a file of them. Without: those in EXPUNGE_AUDIT_DIR.",
)


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="The log that proves the record.")
    group.command("verify")(verify)
    group.command("export")(export)
    group.command("checkpoint")(checkpoint)
    group.command("new-origin")(new_origin)
    app.add_typer(group, name="audit")


def verify(
    public_key: list[str] = _Keys,
    kept: list[Path] = typer.Option(
        [], "--checkpoint", metavar="FILE", help="A checkpoint that somebody kept; repeatable."
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Derive the whole log anew from its rows, and say whether anybody changed it.

    Hashes every event again, compares the tree with every checkpoint and with the one that was
    published outside the database, and names the first bad index. Exits with 9 when something is
    wrong. Only reads; as good a witness as where it runs, so run it elsewhere too.
    """
    from ledger.audit.orders import changed_orders  # noqa: PLC0415
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.audit.verifying import verify as verify_log  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    published = Published(settings.audit_dir)
    keys = _trusted(public_key, settings)
    notes = [_checkpoint(path) for path in kept]
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        note = _settled(database, published)
        verdict = database.read_long(
            lambda conn: verify_log(
                conn, keys=keys, published=note, kept=notes, progress=_progress()
            )
        )
        orders = changed_orders(database, settings.keys_dir, verdict)
    compared = {"published": note is not None, "kept": len(notes)}
    record = _record(verdict) | {
        "orders": orders.good,
        "order_keys": orders.keys.value,
        "compared": compared,
    }
    if output is Output.TABLE:
        _tell(verdict)
        _tell_of_orders(orders)
        _tell_of_checkpoints(settings.audit_dir, published=note is not None, kept=len(notes))
        _conclude(verdict, by_checkpoint=bool(note or notes))
    else:
        show_one(record | {"id": "good" if verdict.good else "bad"}, output=output, shown=record)
    if not verdict.good:
        raise typer.Exit(EXIT_UNVERIFIED)


def export(
    file: Path = typer.Argument(Path("-"), help="Where it goes; - is stdout."),
) -> None:
    """Write the log as JSONL that verifies without this program (docs/formats.md).

    Holds what events hold: no user id, no memory id. It is personal data all the same while the
    pseudonym keys exist.
    """
    from ledger.audit.exporting import export_lines  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.errors import LedgerError, RequestError  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)

        def write(out: TextIO) -> int:
            count = 0

            def work(conn: Any) -> None:  # noqa: ANN401 - a connection
                nonlocal count
                if count:
                    # A broken connection is tried again, but lines that are out stay out.
                    msg = "The connection to the ledger broke in mid-export; run it again, whole."
                    raise LedgerError(msg, cause="export_broken")
                for line in export_lines(conn):
                    out.write(f"{line}\n")
                    count += 1

            database.read_long(work)
            return count

        if str(file) == "-":
            count = write(sys.stdout)
        else:
            try:
                with file.open("w", encoding="utf-8", errors="surrogateescape") as out:
                    count = write(out)
            except OSError as error:
                msg = f"{file} cannot be written ({error.strerror}); name another file."
                raise RequestError(msg) from None
    typer.echo(f"Wrote {count:,} lines.", err=True)


def checkpoint() -> None:
    """Print the last published checkpoint, a note that others can keep and compare."""
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.errors import NotFoundError  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    note = Published(settings.audit_dir).checkpoint()
    if note is None:
        msg = f"No checkpoint is in {settings.audit_dir}; `expunge seal` puts it there."
        raise NotFoundError(msg)
    typer.echo(note, nl=False)


def new_origin(
    reason: str = typer.Option(help="A short code for the record, such as restored."),
) -> None:
    """Let the log go on under a new name, after an older copy of the ledger was restored.

    For whoever knows what happened: under the old name nothing can be signed any more. Needs the
    signing key, and no sealer may run. Accounts stay paused until `expunge resume --account`.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.audit.opening import open_new_origin  # noqa: PLC0415
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        name = open_new_origin(
            database,
            keys_dir=settings.keys_dir,
            published=Published(settings.audit_dir),
            principal=operator(),
            reason=reason,
        )
    typer.echo(f"The log goes on as {name}; start `expunge seal` again.", err=True)


def _trusted(given: list[str], settings: "Settings") -> "list[PublicKey]":
    from ledger.audit.notes import PublicKey  # noqa: PLC0415
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.errors import AuditError, RequestError  # noqa: PLC0415

    lines: list[str] = []
    for value in given:
        lines += _text(Path(value[1:])).splitlines() if value.startswith("@") else [value]
    try:
        keys = [PublicKey.parse(line) for line in lines if line.strip()]
    except ValueError as error:
        raise RequestError(str(error)) from None
    keys = keys or Published(settings.audit_dir).keys()
    if not keys:
        msg = (
            f"No public key is known: none is in {settings.audit_dir}. Give one with "
            "--public-key; `expunge keys show` prints it where the sealer runs."
        )
        raise AuditError(msg)
    return keys


def _settled(database: "Database", published: "Published") -> str | None:
    """Give the published checkpoint, once the sealer has also noted it, or a while has passed."""
    from ledger.audit.state import is_recorded  # noqa: PLC0415

    until = time.monotonic() + _SETTLE_S
    while True:
        note = published.checkpoint()
        if note is None or time.monotonic() > until:
            return note
        if database.read(lambda conn, note=note: is_recorded(conn, note)):  # type: ignore[misc]
            return note
        time.sleep(_LOOK_S)


def _text(path: Path) -> str:
    from ledger.errors import RequestError  # noqa: PLC0415

    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        msg = f"{path} cannot be read as text; name the file as it was kept."
        raise RequestError(msg) from None


def _checkpoint(path: Path) -> str:
    from ledger.audit.notes import is_checkpoint  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415

    note = _text(path)
    if not is_checkpoint(note):
        msg = (
            f"{path} is no checkpoint; name a file with what `expunge audit checkpoint` printed, "
            "its last line break included."
        )
        raise RequestError(msg)
    return note


def _progress() -> Any:  # noqa: ANN401 - a function
    last = -1

    def tell(done: int, of: int) -> None:
        nonlocal last
        percent = 100 * done // of
        if sys.stderr.isatty() and percent != last:
            last = percent
            sys.stderr.write(f"\r{percent} % of {of:,} events")
            sys.stderr.write("\n" if percent == 100 else "")  # noqa: PLR2004 - per cent

    return tell


def _record(verdict: "Verdict") -> dict[str, Any]:
    return {
        "good": verdict.good,
        "first_bad": verdict.first_bad,
        "leaves": verdict.leaves,
        "signed": verdict.signed,
        "pruned": verdict.pruned,
        "checkpoints": verdict.checkpoints,
        "waiting": verdict.waiting,
        "request_events": verdict.compared,
        "faults_found": verdict.found,
        "faults": [asdict(one) for one in verdict.faults],
    }


def _tell(verdict: "Verdict") -> None:
    typer.echo(
        f"{counted(verdict.leaves, 'event')} hashed again, {verdict.signed:,} of them signed; "
        f"{verdict.pruned:,} without a body, as recorded; {verdict.waiting:,} wait to be sealed; "
        f"{counted(verdict.checkpoints, 'checkpoint')}."
    )
    typer.echo(f"Rows of requests were held against {counted(verdict.compared, 'event')}.")


def _tell_of_orders(orders: "Orders") -> None:
    from ledger.audit.orders import OrderKeys  # noqa: PLC0415

    if orders.good is not None:
        typer.echo(f"MACs of what was ordered hold: {counted(orders.good, 'order')}.")
    elif orders.keys is OrderKeys.FOREIGN:
        typer.echo(
            "NOT CHECKED: whether orders are what was ordered. The keys in EXPUNGE_KEYS_DIR are "
            "not this ledger's; name the directory of its own ones and verify again."
        )


def _tell_of_checkpoints(folder: Path, *, published: bool, kept: int) -> None:
    names = ["the published checkpoint" if published else "no published checkpoint"]
    names += [f"{counted(kept, 'checkpoint')} that somebody kept"] if kept else []
    if published or kept:
        typer.echo(f"Compared with {' and '.join(names)}.")
    else:
        typer.echo(
            f"NOT COMPARED with any checkpoint from outside of the ledger: none is in {folder}. "
            "Whether the end of the log was cut off cannot be told without one. Bring the file "
            "`checkpoint` from where the sealer runs, or name one that was kept with --checkpoint, "
            "and verify again."
        )


def _conclude(verdict: "Verdict", *, by_checkpoint: bool) -> None:
    for fault in verdict.faults:
        typer.echo(f"{fault.kind.value}: {fault.says}")
    if verdict.found > len(verdict.faults):
        typer.echo(f"… and {verdict.found - len(verdict.faults):,} more.")
    if verdict.good and by_checkpoint:
        typer.echo("Nothing was changed.")
    elif verdict.good:
        typer.echo("Nothing of what is here was changed.")
    elif verdict.log_is_whole:
        typer.echo("The log is what was signed; the requests named above are NOT what it says.")
    elif verdict.first_bad is None:
        typer.echo("The log is NOT what was signed.")
    else:
        typer.echo(f"The log is NOT what was signed; the first bad index is {verdict.first_bad}.")
