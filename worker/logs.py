"""Logs: one JSON object a line on stderr, for our events and for those of the libraries."""

import logging
import sys
import threading
from types import TracebackType
from typing import Final

import structlog

__all__ = ["configure_logs"]

_SHARED: Final = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
)


def configure_logs(level: int = logging.WARNING) -> None:
    """Send everything through one JSON renderer.

    Exceptions are named by class only: tracebacks show values of the work at hand. That goes for
    those that nobody catches too, and for warnings.

    Args:
        level: Least level that is shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _error_by_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[
            *_SHARED,
            _error_by_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)  # noqa: FBT003 - logging's own signature
    sys.excepthook = _say_end
    threading.excepthook = _say_thread_end


def _say_end(
    kind: type[BaseException], _error: BaseException | None, _trace: TracebackType | None
) -> None:
    structlog.get_logger(__name__).critical("process_failed", error=kind.__name__)


def _say_thread_end(caught: threading.ExceptHookArgs) -> None:
    structlog.get_logger(__name__).critical("thread_failed", error=caught.exc_type.__name__)


def _error_by_name(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    caught = fields.pop("exc_info", None)
    record = fields.get("_record")
    if record is not None:
        caught = caught or record.exc_info
        # The formatter would append the traceback by itself.
        record.exc_info = record.exc_text = record.stack_info = None
    if caught is True:
        caught = sys.exc_info()
    error = caught[1] if isinstance(caught, tuple) else caught
    if isinstance(error, BaseException):
        fields["error"] = type(error).__name__
    return fields
