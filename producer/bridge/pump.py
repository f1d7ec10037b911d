"""One stream's loop: receive, read, commit to the ledger, and only then confirm.

Whatever dies in between, the message comes again and the ledger knows it by its key. A ledger that
does not answer confirms nothing: the same messages are tried again until it does. Every step may be
done twice.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from ledger.errors import (
    ConflictError,
    DiskError,
    KeysError,
    LedgerError,
    RequestError,
    SchemaError,
    UnknownProjectError,
)
from ledger.many import REQUESTS_PER_TRANSACTION
from ledger.model import Receipt
from ledger.parked import UnusableMessage
from ledger.streams import Stream
from ledger.tracing import span
from producer.bridge import metrics
from producer.bridge.message import DeletionEvent, PoisonError, read_event
from producer.bridge.progress import StreamProgress, StreamState
from producer.bridge.reasons import Reason
from producer.bridge.source import IntakeSource, Message, Parked, SourceError
from producer.many import SmallRequest

__all__ = ["MOST_MESSAGES", "LedgerDesk", "Pump", "Stop"]

# As many as one transaction of the ledger takes.
MOST_MESSAGES: Final = REQUESTS_PER_TRANSACTION
BLOCK_S: Final = 0.5
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
LAG_EVERY_S: Final = 5.0
# One that fails by itself is handed out so often, each time after the source's claim time.
MOST_DELIVERIES: Final = 5

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Stop(Protocol):
    """Says when to end; a `threading.Event` is one."""

    def is_set(self) -> bool: ...  # noqa: D102
    def wait(self, timeout: float) -> bool: ...  # noqa: D102


class LedgerDesk(Protocol):
    """Where a pump hands in; both methods may be repeated after a LedgerError."""

    def hand_in_many(  # noqa: D102
        self, requests: Sequence[SmallRequest]
    ) -> Sequence[Receipt | RequestError]: ...
    def park_messages(self, messages: Sequence[UnusableMessage]) -> Sequence[str]: ...  # noqa: D102


class _StoppedError(Exception):
    """Stopped while something did not answer; what is not confirmed comes again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Poison:
    message: Message
    reason: Reason
    detail: str


