"""The Python way in: a request is recorded in the ledger, then the bell is rung."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from ledger.crash_points import arm
from ledger.errors import ExpungeError, KeysError, LedgerError, RequestError, UnknownProjectError
from ledger.keys import Keys
from ledger.model import Order, Receipt, RequestView
from ledger.projects import Dialect
from ledger.settings import Settings, load_settings
from ledger.states import FINAL_REQUEST_STATES, Kind, Lane
from ledger.tracing import span
from producer.bell import Bell, DoorBell
from producer.many import SmallRequest
from producer.store import Intaking, Store

__all__ = ["Producer", "WaitTimeoutError"]

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_GROWTH: Final = 1.5


class WaitTimeoutError(ExpungeError, TimeoutError):
    """The time to wait is over and the request is still under way; nothing was lost."""

    exit_code = 7


class Producer:
    """Hands deletion requests in, and tells how far they are.

    Use it as a context manager; it opens the ledger on entry and closes it at the end. Each request
    is committed before its method returns: from then on the workers carry it out, whatever happens
    to this process. Redis being down or frozen delays nothing here (at most 250 ms at the end).

    One producer may be shared by threads that hand in whole requests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
        bell: Bell | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: Where ledger, keys and Redis are, and which projects there are.
            store: An open ledger to use instead of the one that the settings name.
            bell: What to ring after a commit; None takes the doorbell at `EXPUNGE_REDIS_URL`.
            sleep: Waits so many seconds.
            monotonic: A clock in seconds.
        """
        self._settings = settings
        self._given = store
        self._store: Store | None = None
        self._bell = bell or DoorBell(settings.redis_url)
        self._sleep = sleep
        self._monotonic = monotonic

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Make one from settings; None reads environment, secret files and config file.

        Raises:
            SettingsError: A setting is missing, wrong or contradicts another one.
        """
        return cls(settings or load_settings())

    def __enter__(self) -> Self:
        """Open the ledger.

        Raises:
            KeysError: A key is missing; `expunge keys init` makes them.
            LedgerError: The ledger cannot be reached; SchemaError when it has to be migrated first.
        """
        self._bell.start()
        arm(self._settings.crash_points, home=self._settings.home)
        store = self._given
        if store is None:
            # Imported here: SQLAlchemy takes its time, and those who only look at help need none.
            from ledger import Ledger  # noqa: PLC0415

            keys = Keys.load(self._settings.keys_dir)
            store = Ledger.open(self._settings.ledger_url, keys=keys)
        self._store = store
        try:
            self._register(store)
        except BaseException:
            self._close_store()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the ledger; a ring under way gets at most 250 ms."""
        self._close_store()
        self._bell.close()

    @property
    def settings(self) -> Settings:
        """The settings it was made with."""
        return self._settings

    def delete_memories(
        self,
        ids: Iterable[str],
        *,
        project: str = "default",
        user_id: str | None = None,
        lane: Lane | str | None = None,
        verify: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
        submitted_at: datetime | None = None,
        due_at: datetime | None = None,
        not_before: datetime | None = None,
    ) -> Receipt:
        """Order the deletion of memories by id. Streams: ten million ids take no more memory.

        Args:
            ids: Memory ids, each 1 to 256 bytes of UTF-8, kept byte for byte; any iterable but a
                single string. Repeats are folded. An empty one is refused, never taken for "all".
            project: Name of a configured project.
            user_id: Whose ids they are, when known: then the read-back asks for that user's list,
                which costs a call where reading ids one by one costs many. It never widens the
                order to the user's other memories.
            lane: `erasure` or `bulk`; None means bulk, or what the project says.
            verify: `full`, `sample:N` or `none`; None takes the project's policy, then
                `EXPUNGE_VERIFY`, then full when `user_id` is given and `sample:50` else.
            reason: A short code such as `gdpr-17`, at most 64 of letters, digits and `._:-`.
            idempotency_key: 1 to 200 characters. Handing in the same request under the same key
                again gives the first one's receipt, for ever. Only an HMAC of it is stored.
            submitted_at: When the person asked, with time zone; None means now.
            due_at: When it must be done, with time zone; None means a calendar month after
                `submitted_at` in the erasure lane, and no date in bulk.
            not_before: No call is made before this moment, with time zone.

        Returns:
            The receipt, once everything is committed.

        Raises:
            RequestError: An id, or another argument, cannot be accepted; the message names the
                position and never the id. Nothing of the request will be carried out.
            ConflictError: The idempotency key is that of another request.
            LedgerError: The ledger did not confirm. With an idempotency key, hand in again.
        """
        if isinstance(ids, str | bytes | bytearray):
            msg = "The memory ids are one piece of text; give a list of ids, such as [that_id]."
            raise RequestError(msg)
        numbered = iter(ids)
        first = list(itertools.islice(numbered, 1))
        if not first:
            msg = "The batch holds no memory id; an empty batch is refused and nothing was written."
            raise RequestError(msg)
        order = self._order(
            project=project,
            kind=Kind.MEMORIES,
            subject=user_id,
            lane=lane,
            verify=verify,
            reason=reason,
            idempotency_key=idempotency_key,
            submitted_at=submitted_at,
            due_at=due_at,
            not_before=not_before,
        )
        return self._hand_in(order, itertools.chain(first, numbered))

    def purge_user(
        self,
        user_id: str,
        *,
        project: str = "default",
        lane: Lane | str | None = None,
        verify: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
        submitted_at: datetime | None = None,
        due_at: datetime | None = None,
        not_before: datetime | None = None,
        include_later: bool = False,
    ) -> Receipt:
        """Order the deletion of every memory of one user in one project.

        Args:
            user_id: 1 to 100 characters, kept byte for byte.
            project: Name of a configured project.
            lane: As in `delete_memories`; None means erasure, or what the project says.
            verify: As in `delete_memories`; None means full, or what project or settings say.
            reason: As in `delete_memories`.
            idempotency_key: As in `delete_memories`.
            submitted_at: As in `delete_memories`.
            due_at: As in `delete_memories`.
            not_before: As in `delete_memories`.
            include_later: What appears after this call, and before the read-back, goes too. Else
                such memories are counted and left.

        Raises:
            RequestError: The user id, or another argument, cannot be accepted.
            ConflictError: The idempotency key is that of another request.
            LedgerError: The ledger did not confirm. With an idempotency key, hand in again.
        """
        order = self._order(
            project=project,
            kind=Kind.USER,
            subject=user_id,
            lane=lane,
            verify=verify,
            reason=reason,
            idempotency_key=idempotency_key,
            submitted_at=submitted_at,
            due_at=due_at,
            not_before=not_before,
            include_later=include_later,
        )
        return self._hand_in(order, None)

    def purge_agent(
        self,
        agent_id: str,
        *,
        project: str = "default",
        lane: Lane | str | None = None,
        verify: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
        submitted_at: datetime | None = None,
        due_at: datetime | None = None,
        not_before: datetime | None = None,
        include_later: bool = False,
    ) -> Receipt:
        """Order the deletion of every memory of one agent in one project.

        MemOS takes this only in projects with independent agent memory switched on.

        Args:
            agent_id: 1 to 100 characters, kept byte for byte.
            project: As in `purge_user`, like all that follow.
            lane: As in `purge_user`.
            verify: As in `purge_user`.
            reason: As in `purge_user`.
            idempotency_key: As in `purge_user`.
            submitted_at: As in `purge_user`.
            due_at: As in `purge_user`.
            not_before: As in `purge_user`.
            include_later: As in `purge_user`.

        Raises:
            RequestError: The agent id, or another argument, cannot be accepted.
            ConflictError: The idempotency key is that of another request.
            LedgerError: The ledger did not confirm. With an idempotency key, hand in again.
        """
        order = self._order(
            project=project,
            kind=Kind.AGENT,
            subject=agent_id,
            lane=lane,
            verify=verify,
            reason=reason,
            idempotency_key=idempotency_key,
            submitted_at=submitted_at,
            due_at=due_at,
            not_before=not_before,
            include_later=include_later,
        )
        return self._hand_in(order, None)

    def hand_in_many(self, requests: Sequence[SmallRequest]) -> list[Receipt | RequestError]:
        """Hand in many small requests; a few hundred share one commit, and one ring.

        A bad one among them spoils no other.

        Args:
            requests: Any number. One with very many ids is taken, but `delete_memories` streams.

        Returns:
            For each request, in the same place, its receipt, or the error that says why it is not
            taken: a ConflictError when its idempotency key is that of another request.

        Raises:
            LedgerError: The ledger did not confirm; some of them may be recorded. Hand all of them
                in again: those with an idempotency key are found to be known.
        """
        answers: list[Receipt | RequestError | None] = []
        orders = []
        for each in requests:
            try:
                order = self._order(
                    project=each.project,
                    kind=each.kind,
                    subject=each.subject,
                    lane=each.lane,
                    verify=each.verify,
                    reason=each.reason,
                    idempotency_key=each.idempotency_key,
                    submitted_at=each.submitted_at,
                    due_at=each.due_at,
                    not_before=each.not_before,
                    include_later=each.include_later,
                    principal=each.principal,
                    traceparent=each.traceparent,
                )
            except RequestError as error:
                answers.append(error)
            else:
                answers.append(None)
                orders.append((order, each.memory_ids))
        with span("submit", attributes={"expunge.requests": len(orders)}):
            taken = iter(self._taken_in_together(orders) if orders else ())
        found = [next(taken) if answer is None else answer for answer in answers]
        if any(isinstance(each, Receipt) and not each.duplicate for each in found):
            self._bell.ring()
        return found

    def status(self, request_id: str) -> RequestView:
        """Tell how far a request is.

        Raises:
            NotFoundError: There is no such request.
            LedgerError: The ledger did not answer.
        """
        return self._opened().status(request_id)

    def wait(
        self,
        request_id: str,
        timeout_s: float | None = None,
        *,
        on_view: Callable[[RequestView], object] | None = None,
    ) -> RequestView:
        """Wait until a request has ended; looks every 50 ms at first and every second later.

        Args:
            request_id: From a receipt.
            timeout_s: Longest time to wait in seconds; None waits for ever, 0 looks once.
            on_view: Called with the request each time it was looked at, for progress.

        Returns:
            The request in its final state, which may be `partial`, `failed` or `cancelled`.

        Raises:
            WaitTimeoutError: It is still under way (also a TimeoutError); ask again later.
            NotFoundError: There is no such request.
            LedgerError: The ledger did not answer.
        """
        end = None if timeout_s is None else self._monotonic() + timeout_s
        pause = _FIRST_PAUSE_S
        while True:
            view = self.status(request_id)
            if on_view is not None:
                on_view(view)
            if view.state in FINAL_REQUEST_STATES:
                return view
            left = None if end is None else end - self._monotonic()
            if left is not None and left <= 0:
                waited = f"{round(timeout_s or 0, 1):g} s"
                msg = (
                    f"Request {request_id} is still {view.state.value} after {waited} and "
                    f"goes on by itself. See `expunge status {request_id}`."
                )
                raise WaitTimeoutError(msg)
            self._sleep(pause if left is None else min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)

    # -- inside -----------------------------------------------------------------------------------

    def _order(
        self,
        *,
        project: str,
        kind: Kind,
        lane: Lane | str | None,
        verify: str | None,
        **rest: str | datetime | bool | None,
    ) -> Order:
        known = self._settings.projects.get(project)
        if known is None:
            names = ", ".join(sorted(self._settings.projects))
            msg = f"There is no such project in the settings; known are: {names}."
            raise UnknownProjectError(msg)
        if kind is Kind.AGENT and known.dialect is Dialect.SELF_HOSTED:
            msg = "A self-hosted MemOS keeps no agents' memories apart; order by user or by id."
            raise RequestError(msg)
        if lane is not None and lane not in list(Lane):
            msg = f"The lane is none of {', '.join(Lane)}; leave it out or name one of these."
            raise RequestError(msg)
        return Order(
            project=project,
            kind=kind,
            lane=Lane(lane) if lane else None,
            verify=verify or None,
            # Apart from what is asked: with other settings, a repeat is still the same order.
            default_lane=Lane(known.lane) if known.lane else None,
            default_verify=known.verify or self._settings.verify,
            ceilings=self._settings.ceilings_of(known),
            **rest,  # type: ignore[arg-type]  # the public methods spell the types out
        )

    def _hand_in(self, order: Order, ids: Iterable[str] | None) -> Receipt:
        with span("submit", links=[order.traceparent]) as one:
            receipt = self._taken_in(order, ids)
            one.set("expunge.request.id", receipt.id)
        self._bell.ring()
        return receipt

    def _taken_in(self, order: Order, ids: Iterable[str] | None) -> Receipt:
        intake = self._begun(order)
        try:
            if ids is not None:
                intake.add(ids)
            return intake.finish()
        except BaseException as error:
            # Under a key the sender may go on from where it was broken off; one that never comes
            # back is cancelled by the sweep, a day later.
            broken_off = isinstance(error, KeyboardInterrupt | SystemExit | LedgerError)
            if not (broken_off and order.idempotency_key is not None):
                # Also when the iterable raised; a ledger that is gone cannot be told, and cancels
                # a request that got no further by itself.
                with suppress(LedgerError):
                    intake.abandon()
            raise

    def _begun(self, order: Order) -> Intaking:
        store, size = self._opened(), self._settings.chunk_size
        try:
            return store.begin(order, chunk_size=size)
        except UnknownProjectError:
            self._register(store)
        except KeysError:
            self._renew(store)
        try:
            return store.begin(order, chunk_size=size)
        except UnknownProjectError:
            raise _forgetful() from None

    def _taken_in_together(
        self, orders: Sequence[tuple[Order, Sequence[str]]]
    ) -> list[Receipt | RequestError]:
        store, size = self._opened(), self._settings.chunk_size
        try:
            answers = store.take_many(orders, chunk_size=size)
        except KeysError:
            self._renew(store)
            answers = store.take_many(orders, chunk_size=size)
        lost = [place for place, one in enumerate(answers) if isinstance(one, UnknownProjectError)]
        if lost:
            self._register(store)
            again = store.take_many([orders[place] for place in lost], chunk_size=size)
            if any(isinstance(one, UnknownProjectError) for one in again):
                raise _forgetful()
            for place, answer in zip(lost, again, strict=True):
                answers[place] = answer
        return answers

    def _register(self, store: Store) -> None:
        """Tell the ledger what projects there are; one from a backup may not know them."""
        store.register(
            projects={
                project.name: project.account for project in self._settings.projects.values()
            },
            rates={one.name: one.rate_per_second for one in self._settings.accounts.values()},
        )

    def _renew(self, store: Store) -> None:
        """Read the keys again: that of an epoch that began since may be there by now."""
        store.renew(Keys.load(self._settings.keys_dir))

    def _opened(self) -> Store:
        if self._store is None:
            msg = "The producer is not open; use it in a `with` statement."
            raise RequestError(msg)
        return self._store

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None and store is not self._given:
            store.close()


def _forgetful() -> LedgerError:
    msg = (
        "The ledger does not keep the project that it was told of; look whether it is being "
        "restored or emptied, and hand in again."
    )
    return LedgerError(msg)
