"""Spans for those who want them; nothing of OpenTelemetry is imported while traces are off.

A span holds request ids, counts and code words, never a user id, a memory id or an address with an
id in it. An exception is named by its class: the SDK's own note of it would hold its text.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, Protocol

from ledger.errors import SettingsError
from ledger.settings import Settings, Traces

__all__ = [
    "Span",
    "configure_traces",
    "note_call",
    "require_traces",
    "span",
    "stop_traces",
]

Value = str | int | float | bool
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Span(Protocol):
    """A span under way."""

    def set(self, name: str, value: Value) -> None:
        """Add an attribute."""


class _NoSpan:
    def set(self, name: str, value: Value) -> None:
        """Do nothing."""


class _RealSpan:
    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - its type is not imported while off
        self._inner = inner

    def set(self, name: str, value: Value) -> None:
        self._inner.set_attribute(name, value)


class _Tracing:
    """This process's tracer, None while traces are off."""

    provider: Any = None
    tracer: Any = None


def require_traces(settings: Settings) -> None:
    """Make sure that spans can be made, if the settings want them; imports nothing.

    Raises:
        SettingsError: They are wanted, and the packages for it are not installed.
    """
    if settings.traces is Traces.OFF or all(map(_is_installed, _PACKAGES)):
        return
    msg = (
        "EXPUNGE_TRACES is `otlp`, and OpenTelemetry is not installed; "
        "run `pip install 'expunge[otel]'`, or unset EXPUNGE_TRACES."
    )
    raise SettingsError(msg)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def configure_traces(settings: Settings, *, service: str, exporter: object | None = None) -> None:
    """Start sending spans, if the settings say so; after a fork, not before it.

    Args:
        settings: `traces` decides; the exporter's own settings are OpenTelemetry's, in the
            environment (`OTEL_EXPORTER_OTLP_ENDPOINT` and others).
        service: Name of the process's kind, such as `expunge-worker`.
        exporter: Stands in for the OTLP exporter, and gets each span as it ends.

    Raises:
        SettingsError: Traces are wanted, and the packages for it are not installed.
    """
    if settings.traces is Traces.OFF or _Tracing.tracer is not None:
        return
    require_traces(settings)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only when on
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - only when on
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - only when on
        BatchSpanProcessor,
        SimpleSpanProcessor,
    )

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        one: Any = exporter
        provider.add_span_processor(SimpleSpanProcessor(one))
    _Tracing.provider = provider
    _Tracing.tracer = provider.get_tracer("expunge")


def stop_traces() -> None:
    """Send what is left, and stop."""
    provider, _Tracing.provider, _Tracing.tracer = _Tracing.provider, None, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(
    name: str,
    *,
    kind: Literal["internal", "consumer"] = "internal",
    links: Iterable[str | None] = (),
    attributes: Mapping[str, Value] | None = None,
) -> Iterator[Span]:
    """Open a span for the block; costs next to nothing while traces are off.

    Args:
        name: A constant, or one with the name of a stream.
        kind: `consumer` for what a queue's message started.
        links: W3C `traceparent` of the spans that led to this one, as far as somebody sent one.
        attributes: Counts, code words and request ids.
    """
    tracer = _Tracing.tracer
    if tracer is None:
        yield _NoSpan()
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only when on

    with tracer.start_as_current_span(
        name,
        kind=SpanKind[kind.upper()],
        links=_links(links),
        attributes=dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as inner:
        try:
            yield _RealSpan(inner)
        except BaseException as error:
            _mark_failed(inner, type(error).__name__)
            raise


def note_call(
    name: str,
    *,
    ended_ns: int,
    took_us: int,
    attributes: Mapping[str, Value],
    error: str | None = None,
) -> None:
    """Write a client span of a call that is over, so that none is made while a slot waits.

    Args:
        name: Method and path template, such as `POST /delete/memory`.
        ended_ns: When the answer was in, nanoseconds since 1970.
        took_us: Microseconds from its departure until then.
        attributes: Of OpenTelemetry's conventions for HTTP clients.
        error: A code word for what went wrong, if something did.
    """
    tracer = _Tracing.tracer
    if tracer is None:
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only when on

    started = tracer.start_span(
        name,
        kind=SpanKind.CLIENT,
        attributes=dict(attributes),
        start_time=ended_ns - took_us * 1_000,
    )
    if error is not None:
        _mark_failed(started, error)
    started.end(ended_ns)


def _mark_failed(inner: Any, error: str) -> None:  # noqa: ANN401 - as above
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only when on

    inner.set_attribute("error.type", error)
    inner.set_status(StatusCode.ERROR)


def _links(traceparents: Iterable[str | None]) -> list[Any]:
    from opentelemetry.trace import Link, SpanContext, TraceFlags  # noqa: PLC0415 - only when on

    contexts = [
        SpanContext(
            trace_id=int(match[1], 16),
            span_id=int(match[2], 16),
            is_remote=True,
            trace_flags=TraceFlags(int(match[3], 16)),
        )
        for one in traceparents
        if (match := _TRACEPARENT.fullmatch(one or ""))
    ]
    return [Link(context) for context in contexts if context.is_valid]
