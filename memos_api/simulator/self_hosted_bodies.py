"""What a self-hosted server takes: a body of the wrong type is answered 422; extra members pass."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["is_deletion", "is_listing", "is_search", "is_texts", "mode_of"]

_TEXTS = ("user_id", "session_id", "conversation_id")
_LISTS = ("writable_cube_ids", "memory_ids", "file_ids")


def mode_of(body: dict[str, Any]) -> tuple[str, tuple[str, ...]] | str:
    """Give kind and names of what is to be deleted, or why nothing is."""
    ids, files, matching = body.get("memory_ids"), body.get("file_ids"), body.get("filter")
    quick = [body[name] for name in _TEXTS if body.get(name) is not None]
    if matching is not None and not matching and not quick:
        return "filter cannot be empty. Provide a non-empty filter or user_id/session_id."
    by_filter = bool(matching or quick)
    if (ids is not None) + (files is not None) + by_filter != 1:
        return (
            "Exactly one delete mode must be provided: "
            "memory_ids, file_ids, or filter/user_id/session_id."
        )
    if ids is not None:
        return "memories", tuple(ids)
    if files is not None:
        return "files", tuple(files)
    user = body.get("user_id")
    return ("filter", ()) if user is None else ("user", (user,))


def is_deletion(body: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether it is a body of `delete_memory`; all its members are optional."""
    if not isinstance(body, dict):
        return False
    session, alias = body.get("session_id"), body.get("conversation_id")
    return (
        all(body.get(name) is None or is_texts(body[name]) for name in _LISTS)
        and all(body.get(name) is None or isinstance(body[name], str) for name in _TEXTS)
        and isinstance(body.get("filter"), dict | None)
        and not (session and alias and session != alias)
    )


def is_listing(body: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether it is a body of `get_memory`; `mem_cube_id` has to be there."""
    return (
        isinstance(body, dict)
        and isinstance(body.get("mem_cube_id"), str)
        and isinstance(body.get("user_id"), str | None)
        and isinstance(body.get("filter"), dict | None)
        and all(isinstance(body.get(name), int | None) for name in ("page", "page_size"))
    )


def is_search(body: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether it is a body of `search`; `query` and `user_id` have to be there."""
    return (
        isinstance(body, dict)
        and isinstance(body.get("query"), str)
        and isinstance(body.get("user_id"), str)
        and isinstance(body.get("relativity", 0.0), int | float)
        and isinstance(body.get("top_k", 0), int)
        and (body.get("readable_cube_ids") is None or is_texts(body["readable_cube_ids"]))
    )


def is_texts(value: object) -> TypeGuard[list[str]]:
    """Tell whether it is a list of strings, perhaps empty."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
