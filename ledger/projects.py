"""Projects and accounts: whose key, which base URL, and who shares a rate limit."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from ledger.errors import RequestError
from ledger.policy import parse_verify
from ledger.states import Lane

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_NAME",
    "Account",
    "Dialect",
    "Project",
    "check_base_url",
    "check_name",
    "check_verify",
]

DEFAULT_NAME: Final = "default"
DEFAULT_BASE_URL: Final = "https://memos.memtensor.cn/api/openmem/v1"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class Dialect(StrEnum):
    """MemOS's two contracts."""

    CLOUD = "cloud"
    SELF_HOSTED = "self_hosted"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Projects that share one rate limit and quota at MemOS.

    Attributes:
        name: What the ledger and `[accounts.NAME]` call it.
        rate_per_second: Calls that may depart in any second, 0.1 to 5,000; fractions allowed.
    """

    name: str
    rate_per_second: float


@dataclass(frozen=True, kw_only=True)
class Project:
    """One MemOS project, that is one API key at one base URL.

    Attributes:
        name: What requests and `[projects.NAME]` call it.
        account: Name of the account whose rate limit it shares.
        base_url: As in `https://host/api/openmem/v1`, without a slash at its end.
        api_key: None where nobody calls MemOS, as on a machine that only hands in requests.
        dialect: Which of MemOS's contracts is spoken.
        cubes: Of a self-hosted MemOS: the memory cubes to look into, at least one.
        search: Whether a search is part of each look at what a user or agent has left; None leaves
            it to the dialect: yes for a self-hosted MemOS, no for the Cloud, whose searches count
            against a quota.
        missing_is_empty: Whether a category that MemOS leaves out of a list is taken for empty.
            Else nothing is known of it, and nothing is called gone.
        lane: Lane of its requests that name none; None leaves it to the kind of request.
        verify: Read-back policy of its requests that name none; None leaves it to `EXPUNGE_VERIFY`.
        max_ids_per_request: Ids of one request of it beyond which it waits on hold; None leaves it
            to `EXPUNGE_MAX_IDS_PER_REQUEST`.
        max_purges_per_hour: Purges in an hour beyond which they wait on hold; None leaves it to
            `EXPUNGE_MAX_PURGES_PER_HOUR`.
        key_fault: Why the file with its key gives none. Only those who call MemOS mind: others
            share the config file, and shall not have the key.
    """

    name: str
    account: str
    base_url: str
    api_key: SecretStr | None
    dialect: Dialect = Dialect.CLOUD
    cubes: tuple[str, ...] = ()
    search: bool | None = None
    missing_is_empty: bool = False
    lane: Lane | None = None
    verify: str | None = None
    max_ids_per_request: int | None = None
    max_purges_per_hour: int | None = None
    key_fault: str | None = None


def check_name(name: str) -> str:
    """Give the name of a project or account back, or raise ValueError saying what it may hold."""
    if not _NAME.match(name):
        msg = "must hold 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit"
        raise ValueError(msg)
    return name


def check_base_url(url: str) -> str:
    """Give the URL back without slashes at its end, or raise ValueError that does not repeat it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host:
        msg = f"must be a web address such as {DEFAULT_BASE_URL}"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = "must not hold a user name or password; MemOS takes the key from MEMOS_API_KEY only"
        raise ValueError(msg)
    if parts.query or parts.fragment or any(mark.isspace() for mark in url):
        msg = "must not hold a blank, `?` or `#`; give the address that the endpoints' names follow"
        raise ValueError(msg)
    return url.rstrip("/")


def check_verify(policy: str) -> str:
    """Give a read-back policy back, or raise ValueError saying what it may be."""
    try:
        parse_verify(policy)
    except RequestError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return policy
