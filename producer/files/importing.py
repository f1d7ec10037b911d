"""Hands a file in: one request for a list of ids, one a user or agent, or one a line of JSONL."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ledger.errors import ConflictError, RequestError
from ledger.model import Receipt
from ledger.states import Kind
from producer.files.checking import nothing_to_do
from producer.files.handing import HandingIn
from producer.files.journal import Progress, Run
from producer.files.layout import Format, Layout
from producer.files.orders import accepted, check_together, read_orders, read_rows
from producer.files.rejects import RejectLog
from producer.files.source import Source
from producer.files.terms import Terms, TermsCheck
from producer.submit import Producer

__all__ = ["ImportReport", "import_file"]


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What came of a file.

    Attributes:
        requests: Requests that are recorded, those known before included.
        known: Of these, how many had been handed in under the same idempotency key before.
        requested: Ids in them, repeats included; a purge counts one.
        unique: Ids after folding repeats; a purge counts one.
        rejected: Lines that were not taken.
    """

    requests: int
    known: int
    requested: int
    unique: int
    rejected: int

    @classmethod
    def of(cls, progress: Progress) -> "ImportReport":
        """Give that of a complete run."""
        return cls(
            requests=progress.requests,
            known=progress.known,
            requested=progress.requested + progress.repeats,
            unique=progress.unique,
            rejected=progress.rejected,
        )


def import_file(
    producer: Producer,
    source: Source,
    *,
    layout: Layout,
    terms: Terms,
    rejects: RejectLog,
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None,
    run: Run | None = None,
) -> ImportReport:
    """Hand in everything that the file orders; memory does not grow with the file.

    Lines that cannot be taken go to *rejects*, and the others are handed in. What is wrong with the
    file as a whole raises, and then nothing of it is carried out. When the ledger stops answering,
    or a file that orders many requests changes while it is read, what came before is recorded.

    Args:
        producer: Open.
        source: The file.
        layout: How to read it.
        terms: What holds for all of it.
        rejects: Takes the lines that are not taken.
        on_receipt: Called for each request as soon as it is recorded.
        run: Of a journal, so that the import can go on when it breaks off; its token takes the
            place of an idempotency key. Requests that were handed in before are passed over.

    Raises:
        RequestError: The file, or the terms, cannot be accepted; or no line of it could be taken.
        ConflictError: The idempotency key is that of another file. (A JSONL line is a reject.)
        LedgerError: The ledger did not confirm; the message says how far it got.
    """
    check_together(layout, terms)
    if run is not None:
        terms = replace(terms, idempotency_key=run.token)
    if (fault := TermsCheck(producer.settings).fault(terms.shared())) is not None:
        raise fault
    handing = HandingIn(producer, name=source.name, rejects=rejects, on_receipt=on_receipt, run=run)
    try:
        repeats = _hand_in(source, layout, terms, rejects, handing)
    except BaseException as error:
        changed = source.changed
        if run is not None:
            _leave(run, error, handing, changed=changed)
        if changed and isinstance(error, RequestError) and handing.requests:
            raise _partly(error, handing) from None
        if run is not None and not changed and isinstance(error, ConflictError):
            raise _other_ids(error) from None
        raise
    done = replace(handing.progress, known=handing.known, repeats=repeats, rejected=rejects.count)
    if run is not None:
        run.finish(done)
    return ImportReport.of(done)


def _hand_in(
    source: Source, layout: Layout, terms: Terms, rejects: RejectLog, handing: HandingIn
) -> int:
    """Hand everything in; gives how many purges stood there before."""
    if layout.format is not Format.JSONL and layout.orders is not Kind.MEMORIES:
        # Each purge stands for itself, but a fault of the whole file may be in its last row, and
        # that it changed since it was checked shows at its end.
        for _ in read_rows(source, layout):
            pass
    repeats = 0

    def repeat() -> None:
        nonlocal repeats
        repeats += 1

    rows = accepted(read_rows(source, layout), rejects)
    for asked in read_orders(rows, layout=layout, terms=terms, on_repeat=repeat):
        handing.take(asked)
    handing.flush()
    if handing.requests == 0:
        raise nothing_to_do(source, rejects)
    return repeats


def _leave(run: Run, error: BaseException, handing: HandingIn, *, changed: bool) -> None:
    """Write down how far the run is, or that nothing came of it."""
    if changed:
        # What is handed in may be of other content than what the run is named by: none of it may
        # be passed over.
        run.start_over()
    if (
        isinstance(error, RequestError)
        and not isinstance(error, ConflictError)
        and handing.requests == 0
    ):
        run.forget()
    else:
        run.pause()


def _partly(error: RequestError, handing: HandingIn) -> RequestError:
    return type(error)(
        f"{error} {handing.requests:,} requests of it are recorded, and carried out all the same."
    )


def _other_ids(error: ConflictError) -> ConflictError:
    return ConflictError(
        f"{error} It is of the import that broke off. Where the file changed while that read it, "
        "the request holds other ids: a day after the last of them it is cancelled, nothing of it "
        "having been sent, and --resume hands in all of the file. Without --resume it is a new "
        "import at once."
    )
