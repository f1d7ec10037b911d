"""What may be ordered from `delete/memory`: one kind a class, so that none can turn into another.

Source: the Cloud takes exactly one of `memory_ids`, `user_id`, `agent_id`. MemOS' own client turns
an empty batch beside a user id into a purge of that user; here an empty batch cannot exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["AgentPurge", "DeleteOrder", "MemoryBatch", "Owner", "UserPurge", "check_id"]


def check_id(value: object, what: str) -> None:
    """Raise ValueError unless *value* is a non-empty string that UTF-8 can carry.

    Ids are opaque: nothing is trimmed, folded or normalised. The message never holds the value.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(
            f"Each {what} must be a non-empty string; check what the order was made of."
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # Half of a surrogate pair: no JSON peer agrees on what it is, so it can't name a memory.
        raise ValueError(
            f"A {what} holds half of a surrogate pair, which UTF-8 cannot carry; read the source "
            "of the ids with its right encoding.",
        ) from None


def _all_usable(ids: tuple[str, ...]) -> bool:
    """Say of a whole batch in one go what `check_id` says of one id."""
    try:
        "".join(ids).encode("utf-8")
    except (TypeError, UnicodeEncodeError):
        return False
    return all(ids)


@dataclass(frozen=True, kw_only=True)
class MemoryBatch:
    """Delete these memories, whoever owns them.

    Raises:
        ValueError: The batch is empty or not a tuple, or an id is not a non-empty UTF-8 string.
    """

    memory_ids: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse at birth what could be taken for another order."""
        given: object = self.memory_ids  # callers' annotations are not proof
        if not isinstance(given, tuple) or not given:
            raise ValueError("A batch needs a tuple of at least one memory id; nothing was sent.")
        if not _all_usable(self.memory_ids):
            for memory_id in self.memory_ids:
                check_id(memory_id, "memory id")


@dataclass(frozen=True, kw_only=True)
class UserPurge:
    """Delete all that is kept of one user in the project of the API key.

    Raises:
        ValueError: The user id is not a non-empty UTF-8 string.
    """

    user_id: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse an empty user id."""
        check_id(self.user_id, "user id")


@dataclass(frozen=True, kw_only=True)
class AgentPurge:
    """Delete all that is kept of one agent (projects with independent agent memory only).

    Raises:
        ValueError: The agent id is not a non-empty UTF-8 string.
    """

    agent_id: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse an empty agent id."""
        check_id(self.agent_id, "agent id")


Owner: TypeAlias = tuple[Literal["user", "agent"], str]
"""Whose memories: a user's or an agent's, and the id."""

DeleteOrder: TypeAlias = MemoryBatch | UserPurge | AgentPurge
