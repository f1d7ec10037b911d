"""Logs: one JSON object a line on stderr, for our events and for those of the libraries."""

import logging
import sys
import threading
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog

from ledger.redaction import Redaction
from ledger.settings import Settings

__all__ = ["configure_logs"]

_OURS: Final = ("expunge", "producer", "worker", "ledger", "memos_api", "__main__")


class _Fields(dict[str, Any]):
    """An event of ours on its way through logging; a library's record may be a dict too."""


def configure_logs(settings: Settings | None = None) -> None:
    """Send everything through one redaction and one renderer.

    Lines are JSON, and for people when stderr is a terminal. Our own events show from
    `EXPUNGE_LOG_LEVEL` on, those of the libraries from `warning`, or from `debug` when that is the
    level. Exceptions are named by class only, also those that nobody catches, for tracebacks show
    values of the work at hand.

    Args:
        settings: Level, and the names that may and secrets that must not appear; None stands for
            the defaults, until the settings are read.
    """
    level = logging.INFO if settings is None else getattr(logging, settings.log_level.upper())
    formatter = _Lines(_redaction(settings), for_people=sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Some loggers keep away from the root (billiard's does), and would print their text plainly.
    logging.lastResort = _last_resort(formatter)
    # SQLAlchemy would write down every statement for a level below this one.
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    # A record that cannot be formatted would be printed with its arguments.
    logging.raiseExceptions = False
    logging.captureWarnings(True)  # noqa: FBT003 - logging's own signature
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _hand_over,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # So that a second call of this, with the settings, holds for loggers in use.
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _say_end
    threading.excepthook = _say_thread_end
    sys.unraisablehook = _say_unraisable


def _last_resort(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(formatter)
    return handler


class _Lines(logging.Formatter):
    """Turns a record into the line that is written."""

    def __init__(self, redaction: Redaction, *, for_people: bool) -> None:
        super().__init__()
        self._redaction = redaction
        self._render: Any = (
            structlog.dev.ConsoleRenderer(timestamp_key="ts", sort_keys=False)
            if for_people
            else structlog.processors.JSONRenderer()
        )

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, _Fields):
            shown = self._redaction.ours(record.msg)
        else:
            moment = datetime.fromtimestamp(record.created, tz=UTC)
            ts = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
            shown = self._redaction.library(record, ts=ts)
        return self._redaction.text(str(self._render(None, "", shown)))


def _hand_over(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[_Fields], dict[str, Any]]:
    if fields.get("exc_info") is True:
        fields["exc_info"] = sys.exc_info()
    return (_Fields(fields),), {}


def _redaction(settings: Settings | None) -> Redaction:
    if settings is None:
        return Redaction()
    groups = [stream.group for stream in settings.streams.values()]
    return Redaction(
        names=[*settings.projects, *settings.accounts, *settings.streams, *groups],
        secrets=_secrets(settings),
    )


def _secrets(settings: Settings) -> Iterator[str]:
    """Yield the keys of all projects and the passwords of all addresses."""
    for project in settings.projects.values():
        if project.api_key is not None:
            yield project.api_key.get_secret_value()
    addresses = [settings.ledger_url, settings.ledger_admin_url, settings.redis_url]
    for address in [*addresses, *(stream.url for stream in settings.streams.values())]:
        password = None if address is None else urlsplit(address).password
        if password:
            yield password
            yield unquote(password)


def _say_end(
    kind: type[BaseException], _error: BaseException | None, _trace: TracebackType | None
) -> None:
    structlog.get_logger(__name__).critical("process_failed", error=kind)


def _say_thread_end(caught: threading.ExceptHookArgs) -> None:
    structlog.get_logger(__name__).critical("thread_failed", error=caught.exc_type)


def _say_unraisable(caught: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger(__name__).error("thread_failed", error=caught.exc_type)
