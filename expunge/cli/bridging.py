"""`expunge bridge` and `expunge parked`: other services' messages, and those that are no order."""

import signal
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import typer

from expunge.cli.output import Output, OutputOption, show_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.settings import Settings
    from ledger.streams import Stream

__all__ = ["add_to"]

_LOOK_S: Final = 0.1
_COLUMNS: Final = {
    "id": "id",
    "stream": "stream",
    "position": "position",
    "reason": "reason",
    "detail": "detail",
    "parked": "parked_at",
}


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("bridge")(bridge)
    app.command("parked")(parked)


def bridge(
    stream: list[str] = typer.Option(
        [],
        help="Server and stream, as in redis://127.0.0.1:6379/0#expunge-requests. Can be repeated. "
        "Without: the streams of the config file, or expunge-requests at EXPUNGE_REDIS_URL.",
    ),
) -> None:
    """Take in the messages of other services' queues, until SIGTERM."""
    from expunge.health.bridge import BridgeHealth  # noqa: PLC0415
    from expunge.health.listening import open_listener  # noqa: PLC0415
    from ledger.logs import configure_logs  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415
    from ledger.tracing import configure_traces, stop_traces  # noqa: PLC0415
    from producer.bridge import run_bridge  # noqa: PLC0415

    settings = load_settings()
    streams = _streams(settings, stream)
    configure_traces(settings, service="expunge-bridge")
    listener = open_listener(settings)
    # The log shows names that the settings have.
    named = settings.model_copy(update={"streams": {one.name: one for one in streams}})
    configure_logs(named)
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.note)
    health = BridgeHealth(named, streams)
    health.serve(listener)
    run_bridge(settings, streams, stop=stop, on_start=health.watch)
    stop_traces()


def parked(
    limit: int = typer.Option(50, min=1, max=10_000, help="At most so many, the newest first."),
    output: OutputOption = Output.TABLE,
) -> None:
    """List messages that could not be an order, the newest first: where they were, and why."""
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        found = ledger.list_parked(limit=limit)
    records = [asdict(one) | {"parked_at": one.parked_at.isoformat()} for one in found]
    show_many(records, output=output, columns=_COLUMNS)


class _Stop:
    """Set by a signal, read by all threads.

    No `threading.Event`: a handler that sets one while its own thread waits for it may wait for
    itself.
    """

    def __init__(self) -> None:
        self._noted = False

    def note(self, _number: int, _frame: object) -> None:
        self._noted = True

    def is_set(self) -> bool:
        return self._noted

    def wait(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while not self._noted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
        return self._noted


def _streams(settings: "Settings", given: "Sequence[str]") -> "list[Stream]":
    from ledger.errors import SettingsError  # noqa: PLC0415
    from ledger.streams import DEFAULT_STREAM, Stream, check_stream_url  # noqa: PLC0415

    if not given:
        return list(settings.streams.values()) or [Stream(name=DEFAULT_STREAM)]
    streams = []
    for each in given:
        try:
            url, name = check_stream_url(each)
        except ValueError as error:
            msg = f"--stream {error}."
            raise SettingsError(msg) from None
        streams.append(replace(settings.streams.get(name, Stream(name=name)), url=url))
    if len({one.name for one in streams}) < len(streams):
        msg = "Two of the --stream have the same name; run a bridge for each."
        raise SettingsError(msg)
    return streams
