"""A MemOS in a dictionary that keeps a journal, and goes wrong when it is told to."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from ledger import Kind
from ledger.tasks import Task
from memos_api import CLOUD, Answer, Item, Listing, Outcome, Reply, Sight, classify
from memos_api.simulator.journal import CallRecord
from worker.walk import begun

__all__ = ["Memos", "Mood"]

_PAGE = 50


class Mood(StrEnum):
    """How one call goes."""

    WELL = "well"
    LOST_BEFORE = "lost_before"  # no answer, not applied
    LOST_AFTER = "lost_after"  # no answer, applied
    FAILED_AFTER = "failed_after"  # an error, applied
    DOWN = "down"  # an error, not applied
    AWAY = "away"  # never arrives
    BUSY = "busy"  # 429 with Retry-After
    BUSY_MUTE = "busy_mute"  # 429 without
    NO_KEY = "no_key"
    NO_QUOTA = "no_quota"
    REFUSED = "refused"  # undocumented refusal
    LIE = "lie"  # success without effect


def _said(status: int, code: int | None, headers: Mapping[str, str] | None = None) -> Answer:
    body = b"{}" if code is None else json.dumps({"code": code, "message": "m"}).encode()
    return classify(http_status=status, headers=headers or {}, body=body, now=_NOW)


def _silent(outcome: Outcome, reason: str) -> Answer:
    return Answer(outcome=outcome, code=None, http_status=None, retry_after_s=None, reason=reason)


_NOW = datetime(2027, 1, 15, tzinfo=UTC)
_ANSWERS = {
    Mood.LOST_BEFORE: _silent(Outcome.UNKNOWN, "no_answer"),
    Mood.LOST_AFTER: _silent(Outcome.UNKNOWN, "deadline"),
    Mood.AWAY: _silent(Outcome.NOT_APPLIED, "connect"),
    Mood.FAILED_AFTER: _said(200, 50000),
    Mood.DOWN: _said(503, None),
    Mood.BUSY: _said(429, None, {"retry-after": "2"}),
    Mood.BUSY_MUTE: _said(429, None),
    Mood.NO_KEY: _said(200, 40103),
    Mood.NO_QUOTA: _said(200, 40304),
    Mood.REFUSED: _said(200, 40000),
}
_APPLIED = frozenset({Mood.WELL, Mood.LOST_AFTER, Mood.FAILED_AFTER})
_GOOD = _said(200, 0)
_NOT_FOUND = _said(200, 40307)
_NO_MEMORY = _said(200, 40001)


class Memos:
    """What is there, by user, and every call that arrived.

    Args:
        seeded: Memory ids by user.
    """

    def __init__(self, seeded: Mapping[str, Sequence[str]]) -> None:
        self.seeded = seeded
        self.left = {one for ids in seeded.values() for one in ids}
        self.journal: list[CallRecord] = []

    def of(self, user: str | None) -> list[str]:
        """Give what is left of a user."""
        return [one for one in self.seeded.get(str(user), ()) if one in self.left]

    def answer(self, task: Task, mood: Mood, *, at_s: float) -> Reply:
        """Take one call at a moment of the campaign's clock."""
        if mood is Mood.AWAY:
            return Reply(answer=_ANSWERS[mood], seconds=0.0)
        record = CallRecord(seq=len(self.journal), at_s=at_s, endpoint=task.call, status=200)
        self.journal.append(record)
        if task.call == "delete":
            answer = self._delete(task, mood, record)
            if mood in _ANSWERS and answer is not _NOT_FOUND:
                answer = _ANSWERS[mood]
            record.code = answer.code
            return Reply(answer=answer, seconds=0.0)
        if mood in _ANSWERS:
            return Reply(answer=_ANSWERS[mood], sight=Sight.UNKNOWN, seconds=0.0)
        return self._look(task)

    def _delete(self, task: Task, mood: Mood, record: CallRecord) -> Answer:
        if mood not in _APPLIED and mood is not Mood.LIE:
            return _GOOD  # it was turned away before it was read
        purge = task.kind is not Kind.MEMORIES and not task.leftover
        named = [str(task.subject)] if purge else list(task.ids)
        record.kind = (task.kind if purge else Kind.MEMORIES).value
        record.ids, record.n_ids = tuple(named), len(named)
        found = self.of(task.subject) if purge else [one for one in named if one in self.left]
        if not purge and len(found) < len(named):
            # All or nothing; whoever hears no answer does not hear this one either.
            return _ANSWERS.get(mood, _NOT_FOUND)
        if mood is not Mood.LIE:
            self.left -= set(found)
            record.applied = len(found)
        return _GOOD

    def _look(self, task: Task) -> Reply:
        if task.call == "read":
            there = task.ids[0] in self.left
            sight = Sight.PRESENT if there else Sight.ABSENT
            return Reply(answer=_GOOD if there else _NO_MEMORY, sight=sight, seconds=0.0)
        held = [] if task.control else self.of(task.subject)
        first = (begun(task, CLOUD).page - 1) * _PAGE
        shown = held[first : first + _PAGE]
        page = Listing(
            items=tuple(Item(id=one, owned=True, created_us=None) for one in shown),
            ids=frozenset(shown),
        )
        return Reply(answer=_GOOD, listing=page, seconds=0.0)
