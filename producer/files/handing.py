"""Hands the requests of a file in: small ones together, large ones as a stream, in their order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from ledger.errors import KeysError, LedgerError, RequestError
from ledger.model import Receipt
from producer.files.journal import MOST_REFUSED, Progress, Run
from producer.files.orders import Asked
from producer.files.rejects import Reject, RejectLog
from producer.many import SmallRequest
from producer.submit import Producer

__all__ = ["HandingIn"]

_REQUESTS_AT_ONCE: Final = 200
_IDS_AT_ONCE: Final = 10_000
# More than this goes alone, as a stream that takes no memory.
_MOST_SMALL: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    place: int
    asked: Asked
    ids: tuple[str, ...]


class HandingIn:
    """Takes requests one by one; `finish` hands in those that still wait."""

    def __init__(
        self,
        producer: Producer,
        *,
        name: str,
        rejects: RejectLog,
        on_receipt: Callable[[Receipt], None],
        run: Run | None,
    ) -> None:
        """Prepare.

        Args:
            producer: Open.
            name: Of the file, for messages.
            rejects: Takes the lines that the ledger refuses.
            on_receipt: Called for each request as soon as it is recorded.
            run: How far an earlier process has come; None when nobody keeps a journal.
        """
        self._producer = producer
        self._name = name
        self._rejects = rejects
        self._on_receipt = on_receipt
        self._run = run
        self._waiting: list[_Waiting] = []
        self._ids = 0
        self._place = 0
        before = Progress() if run is None else run.progress
        self._done = self._done_before = before.done
        self._refused = set(before.refused)
        self._last = before.last
        self.requests = before.requests
        # What was recorded before this process began is known by now.
        self.known = before.requests
        self._requested = before.requested
        self._unique = before.unique

    @property
    def progress(self) -> Progress:
        """What the ledger has confirmed."""
        return Progress(
            done=self._done,
            requests=self.requests,
            requested=self._requested,
            unique=self._unique,
            refused=tuple(sorted(self._refused)),
            last=self._last,
        )

    def take(self, asked: Asked) -> None:
        """Hand one in, now or with others.

        Raises:
            RequestError: The request cannot be accepted, and no line of its own can be blamed.
            LedgerError: The ledger did not confirm; the message says what to do. So does that of a
                KeysError: the pseudonym key in force is not here.
        """
        self._place += 1
        if self._place <= self._done_before and asked.line not in self._refused:
            return
        ids = iter(asked.ids)
        few = tuple(islice(ids, _MOST_SMALL + 1))
        if len(few) > _MOST_SMALL:
            self.flush()
            self._stream(asked, chain(few, ids))
            return
        self._waiting.append(_Waiting(place=self._place, asked=asked, ids=few))
        self._ids += len(few)
        if len(self._waiting) >= _REQUESTS_AT_ONCE or self._ids >= _IDS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand in what waits.

        Raises:
            RequestError: As `take`.
            LedgerError: As `take`.
        """
        waiting, self._waiting, self._ids = self._waiting, [], 0
        if not waiting:
            return
        small = [
            SmallRequest(
                kind=each.asked.kind,
                subject=each.asked.subject,
                memory_ids=each.ids,
                **each.asked.terms,
            )
            for each in waiting
        ]
        try:
            answers = self._producer.hand_in_many(small)
        except (LedgerError, KeysError) as error:
            raise self._stopped(error, waiting[0].asked, len(waiting)) from None
        for each, answer in zip(waiting, answers, strict=True):
            self._settle(each.place, each.asked, answer)
        self._note()

    def _stream(self, asked: Asked, ids: Iterator[str]) -> None:
        answer: Receipt | RequestError
        try:
            answer = self._producer.delete_memories(ids, user_id=asked.subject, **asked.terms)
        except RequestError as error:
            if asked.line is None:
                raise
            answer = error
        except (LedgerError, KeysError) as error:
            raise self._stopped(error, asked, 1) from None
        self._settle(self._place, asked, answer)
        self._note()

    def _settle(self, place: int, asked: Asked, answer: Receipt | RequestError) -> None:
        if isinstance(answer, Receipt):
            self.requests += 1
            self.known += answer.duplicate
            self._requested += answer.requested
            self._unique += answer.unique
            # A ledger that holds what was recorded just now holds all that was seen there before.
            # What was known already may be older than a backup that has nothing of this run.
            self._last = None if answer.duplicate else answer.id
            self._refused.discard(asked.line or 0)
            self._on_receipt(answer)
        elif asked.line is None:
            raise answer
        else:
            self._rejects.add(Reject(line=asked.line, reason=str(answer)))
            if len(self._refused) <= MOST_REFUSED:
                self._refused.add(asked.line)
        self._done = max(self._done, place)

    def _note(self) -> None:
        # With more refusals than a journal keeps, the rest is handed in again and found by its
        # keys: of a line that was passed over, nobody would know that it had been refused.
        if self._run is not None and len(self._refused) <= MOST_REFUSED:
            self._run.advance(self.progress)

    def _stopped(
        self, error: LedgerError | KeysError, asked: Asked, waiting: int
    ) -> LedgerError | KeysError:
        msg = f"{error} Of {self._name}, {self.requests:,} requests are recorded"
        if self._run is not None:
            msg += "; the same command with --resume goes on from there and repeats nothing."
        elif asked.terms["idempotency_key"] is not None:
            msg += "; hand it in again: the same key keeps them from being recorded twice."
        else:
            unsure = f", and perhaps some of the next {waiting}" if waiting > 1 else ""
            msg += f"{unsure}. They have no idempotency key: handed in again, they are new ones."
        return type(error)(msg)
