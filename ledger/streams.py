"""Streams: the queues that other services put their requests into, as the settings name them."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from ledger.projects import DEFAULT_NAME
from ledger.states import Kind

__all__ = ["DEFAULT_STREAM", "Stream", "check_stream_url"]

# In a ready-made stack, and in the documents' examples.
DEFAULT_STREAM: Final = "expunge-requests"
_SCHEMES: Final = ("redis", "rediss")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One Redis stream whose messages order deletions of one project.

    Whoever may write to it may order: give each sending service a stream of its own, and a user of
    Redis that may write to no other.

    Attributes:
        name: The stream's key in Redis, and `[streams."NAME"]` in the config file.
        project: Whose memories its messages delete.
        url: Redis server and database, `redis://` or `rediss://`; None is `EXPUNGE_REDIS_URL`.
        group: Consumer group; all bridges of one stream share it.
        kinds: What its messages may order; anything else is parked.
        principal: Who sends, for the record; None takes the stream's name as far as it is a code.
    """

    name: str
    project: str = DEFAULT_NAME
    url: str | None = field(default=None, repr=False)
    group: str = "expunge"
    kinds: frozenset[Kind] = frozenset(Kind)
    principal: str | None = None


def check_stream_url(url: str) -> tuple[str, str]:
    """Split `redis://host:port/db#stream` into the server's URL and the stream's name.

    Raises:
        ValueError: It is no such address; the message does not repeat it, it may hold a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in _SCHEMES or not host or not parts.fragment:
        msg = "must be server and stream, as in redis://127.0.0.1:6379/0#expunge-requests"
        raise ValueError(msg)
    return url.rpartition("#")[0], parts.fragment
