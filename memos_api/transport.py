"""The one place that builds an HTTP transport (figures in `docs/adr/0004-http-transport.md`)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from memos_api.departure import trace_departures

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["KEEP_ALIVE_S", "build_transport", "connect_trouble", "tls_context"]

KEEP_ALIVE_S = 4.0
"""Idle seconds until we drop a connection: below the 5 s of uvicorn, the shortest of the common
servers, so that it is rarely the server that hangs up on a call just leaving."""


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Give the process's one TLS context: certificates and host names are checked.

    Making one costs tens of milliseconds and megabytes, so all clients share it.
    """
    return httpx.create_ssl_context(verify=True, trust_env=False)


def connect_trouble(error: BaseException | None) -> str:
    """Say in a word why a connection was not made: `dns`, `tls` or, for all else, `connect`.

    The first two last until a person mends a name or a certificate, the third may pass.
    """
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return "dns"
        if isinstance(error, aiohttp.ClientSSLError):
            return "tls"
        error = error.__cause__
    return "connect"


def build_transport(
    *,
    in_flight: int,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.AsyncBaseTransport:
    """Build httpx' transport on aiohttp's connection pool, inside the running event loop.

    It keeps connections alive, and does nothing on its own: no redirects, no proxies or logins from
    the environment, no cookies, no decompression, no second sending, no time limits (the caller's
    deadline holds for all of a call).

    Args:
        in_flight: Most connections; further calls wait for one.
        tls: Another TLS context, for a private certificate authority.
        headers: Of every request; those of a request itself take their place.
    """
    context = tls or tls_context()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=in_flight, ssl=context, keepalive_timeout=KEEP_ALIVE_S
        ),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(),
        trace_configs=[trace_departures()],
    )
    # aiohttp sends a GET again when a kept-alive connection breaks. Each departure needs a slot of
    # its own, so that is off; there is no public switch. `Departure.take_connection` stops what a
    # later version may do under another name, and a test on a real socket watches both.
    session._retry_connection = False  # noqa: SLF001
    return AiohttpTransport(client=session, verify=context)
