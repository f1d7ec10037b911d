"""From an answer to what is recorded: pure, one page, the whole policy of the way out.

Answers that say nothing about the work (rate, key, quota, no connection) stop the account or the
project and never use up the work's attempts; nor does a trial that fails while MemOS is away.
Answers that leave it open whether the call was applied make the work doubtful: a "not found" later
on then proves nothing about single ids.
"""

from collections.abc import Callable
from typing import Final

from ledger.states import Sight as Seeing
from ledger.tasks import (
    Dead,
    Delivered,
    Move,
    Probe,
    Retry,
    Seen,
    Settlement,
    Split,
    Task,
)
from memos_api import CLOUD, Answer, Dialect, Outcome, Reply, Sight
from worker.backoff import pause_s, retry_s
from worker.walk import gave_up, took

__all__ = ["QUOTA_PAUSE_S", "judge"]

# A quota is gone for hours; the account looks again after each of these, doubled by strikes.
QUOTA_PAUSE_S: Final = 60.0
_MOST_QUOTA_PAUSE_S: Final = 3_600.0
_SAYS_NO: Final = frozenset({"status_failure"})
_SERVER_ERROR: Final = 500
_SERVER_CODE: Final = 50_000
_SILENCE: Final = frozenset({"deadline", "no_answer", "html"})
_SIGHTS: Final = {Sight.ABSENT: Seeing.ABSENT, Sight.PRESENT: Seeing.PRESENT}
_STOPS: Final = frozenset(
    {Outcome.BACK_OFF, Outcome.PAUSE_PROJECT, Outcome.PAUSE_ACCOUNT, Outcome.NOT_APPLIED}
)


def judge(
    task: Task,
    reply: Reply,
    *,
    dialect: Dialect = CLOUD,
    max_attempts: int,
    chance: Callable[[], float],
) -> Settlement:
    """Decide what one answer means for one task.

    Args:
        task: What was asked.
        reply: What came back.
        dialect: Of the server that was asked.
        max_attempts: Calls that may count against the work before it is given up.
        chance: Gives a number from 0 up to 1, for jitter.
    """
    answer = reply.answer
    # A Retry-After of 0 names no time, and the account would knock on at its full rate.
    pause_account: float | None = answer.retry_after_s or None
    pause_project: str | None = None
    if answer.outcome is Outcome.BACK_OFF and not pause_account:
        pause_account = pause_s(task.strikes, chance=chance)
    elif answer.outcome is Outcome.PAUSE_ACCOUNT:
        quota_s = min(_MOST_QUOTA_PAUSE_S, QUOTA_PAUSE_S * 2.0 ** min(task.strikes, 10))
        pause_account = max(quota_s, pause_account or 0.0)
    elif answer.outcome is Outcome.PAUSE_PROJECT:
        pause_project = answer.reason
    move: Move
    if answer.outcome in _STOPS:
        move = Retry(delay_s=0.0, burn=False)
    elif task.call == "delete":
        move = _after_delete(task, answer, max_attempts, chance)
    else:
        move = _after_look(task, reply, dialect, max_attempts, chance)
    outage = _is_outage(answer)
    if outage and task.trial:
        # It was sent to see whether MemOS is back, and says nothing about the work.
        doubtful = task.call == "delete" and answer.outcome is Outcome.UNKNOWN
        delay = retry_s(task.burnt, chance=chance)
        move = Retry(delay_s=delay, burn=False, doubtful=doubtful)
    return Settlement(
        task=task,
        move=move,
        outcome=answer.outcome.value,
        reason=answer.reason,
        code=answer.code,
        http_status=answer.http_status,
        took_us=int(reply.seconds * 1_000_000),
        pause_account_s=pause_account,
        pause_project=pause_project,
        outage=outage,
    )


def _is_outage(answer: Answer) -> bool:
    """Say whether the server, or the way to it, is the trouble rather than this call."""
    return answer.outcome is Outcome.NOT_APPLIED or (
        answer.outcome is Outcome.UNKNOWN
        and (
            (answer.http_status or 0) >= _SERVER_ERROR
            or (answer.code or 0) >= _SERVER_CODE
            or answer.reason in _SILENCE
        )
    )


def _after_delete(  # noqa: PLR0911 - a table of outcomes, a return each
    task: Task, answer: Answer, max_attempts: int, chance: Callable[[], float]
) -> Move:
    last = task.burnt + 1 >= max_attempts
    batch = task.n > 1
    match answer.outcome:
        case Outcome.ACKNOWLEDGED:
            return Delivered()
        case Outcome.NOT_FOUND:
            if not batch:
                return Delivered(was_absent=True)
            return _after_not_found(task)
        case Outcome.REFUSED:
            if batch:
                return Split(hunt=not task.leftover)
            # An undocumented refusal gets one more try.
            return Dead(bucket="refused") if task.burnt else Retry(delay_s=1.0, burn=True)
        case Outcome.TOO_LARGE:
            return Split(hunt=False) if batch else Dead(bucket="refused")
        case Outcome.PERMANENT:
            return Dead(bucket="refused")
        case _:
            # Some answers are given whether it deleted or not, and again each time: look instead.
            if last or answer.reason in _SAYS_NO:
                return Dead(bucket="unknown")
            delay = retry_s(task.burnt, chance=chance)
            return Retry(delay_s=delay, burn=True, doubtful=True)


def _after_not_found(task: Task) -> Move:
    """Say what follows when one of several ids is not there."""
    if task.leftover:
        # The purge's list is read again in any case, and shows which of them are left.
        return Delivered()
    return Probe() if task.doubtful else Split()


def _after_look(
    task: Task, reply: Reply, dialect: Dialect, max_attempts: int, chance: Callable[[], float]
) -> Move:
    if task.call == "read" and reply.sight in _SIGHTS:
        return Seen(sight=_SIGHTS[reply.sight])
    if task.control and (reply.listing is not None or reply.answer.outcome is Outcome.NOT_FOUND):
        return Seen(sight=Seeing.ABSENT)
    if task.call == "list" and reply.listing is not None:
        return took(task, reply.listing, dialect)
    if task.burnt + 1 < max_attempts:
        return Retry(delay_s=retry_s(task.burnt, chance=chance), burn=True)
    if task.call == "list" and not task.control:
        return gave_up(task, dialect)
    return Seen(sight=Seeing.UNKNOWN)
