"""Which endpoint of which dialect a request is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

__all__ = ["BASE_PATH", "Action", "Dialect", "Route", "find_route"]

BASE_PATH = "/api/openmem/v1"
"""Of the Cloud; a self-hosted server has none."""

Dialect: TypeAlias = Literal["cloud", "self_hosted"]
Action: TypeAlias = Literal["delete", "list", "read", "read_many", "search", "health", "other"]

_SELF_HOSTED = "/product/"
_FIXED: dict[tuple[str, str], tuple[Dialect, Action]] = {
    ("POST", f"{BASE_PATH}/delete/memory"): ("cloud", "delete"),
    ("POST", f"{BASE_PATH}/get/memory"): ("cloud", "list"),
    ("POST", f"{BASE_PATH}/search/memory"): ("cloud", "search"),
    ("POST", f"{_SELF_HOSTED}delete_memory"): ("self_hosted", "delete"),
    ("POST", f"{_SELF_HOSTED}get_memory"): ("self_hosted", "list"),
    ("POST", f"{_SELF_HOSTED}get_memory_by_ids"): ("self_hosted", "read_many"),
    ("POST", f"{_SELF_HOSTED}search"): ("self_hosted", "search"),
    ("GET", "/health"): ("self_hosted", "health"),
}
_CLOUD_READ = f"{BASE_PATH}/get/memory/"
_SELF_HOSTED_READ = f"{_SELF_HOSTED}get_memory/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a request leads.

    Attributes:
        dialect: Whose rules apply.
        action: What is asked; `other` is a path that nobody knows.
        memory_id: Of a read by id.
    """

    dialect: Dialect
    action: Action
    memory_id: str = ""

    @property
    def endpoint(self) -> str:
        """What the journal and faults call it."""
        return "read" if self.action == "read_many" else self.action


def find_route(method: str, path: str) -> Route:
    """Find the route of a method and a raw path, that is, with its percent signs."""
    fixed = _FIXED.get((method, path))
    if fixed is not None:
        return Route(dialect=fixed[0], action=fixed[1])
    if method == "GET" and path.startswith(_CLOUD_READ):
        segment = path[len(_CLOUD_READ) :]
        # The raw path, for the decoded one can't tell `/` in an id from the end of it.
        if "/" not in segment:
            return Route(dialect="cloud", action="read", memory_id=_decoded(segment))
    if method == "GET" and path.startswith(_SELF_HOSTED_READ):
        memory_id = _decoded(path[len(_SELF_HOSTED_READ) :])
        # That server decodes the path first, so an id with `/` is a path that it does not know.
        if memory_id and "/" not in memory_id:
            return Route(dialect="self_hosted", action="read", memory_id=memory_id)
    dialect: Dialect = "self_hosted" if path.startswith(_SELF_HOSTED) else "cloud"
    return Route(dialect=dialect, action="other")


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "replace")
