"""Makes a certificate from the ledger: the sealed event of a request's end, and its proof."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ledger.acting import check_principal
from ledger.audit.notes import PublicKey
from ledger.audit.stored import StoredTree
from ledger.canonical import canonical
from ledger.certificates.checking import FORMAT, check_certificate
from ledger.certificates.openings import Opening
from ledger.certificates.proofs import write_proof
from ledger.certificates.statement import VERSION, statement_of
from ledger.engine import Database
from ledger.errors import AuditError, ConflictError, ExpungeError, KeysError, NotFoundError
from ledger.events import EventType, append
from ledger.items import opening_digest, subject_nonce
from ledger.macs import Macs
from ledger.schema import checkpoint, event, event_body, leaf, pruning, request
from ledger.views import account_of_request

__all__ = ["issue", "open_up"]


def issue(
    database: Database, request_id: str, *, keys: Sequence[PublicKey], generation: int | None = None
) -> bytes:
    """Give the certificate of a request's generation, by default of the last that ended.

    Writes nothing, and asks for no key: all of it is sealed already.

    Args:
        database: Where the ledger is.
        request_id: The request.
        keys: The log's public keys, to check the certificate before anybody gets it.
        generation: Which end.

    Returns:
        The file, byte for byte.

    Raises:
        NotFoundError: There is no such request, it has no such end, or that was pruned.
        ConflictError: It has not ended, or its end is not signed yet; or it ended under a release
            before certificates.
        AuditError: The record does not hold: no certificate can be given of it.
        LedgerError: The database did not answer.
    """
    made = database.read(lambda conn: _issue(conn, request_id, generation))
    faults = check_certificate(made, keys).faults
    if faults:
        msg = (
            "The record of this request does not hold, so nothing is certified: "
            f"{faults[0]} Run `expunge audit verify`."
        )
        raise AuditError(msg)
    return made


def open_up(
    database: Database, macs: Macs, request_id: str, *, generation: int, principal: str
) -> Opening:
    """Give what opens a certificate, for whoever ordered it; an event says who got it.

    Args:
        database: Where the ledger is.
        macs: Has the pseudonym key of the request's epoch.
        request_id: The request.
        generation: Of the certificate.
        principal: Who gets it, for the record; at most 64 characters.

    Raises:
        NotFoundError: There is no such request.
        KeysError: The key of its epoch was destroyed, or does not give its salt.
        LedgerError: The ledger did not confirm that it recorded it; nothing is shown then.
    """
    check_principal(principal)

    def work(conn: Connection) -> Opening:
        account_of_request(conn, request_id)
        row = conn.execute(select(request).where(request.c.id == request_id)).one()
        salt = _salt(macs, row)
        sealed = _end(conn, request_id, generation)[1]
        if opening_digest(salt).hex() != sealed["opening_digest"]:
            msg = (
                f"The salt of request {request_id} is not here any more: it was taken in by a "
                "release before salts were made of keys, or somebody changed its row."
            )
            raise KeysError(msg)
        payload = {"principal": principal, "generation": generation}
        append(conn, EventType.CERTIFICATE_OPENED, payload, request_id=request_id)
        named = row.subject is not None or row.subject_ref is not None
        return Opening(
            request=request_id,
            generation=generation,
            salt=salt,
            subject_nonce=subject_nonce(salt) if named else None,
        )

    return database.write(work)


def _salt(macs: Macs, row: Row[Any]) -> bytes:
    kept = bytes(row.salt)
    if kept:
        return kept
    if row.key_epoch not in macs.epochs:
        msg = (
            f"The names of request {row.id} were taken out of the ledger, and pseudonym key "
            f"{row.key_epoch} is not here any more: nobody can open its certificate."
        )
        raise KeysError(msg)
    return macs.salt(row.key_epoch, row.project, row.id)


def _issue(conn: Connection, request_id: str, generation: int | None) -> bytes:
    account_of_request(conn, request_id)
    row, sealed = _end(conn, request_id, generation)
    last = conn.execute(select(checkpoint).order_by(checkpoint.c.no.desc()).limit(1)).first()
    if row.idx is None or last is None or row.idx >= last.size:
        msg = (
            f"The end of request {request_id} is not sealed yet; a running `expunge seal` does "
            "that within about a second."
        )
        raise ConflictError(msg)
    path = StoredTree(conn).inclusion(row.idx, last.size)
    return (
        canonical(
            {
                "format": FORMAT,
                "statement": statement_of(sealed),
                "sealed": bytes(row.payload).decode(),
                "salt": bytes(row.salt).hex(),
                "proof": write_proof(row.idx, path, last.note),
            }
        )
        + b"\n"
    )


def _parsed(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row
    try:
        body: dict[str, Any] = json.loads(bytes(row.payload))
    except (ValueError, TypeError):
        body = {}
    if not body.keys() >= {"v", "generation"}:
        msg = f"Event {row.id} is not what was recorded; run `expunge audit verify`."
        raise AuditError(msg)
    return body


def _end(conn: Connection, request_id: str, generation: int | None) -> tuple[Any, dict[str, Any]]:
    """Give the row of an end, by default of the last one, and what was recorded of it."""
    query = (
        select(event.c.id, event_body.c.payload, event_body.c.salt, leaf.c.idx)
        .outerjoin(event_body, event_body.c.event == event.c.id)
        .outerjoin(leaf, leaf.c.event == event.c.id)
        .where(event.c.request == request_id, event.c.type == EventType.REQUEST_FINISHED)
        .order_by(event.c.id)
    )
    rows = conn.execute(query).all()
    if not rows:
        raise _no_end(conn, request_id)
    if generation is None:
        # Of the last one alone: in its place, one from before would say what holds no more.
        rows = rows[-1:]
    found = [(row, _parsed(row)) for row in rows if row.payload is not None]
    for row, body in reversed(found):
        if generation in (None, body["generation"]):
            if body["v"] != VERSION:
                msg = (
                    f"Request {request_id} ended under an earlier release, which recorded too "
                    "little for a certificate; `expunge status` and `expunge audit export` show "
                    "what there is."
                )
                raise ConflictError(msg)
            return row, body
    bare = [row for row in rows if row.payload is None]
    if bare:
        raise _bodiless(conn, request_id, bare)
    msg = (
        f"Request {request_id} has no end in the record under generation {generation}; see "
        f"`expunge status {request_id}`."
    )
    raise NotFoundError(msg)


def _no_end(conn: Connection, request_id: str) -> ExpungeError:
    """Say why a request has no end in the record at all."""
    query = select(request.c.finished_at, request.c.closing_mac).where(request.c.id == request_id)
    row = conn.execute(query).one()
    if row.finished_at is None:
        msg = (
            f"Request {request_id} has not ended yet, so there is nothing to certify; `expunge "
            f"watch {request_id}` waits for it."
        )
        return ConflictError(msg)
    if row.closing_mac is None:
        msg = (
            f"Request {request_id} was cancelled before it was handed in whole: nothing of it was "
            "carried out, and there is no end of it to certify."
        )
        return NotFoundError(msg)
    msg = (
        f"Request {request_id} has ended, and its end is missing in the record; run `expunge audit "
        "verify`."
    )
    return AuditError(msg)


def _bodiless(conn: Connection, request_id: str, rows: Sequence[Any]) -> ExpungeError:
    """Say why what was recorded of an end is gone: by a pruning on record, or by nobody's right."""
    below = conn.execute(select(func.max(pruning.c.below))).scalar() or 0
    if all(row.idx is not None and row.idx < below for row in rows):
        msg = (
            f"What was recorded of the end of request {request_id} was pruned after "
            "EXPUNGE_RETENTION_DAYS, and no certificate can be made of it any more; one that was "
            "issued before still verifies."
        )
        return NotFoundError(msg)
    msg = (
        f"What was recorded of the end of request {request_id} is missing, and no pruning on "
        "record covers it; run `expunge audit verify`."
    )
    return AuditError(msg)
