"""`expunge keys …`: the keys that vouch for what was ordered, and the one that signs the log."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from expunge.cli import epochs
from expunge.cli.output import Output, OutputOption, show_many

if TYPE_CHECKING:
    from ledger.engine import Database
    from ledger.settings import Settings

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="The keys that vouch for what was ordered.")
    group.command("init")(init)
    group.command("show")(show)
    group.command("rotate")(rotate)
    group.command("adopt")(adopt)
    epochs.add_to(group)
    app.add_typer(group, name="keys")


def init(
    signing_dir: Path | None = typer.Option(
        None, help="Where the key goes that only the sealer needs; default: with the others."
    ),
) -> None:
    """Make the keys in EXPUNGE_KEYS_DIR; never overwrites one. Keep a copy of them."""
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    Keys.create(settings.keys_dir, signing_dir=signing_dir)
    typer.echo(f"Keys are in {settings.keys_dir}; keep a copy of them in a safe place.")


def show(output: OutputOption = Output.TABLE) -> None:
    """Show the public keys that ever signed the log, the newest last; never a private one.

    Give them to whoever checks checkpoints, certificates and exports.
    """
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.errors import NotFoundError  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    keys = Published(settings.audit_dir).keys()
    if not keys:
        msg = f"No key has signed yet: none is in {settings.audit_dir}; run `expunge seal`."
        raise NotFoundError(msg)
    if output is Output.TABLE:
        for key in keys:
            typer.echo(str(key))
        return
    records = [{"id": str(key), "origin": key.name, "key_id": key.id} for key in keys]
    show_many(records, output=output, columns={"key": "id"})


def rotate(
    reason: str = typer.Option(help="A short code for the record, such as yearly."),
) -> None:
    """Make a new signing key and record it; the next checkpoint is signed by both.

    For where the sealer runs. What the old key signed stays valid; its private half is deleted
    once both have signed, which the running sealer does, or else this command.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from expunge.sealing import complete_rotation  # noqa: PLC0415
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.audit.rotating import begin_rotation  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        _require_own_signing_key(database, settings)
        key = begin_rotation(
            database,
            keys_dir=settings.keys_dir,
            published=Published(settings.audit_dir),
            principal=operator(),
            reason=reason,
        )
    if complete_rotation(settings):
        typer.echo("The new key is in force; give this to whoever checks:", err=True)
    else:
        typer.echo(
            "The new key is made, and comes into force when the sealer has signed with both; "
            "give this to whoever checks:",
            err=True,
        )
    typer.echo(str(key))


def _require_own_signing_key(database: "Database", settings: "Settings") -> None:
    """Refuse to rotate another log's key: the record would name it, and nothing be signed by it."""
    from ledger.audit.notes import open_checkpoint  # noqa: PLC0415
    from ledger.audit.signing import SigningKeys  # noqa: PLC0415
    from ledger.audit.state import read_state  # noqa: PLC0415
    from ledger.errors import KeysError  # noqa: PLC0415

    state = database.read(read_state)
    keys = SigningKeys.load(settings.keys_dir)
    if state.origin is None or state.last is None:
        return
    try:
        open_checkpoint(state.last, [one.public for one in keys.signers(state.origin)])
    except ValueError:
        msg = (
            "signing.key in EXPUNGE_KEYS_DIR did not sign this ledger's last checkpoint: it is "
            "another log's. Rotate where this log's sealer runs, or correct EXPUNGE_LEDGER_URL."
        )
        raise KeysError(msg) from None


def adopt(
    reason: str = typer.Option(help="A short code for the record, such as keys_lost."),
) -> None:
    """Make the keys in EXPUNGE_KEYS_DIR the ledger's own, because its own are lost.

    What is open is not carried out then, but stopped as changed: it has to be handed in again.
    Nobody whose request was made before is found any more.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.engine import Database  # noqa: PLC0415
    from ledger.fitting import adopt_keys  # noqa: PLC0415
    from ledger.keys import Keys  # noqa: PLC0415
    from ledger.macs import Macs  # noqa: PLC0415
    from ledger.migrate import check_schema  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    macs = Macs(Keys.load(settings.keys_dir))
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        adopt_keys(database, macs, principal=operator(), reason=reason)
    typer.echo("These keys are the ledger's own from here on; start everybody anew.", err=True)
