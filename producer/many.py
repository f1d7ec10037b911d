"""One of many small requests that are handed in together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger.projects import DEFAULT_NAME
from ledger.states import Kind, Lane

__all__ = ["SmallRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallRequest:
    """One request as `Producer.hand_in_many` takes it.

    Attributes:
        kind: What is ordered.
        subject: For purges the user or agent id; for memories the user whose they are, or None.
        memory_ids: For memories the ids, at least one; for purges none.
        project: Name of a configured project.
        lane: As in `Producer.delete_memories`, like all that follow but the last two.
        verify: As there.
        reason: As there.
        idempotency_key: As there.
        submitted_at: As there.
        due_at: As there.
        not_before: As there.
        include_later: As in `Producer.purge_user`.
        principal: Who hands it in: a short code, at most 64 letters, digits and `._:-`.
        traceparent: W3C trace context of the sender; kept beside the request.
    """

    kind: Kind
    subject: str | None = None
    memory_ids: Sequence[str] = ()
    project: str = DEFAULT_NAME
    lane: Lane | str | None = None
    verify: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    submitted_at: datetime | None = None
    due_at: datetime | None = None
    not_before: datetime | None = None
    include_later: bool = False
    principal: str = "local"
    traceparent: str | None = None

    def __repr__(self) -> str:
        """Leave out everything that may name a person."""
        return f"SmallRequest(project={self.project!r}, kind={self.kind.value!r})"
