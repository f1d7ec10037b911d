"""The client of one MemOS project: a prepared call in, an outcome out, whatever happens between."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self, cast

import httpx

from memos_api.calls import Call, delete_call, list_call, read_call
from memos_api.cloud import CLOUD
from memos_api.departure import CURRENT, Departure, ResendRefusedError
from memos_api.outcomes import Answer, Outcome
from memos_api.readback import Listing, Sight
from memos_api.transport import build_transport, connect_trouble

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from memos_api.dialects import Dialect

__all__ = ["Call", "MemosClient", "Reply", "delete_call", "list_call", "read_call"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one call brought.

    Attributes:
        answer: The outcome.
        listing: Of a list or a search: the page, when the whole answer was well-formed.
        sight: Of a read call: what was seen of the id.
        seconds: From the call's departure to the last byte of the answer.
    """

    answer: Answer
    listing: Listing | None = None
    sight: Sight | None = None
    seconds: float


_USER_AGENT: Final = "expunge-memos-client"
_OF_A_BODY: Final = httpx.Headers({"Content-Type": "application/json"})
# That of deletions is always the same; a read by id has one of its own each time.
_FEW_URLS: Final = 16


class _BodyTooLargeError(Exception):
    """The answer is over the cap."""


class MemosClient:
    """An async context manager; one for each base URL and key, opened inside the event loop.

    Its repr shows neither the key nor the address.

    Attributes:
        dialect: Encodes the calls that this client may send.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        deadline_s: float = 30.0,
        in_flight: int = 64,
        dialect: Dialect = CLOUD,
        max_body_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Check the settings; nothing is opened yet.

        Args:
            base_url: Up to and with the version, for example `https://host/api/openmem/v1`; of a
                self-hosted server what goes before `/product`.
            api_key: The project's key; it goes into the Authorization header and nowhere else.
            deadline_s: For one call, from the wait for a connection to the last byte of the body.
            in_flight: Most calls on their way at once; further ones wait within their deadline.
            dialect: How its answers are read.
            max_body_bytes: Most bytes of an answer; longer ones are UNKNOWN. None takes the
                dialect's.
            tls: Another TLS context, for a private certificate authority.

        Raises:
            ValueError: The address or key cannot be used, or a bound is not positive.
        """
        self._base_url = _checked_base_url(base_url)
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ValueError(
                "The MemOS API key must be printable ASCII without spaces; check MEMOS_API_KEY."
            )
        self._max_body_bytes = dialect.most_body_bytes if max_body_bytes is None else max_body_bytes
        if deadline_s <= 0 or in_flight < 1 or self._max_body_bytes < 1:
            raise ValueError("Deadline, calls in flight and body cap must all be positive.")
        self._deadline_s = deadline_s
        self._in_flight = in_flight
        self.dialect = dialect
        self._tls = tls
        # The transport's and not each request's, which would put them together anew.
        self._headers = {
            "User-Agent": _USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": f"Token {api_key}",
        }
        self._url = lru_cache(maxsize=_FEW_URLS)(lambda path: httpx.URL(self._base_url + path))
        self._transport: httpx.AsyncBaseTransport | None = None

    def __repr__(self) -> str:
        """Show the bounds only."""
        return f"MemosClient(deadline_s={self._deadline_s}, in_flight={self._in_flight})"

    async def __aenter__(self) -> Self:
        """Open the connection pool on the running loop."""
        self._transport = build_transport(
            in_flight=self._in_flight, tls=self._tls, headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; doing so twice is harmless."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def send(
        self, call: Call, *, leaves: Callable[[], Awaitable[None]] | None = None
    ) -> Reply:
        """Send *call* once, and tell what came of it.

        Nothing that the network or the server does raises: it becomes an outcome. Nothing is ever
        sent a second time.

        Args:
            call: Encoded before.
            leaves: Awaited when the call has its connection and is about to be written to it, which
                is later than now when one has to be made first; not when it never gets one. The
                call departs when it returns. It may raise KeptBackError to keep the call from
                departing (outcome *not applied*, with its reason).

        Raises:
            RuntimeError: The client is not open.
            asyncio.CancelledError: The task was cancelled; the call may have been applied.
        """
        if self._transport is None:
            raise RuntimeError("The MemOS client is not open; use it with `async with`.")
        if not call.path:
            answer = _local(Outcome.REFUSED, "id_not_addressable")
            return Reply(answer=answer, sight=Sight.UNKNOWN, seconds=0.0)
        started = time.monotonic()
        departure = Departure(leaves, has_body=bool(call.body))
        token = CURRENT.set(departure)
        try:
            async with asyncio.timeout(self._deadline_s):
                status, headers, body = await self._exchange(self._transport, call)
        except TimeoutError:
            failure = _failed(departure, "deadline")
        except _BodyTooLargeError:
            failure = _local(Outcome.UNKNOWN, "body_over_cap")
        except ResendRefusedError:
            failure = _local(Outcome.UNKNOWN, "resend_refused")
        except Exception as error:  # noqa: BLE001  # an intent is on record: it gets an outcome
            if departure.kept_back is not None:
                failure = _local(Outcome.NOT_APPLIED, departure.kept_back)
            else:
                failure = _failed(departure, "no_answer", error)
        else:
            found = self.dialect.understand(call, http_status=status, headers=headers, body=body)
            return Reply(
                answer=found.answer,
                listing=found.listing,
                sight=found.sight,
                seconds=time.monotonic() - (departure.left_s or started),
            )
        finally:
            CURRENT.reset(token)
        return Reply(
            answer=failure,
            sight=Sight.UNKNOWN if call.kind == "read" else None,
            seconds=time.monotonic() - (departure.left_s or started),
        )

    async def _exchange(
        self, transport: httpx.AsyncBaseTransport, call: Call
    ) -> tuple[int, dict[str, str], bytes]:
        """Send and read to the end, at most the cap of raw bytes."""
        request = httpx.Request(
            call.method,
            self._url(call.path),
            headers=_OF_A_BODY if call.body else None,
            # Not as `content`, for which httpx would work out headers that aiohttp adds by itself.
            stream=httpx.ByteStream(call.body),
        )
        request.read()
        response = await transport.handle_async_request(request)
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            body = bytearray()
            async for chunk in stream:
                body += chunk
                if len(body) > self._max_body_bytes:
                    raise _BodyTooLargeError
        finally:
            await stream.aclose()
        return response.status_code, _headers_of(response), bytes(body)


def _headers_of(response: httpx.Response) -> dict[str, str]:
    """Give the answer's headers by their names in small letters; of one given twice both values."""
    found: dict[str, str] = {}
    for name, value in response.headers.raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _checked_base_url(base_url: str) -> str:
    trouble = (
        "The MemOS base URL must be http(s)://host/path without login, query or fragment; "
        "check MEMOS_BASE_URL."
    )
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise ValueError(trouble) from None
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        raise ValueError(trouble)
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        raise ValueError(trouble)
    return str(url).rstrip("/")


def _local(outcome: Outcome, reason: str) -> Answer:
    return Answer(outcome=outcome, code=None, http_status=None, retry_after_s=None, reason=reason)


def _failed(departure: Departure, reason: str, error: Exception | None = None) -> Answer:
    if departure.surely_not_sent:
        return _local(
            Outcome.NOT_APPLIED,
            "connect_deadline" if reason == "deadline" else connect_trouble(error),
        )
    return _local(Outcome.UNKNOWN, reason)
