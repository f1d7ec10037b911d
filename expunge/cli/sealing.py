"""`expunge seal`: the only process that holds the signing key."""

import signal
import time
from typing import Final

import typer

from expunge.tables import counted

__all__ = ["add_to"]

_LOOK_S: Final = 0.1


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("seal")(seal)


def seal(
    once: bool = typer.Option(False, "--once", help="End when nothing waits any more."),
    adopt: bool = typer.Option(
        False,
        "--adopt",
        help="The published checkpoint was lost, and the ledger is known to be the newest: go on "
        "from its own last checkpoint.",
    ),
) -> None:
    """Give events their places in the log and sign checkpoints over it, until SIGTERM.

    One is enough; a second one waits until the first is gone. Refuses to sign, and pauses all
    accounts, when the ledger is older than the last checkpoint in EXPUNGE_AUDIT_DIR.
    """
    from expunge.sealing import run_sealer  # noqa: PLC0415
    from ledger.logs import configure_logs  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    configure_logs(settings)
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.note)
    sealed = run_sealer(settings, stop=stop, once=once, adopt=adopt)
    if not once:
        return
    if sealed is None:
        typer.echo("Another sealer is at work; nothing was done here.", err=True)
    else:
        typer.echo(
            f"Sealed {counted(sealed.events, 'event')}; the log has {sealed.size:,}.", err=True
        )


class _Stop:
    """Set by a signal; as in `expunge bridge`, no `threading.Event`."""

    def __init__(self) -> None:
        self._set = False

    def note(self, _number: int, _frame: object) -> None:
        """End soon."""
        self._set = True

    def wait(self, seconds: float) -> bool:
        """Sleep for so long, or until a signal came; says whether one did."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
        return self._set
