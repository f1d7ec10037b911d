"""What one memory looks like in an answer, in either dialect."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from memos_api.simulator.lies import Lie
from memos_api.simulator.memory import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memos_api.simulator.memory import Memory
    from memos_api.simulator.state import Project

__all__ = [
    "VIEWS",
    "another",
    "cloud_document",
    "cloud_item",
    "drop_an_id",
    "self_hosted_item",
    "text_of",
    "utc",
]

VIEWS = ("detail_factual", "preference", "tool_memory", "skill", "profile", "event")
"""What the Cloud calls the categories in requests and items."""

_TYPES = (
    "LongTermMemory",
    "PreferenceMemory",
    "ToolSchemaMemory",
    "SkillMemory",
    "UserMemory",
    "LongTermMemory",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ELSEWHERE = timezone(timedelta(hours=8))


def utc(epoch_ms: int) -> datetime:
    """Turn epoch milliseconds into a date.

    Raises:
        OverflowError: No date is so far away.
    """
    return _EPOCH + timedelta(milliseconds=epoch_ms)


def text_of(memory: Memory) -> str:
    """Give its text, which a search looks in."""
    return f"made-up {CATEGORIES[memory.category]} of minute {memory.created_ms // 60_000}"


def cloud_item(memory: Memory, lies: Sequence[Lie]) -> dict[str, object]:
    """Give an item of a list or a search of the Cloud, with create_time in epoch milliseconds."""
    item = _cloud(memory, lies)
    return item | _times(memory, "create_time", "update_time", memory.created_ms, lies)


def cloud_document(memory: Memory, lies: Sequence[Lie]) -> dict[str, object]:
    """Give what the Cloud answers to a by-id read, with created_at as ISO 8601."""
    item = _cloud(memory, lies)
    return item | _times(memory, "created_at", "updated_at", _iso_z(memory), lies)


def self_hosted_item(memory: Memory, lies: Sequence[Lie]) -> dict[str, object]:
    """Give a memory of a self-hosted server, in lists, searches and by-id reads."""
    kind, name = memory.owner
    metadata: dict[str, object] = {"memory_type": _TYPES[memory.category], "status": memory.status}
    if Lie.OMITS_OWNER not in lies:
        metadata["user_id"] = name if kind == "user" else None
    metadata |= _times(memory, "created_at", "updated_at", utc(memory.created_ms).isoformat(), lies)
    return {"id": memory.id, "memory": text_of(memory), "metadata": metadata}


def another(project: Project, memory: Memory) -> Memory:
    """Give some other memory that is there, or one made up when there is none."""
    others = (one for held in project.owners.values() for one in held.values())
    made_up = replace(memory, id=f"{memory.id}-other")
    return next((one for one in others if one.id != memory.id), made_up)


def drop_an_id(lists: Iterable[list[dict[str, object]]]) -> None:
    """Take the id out of the first item there is."""
    for items in lists:
        if items:
            del items[0]["id"]
            return


def _cloud(memory: Memory, lies: Sequence[Lie]) -> dict[str, object]:
    kind, name = memory.owner
    item: dict[str, object] = {
        "id": memory.id,
        "memory_view": VIEWS[memory.category],
        "title": "made-up memory",
        "content": text_of(memory),
        "status": memory.status,
        "tags": [],
        "info": {},
    }
    if Lie.OMITS_OWNER not in lies:
        item["user_id"] = name if kind == "user" else None
        item["agent_id"] = name if kind == "agent" else None
    return item


def _times(
    memory: Memory, created: str, updated: str, plain: object, lies: Sequence[Lie]
) -> dict[str, object]:
    if Lie.NO_TIMES in lies:
        return {}
    if Lie.MIXED_TIMES in lies:
        forms: tuple[object, ...] = (
            memory.created_ms,
            memory.created_ms // 1_000,
            _iso_z(memory),
            utc(memory.created_ms).astimezone(_ELSEWHERE).isoformat(),
            str(memory.created_ms),
        )
        plain = forms[memory.number % len(forms)]
    return {created: plain, updated: plain}


def _iso_z(memory: Memory) -> str:
    return utc(memory.created_ms).isoformat().replace("+00:00", "Z")