class Pump:
    """Carries one stream's messages into the ledger, until told to stop."""

    def __init__(
        self,
        stream: Stream,
        source: IntakeSource,
        desk: LedgerDesk,
        *,
        stop: Stop,
        principal: str,
        broker: str = "redis",
        progress: StreamProgress | None = None,
        on_turn: Callable[[StreamProgress], object] | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            stream: Whose project its messages are about, and what they may order.
            source: The queue.
            desk: The ledger, as far as a pump needs it.
            stop: Says when to end.
            principal: Who hands in, for the record.
            broker: For metrics and parked messages.
            progress: Where to write down how it goes.
            on_turn: Called with that after each turn.
        """
        self._stream = stream
        self._source = source
        self._desk = desk
        self._stop = stop
        self._principal = principal
        self._broker = broker
        self.progress = progress or StreamProgress(stream.name)
        self._on_turn = on_turn
        self._lag_at = 0.0
        self.failed: DiskError | None = None
        self._failing = _Pauses()

    def run(self) -> None:
        """Go on until told to stop; only then returns, whatever happens meanwhile."""
        pauses = _Pauses()
        while not self._stop.is_set():
            try:
                with self._source.open():
                    while not self._stop.is_set():
                        self.turn()
                        pauses = _Pauses()
            except _StoppedError:
                break
            except SourceError as error:
                _log.warning("queue_waits", stream=self._stream.name, reason=error.fault)
                self._note(StreamState.WAITING_FOR_QUEUE)
            except Exception:  # noqa: BLE001 - the loop outlives whatever one turn has
                # What was received stays with the queue, and comes again.
                _log.exception("turn_failed", stream=self._stream.name)
                self._note(StreamState.WAITING_FOR_QUEUE)
            self._stop.wait(pauses.longer())
        self._note(StreamState.ENDED)

    def turn(self) -> int:
        """Take in one batch; gives how many messages it had.

        Raises:
            SourceError: The queue does not answer.
        """
        messages = self._source.receive(MOST_MESSAGES, BLOCK_S)
        if messages:
            if self._stop.is_set():
                # They stay with the queue: what is begun now may not be ended in time.
                raise _StoppedError
            self._take_in(messages)
        self._watch_lag()
        self._note(StreamState.READING)
        return len(messages)

    # -- a batch ----------------------------------------------------------------------------------

    def _take_in(self, messages: Sequence[Message]) -> None:
        good, bad = self._divided(messages)
        answers = self._hand_in([request for _, request in good]) if good else []
        taken: list[str] = []
        known = failed = 0
        kinds: Counter[str] = Counter()
        for (message, request), answer in zip(good, answers, strict=True):
            if isinstance(answer, Receipt):
                taken.append(message.position)
                known += answer.duplicate
                kinds[request.kind.value] += not answer.duplicate
            elif isinstance(answer, ConflictError):
                bad.append(_poison(message, Reason.CONFLICT))
            elif isinstance(answer, RequestError):
                bad.append(
                    _Poison(message=message, reason=Reason.WRONG_DATA, detail=f"In data: {answer}")
                )
            elif message.deliveries >= MOST_DELIVERIES:
                bad.append(_poison(message, Reason.UNREADABLE))
            else:
                failed += 1  # not confirmed: the source hands it out again after a while
        if taken:
            self._until_answered(lambda: self._source.ack(taken))
            self._count(known, kinds)
        if bad:
            self._park(bad)
        if failed:
            metrics.MESSAGES.labels(self._broker, self._stream.name, "failed").inc(failed)
        if failed < len(messages):
            self._failing = _Pauses()
        else:
            # Perhaps it is not the messages: the next ones are not used up in a hurry.
            self._wait(self._failing.longer(), StreamState.WAITING_FOR_LEDGER)

    def _divided(
        self, messages: Sequence[Message]
    ) -> tuple[list[tuple[Message, SmallRequest]], list[_Poison]]:
        """Tell orders from what is none."""
        good: list[tuple[Message, SmallRequest]] = []
        bad: list[_Poison] = []
        for message in messages:
            try:
                good.append((message, self._read(message)))
            except PoisonError as error:
                bad.append(_Poison(message=message, reason=error.reason, detail=error.detail))
            except Exception:  # noqa: BLE001 - one message never stops the others
                _log.exception("message_unreadable", stream=self._stream.name)
                bad.append(_poison(message, Reason.UNREADABLE))
        return good, bad

    def _read(self, message: Message) -> SmallRequest:
        if message.fault is not None:
            raise PoisonError(message.fault)
        event: DeletionEvent = read_event(message.body)
        fields = event.fields
        if fields.kind not in self._stream.kinds:
            raise PoisonError(Reason.KIND_NOT_ALLOWED)
        return SmallRequest(
            kind=fields.kind,
            subject=fields.subject,
            memory_ids=fields.memory_ids,
            project=self._stream.project,
            idempotency_key=event.key,
            principal=self._principal,
            traceparent=event.traceparent,
            **fields.terms,
        )

    def _hand_in(self, requests: Sequence[SmallRequest]) -> Sequence[Receipt | RequestError | None]:
        """Commit them; None for one that failed by itself in a way that nobody foresaw.

        Whatever comes out of the desk, rather than as its answer, says nothing about a message.
        """
        try:
            with span(
                f"process {self._stream.name}",
                kind="consumer",
                links=(each.traceparent for each in requests),
                attributes={
                    "messaging.system": self._broker,
                    "messaging.operation.type": "process",
                    "messaging.destination.name": self._stream.name,
                    "messaging.batch.message_count": len(requests),
                },
            ):
                return self._until_answered(lambda: self._answers(requests))
        except (_StoppedError, SourceError, MemoryError, OSError):
            raise
        except Exception as error:
            if self._stop.is_set():
                raise _StoppedError from error
            _log.exception("batch_failed", stream=self._stream.name, messages=len(requests))
            if len(requests) == 1:
                return [None]
            # One of them does it: the others shall not suffer.
            return [answer for each in requests for answer in self._hand_in([each])]

    def _answers(self, requests: Sequence[SmallRequest]) -> Sequence[Receipt | RequestError]:
        answers = self._desk.hand_in_many(requests)
        lost = next((each for each in answers if isinstance(each, UnknownProjectError)), None)
        if lost is not None:
            # The stream's settings name the project, no message does: this is to be waited for.
            raise LedgerError(str(lost))
        return answers

    def _park(self, bad: Sequence[_Poison]) -> None:
        messages = [
            UnusableMessage(
                broker=self._broker,
                stream=self._stream.name,
                position=each.message.position,
                reason=each.reason.value,
                detail=each.detail,
                body=each.message.body,
            )
            for each in bad
        ]
        ids = self._until_answered(lambda: self._desk.park_messages(messages))
        parked = [
            Parked(position=each.message.position, reference=reference, reason=each.reason.value)
            for each, reference in zip(bad, ids, strict=True)
        ]
        self._until_answered(lambda: self._source.park(parked))
        for one in parked:
            metrics.MESSAGES.labels(self._broker, self._stream.name, "invalid").inc()
            metrics.REJECTED.labels(self._stream.name, one.reason).inc()
            _log.warning(
                "message_parked",
                stream=self._stream.name,
                position=one.position,
                reason=Reason(one.reason),
                parked_id=one.reference,
            )

    # -- waiting and telling ----------------------------------------------------------------------

    def _until_answered(self, step: Callable[[], _T]) -> _T:
        """Do one step again and again until it is answered; nothing is let go meanwhile.

        Raises:
            _StoppedError: Told to stop before that.
        """
        pauses = _Pauses()
        while True:
            try:
                return step()
            except DiskError as error:
                # Whatever is handed in from here on is refused: the process has to start anew.
                self.failed = error
                raise _StoppedError from error
            except SchemaError as error:
                seconds = round(pauses.longer(), 1)
                _log.error(
                    "schema_mismatch",
                    stream=self._stream.name,
                    found=error.found,
                    needed=error.needed,
                    seconds=seconds,
                )
                self._wait(seconds, StreamState.WAITING_FOR_LEDGER)
            except (LedgerError, KeysError) as error:
                # A pseudonym key that came into force is read as soon as somebody brings it.
                seconds = round(pauses.longer(), 1)
                _log.warning("intake_waits", stream=self._stream.name, error=error, seconds=seconds)
                self._wait(seconds, StreamState.WAITING_FOR_LEDGER)
            except SourceError as error:
                seconds = round(pauses.longer(), 1)
                _log.warning(
                    "queue_waits", stream=self._stream.name, reason=error.fault, seconds=seconds
                )
                self._wait(seconds, StreamState.WAITING_FOR_QUEUE)

    def _wait(self, seconds: float, state: StreamState) -> None:
        self._note(state)
        if self._stop.wait(seconds):
            raise _StoppedError

    def _watch_lag(self) -> None:
        now = time.monotonic()
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_EVERY_S
        try:
            lag = self._source.lag()
        except SourceError:
            lag = None  # the next read says so, when the queue is gone altogether
        gauge = metrics.LAG.labels(self._broker, self._stream.name)
        gauge.set(float("nan") if lag is None else lag)

    def _count(self, known: int, kinds: Mapping[str, int]) -> None:
        name = self._stream.name
        metrics.MESSAGES.labels(self._broker, name, "duplicate").inc(known)
        metrics.MESSAGES.labels(self._broker, name, "accepted").inc(sum(kinds.values()))
        metrics.DEDUPLICATED.labels(name).inc(known)
        for kind, count in kinds.items():
            metrics.ACCEPTED.labels(name, kind).inc(count)

    def _note(self, state: StreamState) -> None:
        self.progress.turn(state)
        if self._on_turn is not None:
            self._on_turn(self.progress)


class _Pauses:
    """Growing pauses, each up to half as long again, so that many bridges do not come at once."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE_S

    def longer(self) -> float:
        pause, self._next = self._next, min(LONGEST_PAUSE_S, self._next * 2)
        return pause * random.uniform(1, 1.5)  # noqa: S311 - spreads retries only


def _poison(message: Message, reason: Reason) -> _Poison:
    return _Poison(message=message, reason=reason, detail=PoisonError(reason).detail)
