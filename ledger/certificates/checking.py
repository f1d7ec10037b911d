"""Checks a certificate by nothing but the file and public keys; names all that is wrong."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.audit.merkle import verify_inclusion
from ledger.audit.notes import Checkpoint, PublicKey, open_checkpoint
from ledger.canonical import canonical
from ledger.certificates.openings import Opening
from ledger.certificates.proofs import parse_proof
from ledger.certificates.statement import VERSION, statement_of
from ledger.event_types import SCHEMAS, EventType
from ledger.events import leaf_hash
from ledger.items import list_root, opening_digest, subject_binding, subject_nonce

__all__ = [
    "FORMAT",
    "Checked",
    "check_certificate",
    "check_items",
    "check_opening",
    "check_subject",
]

FORMAT: Final = "expunge-certificate/v1"
_MOST_BYTES: Final = 1 << 20
_MEMBERS: Final = ("format", "proof", "salt", "sealed", "statement")


@dataclass(kw_only=True)
class Checked:
    """What came of a check.

    Attributes:
        faults: What is wrong, each a sentence that begins with the field's name.
        statement: What the certificate says; None when it cannot be read.
        checkpoint: The signed checkpoint that proves it; None when none does.
    """

    faults: list[str] = field(default_factory=list)
    statement: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not self.faults


def check_certificate(data: bytes, keys: Sequence[PublicKey]) -> Checked:
    """Check a certificate.

    Args:
        data: The file, byte for byte.
        keys: Public keys of logs that are trusted.

    Returns:
        The verdict; it never raises for what a file may hold.
    """
    checked = Checked()
    certificate = _read(data, checked)
    if certificate is None:
        return checked
    event = _event(certificate, checked)
    _check_proof(certificate, keys, checked)
    statement = certificate["statement"]
    if isinstance(statement, dict):
        checked.statement = statement
    if event is not None:
        _compare("statement", statement, event, checked)
    return checked


def check_opening(checked: Checked, opening: Opening) -> None:
    """Check that an opening belongs to a certificate.

    One without its salt can show that only by the name, with `check_subject`; here it is found to
    be another one's by what it says of itself alone.

    Args:
        checked: A certificate that was found good; is told what is wrong.
        opening: What is said to open it.
    """
    _opened(checked, opening)


def check_items(checked: Checked, opening: Opening, ids: Iterable[str]) -> None:
    """Check that a list is the one that a certificate is about.

    Args:
        checked: A certificate that was found good; is told what is wrong.
        opening: Its opening.
        ids: The list, in the order it was handed in; repeats are folded.
    """
    scope = _opened(checked, opening)
    if scope is None:
        return
    if scope["items_root"] is None:
        checked.faults.append("items: This certificate is of a purge, which has no list of ids.")
    elif opening.salt is None:
        checked.faults.append("opening: It has no salt, so no list can be compared.")
    else:
        root, count = list_root(opening.salt, dict.fromkeys(ids), scope["chunk_size"])
        if count != scope["unique"]:
            says = f"The list has {count} ids, and {scope['unique']} were ordered."
            checked.faults.append(f"items: {says}")
        elif root.hex() != scope["items_root"]:
            checked.faults.append(
                "items: The list has as many ids as were ordered, but others, or in another order."
            )


def check_subject(checked: Checked, opening: Opening, subject: str) -> None:
    """Check that a certificate is about a user or agent, as `check_items` does for ids."""
    scope = _opened(checked, opening)
    if scope is None or checked.statement is None:
        return
    if scope["subject_binding"] is None:
        checked.faults.append("subject: No user or agent was named in this request.")
    elif opening.subject_nonce is None:
        checked.faults.append("opening: It has no subject_nonce, so no name can be compared.")
    else:
        project = checked.statement["instruction"]["project"]
        binding = subject_binding(opening.subject_nonce, project, scope["kind"], subject)
        if binding.hex() != scope["subject_binding"]:
            checked.faults.append("subject: The certificate is about somebody else.")


def _opened(checked: Checked, opening: Opening) -> dict[str, Any] | None:
    """Give the scope of a good certificate that an opening belongs to."""
    if not checked.good or checked.statement is None:
        return None
    scope: dict[str, Any] = checked.statement["scope"]
    of = (checked.statement["request"], checked.statement["generation"])
    salt = opening.salt
    if (opening.request, opening.generation) != of:
        checked.faults.append("opening: It is of another certificate.")
    elif salt is not None and opening_digest(salt).hex() != scope["opening_digest"]:
        checked.faults.append("opening: Its salt is not that of this certificate.")
    elif salt is not None and opening.subject_nonce not in (None, subject_nonce(salt)):
        checked.faults.append("opening: Its subject_nonce is not that of this certificate.")
    else:
        return scope
    return None


# -- the file -------------------------------------------------------------------------------------


def _read(data: bytes, checked: Checked) -> dict[str, Any] | None:
    if len(data) > _MOST_BYTES:
        checked.faults.append("file: It is too long for a certificate.")
        return None
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        checked.faults.append("file: It is no JSON, or names a field twice.")
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        checked.faults.append(f"format: It is not {FORMAT}.")
        return None
    if sorted(found) != sorted(_MEMBERS):
        odd = sorted(set(found) ^ set(_MEMBERS))
        checked.faults.append(f"file: These fields are missing or too many: {', '.join(odd)}.")
        return None
    texts = ("proof", "salt", "sealed")
    if wrong := [name for name in texts if not isinstance(found[name], str)]:
        checked.faults.append(f"{wrong[0]}: It is no text.")
        return None
    try:
        whole = canonical(found) + b"\n"
    except (ValueError, RecursionError, TypeError):
        whole = b""
    if whole != data:
        checked.faults.append(
            "file: It is not written in its one canonical form (RFC 8785 and a line break); some "
            "program wrote it anew."
        )
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "A field is there twice."
        raise ValueError(msg)
    return found


def _refuse(_constant: str) -> None:
    msg = "That is no JSON."
    raise ValueError(msg)


# -- what is sealed -------------------------------------------------------------------------------


def _event(certificate: dict[str, Any], checked: Checked) -> dict[str, Any] | None:
    """Read the sealed event, and make the statement that it stands for."""
    try:
        event = json.loads(certificate["sealed"], object_pairs_hook=_once, parse_constant=_refuse)
        schema = next(one for one in SCHEMAS[EventType.REQUEST_FINISHED] if one.version == VERSION)
        names = {"v", "id", "type", "at", "request", *schema.forms[0]}
        right = event["type"] == EventType.REQUEST_FINISHED and event["v"] == VERSION
        if not right or event.keys() != names:
            raise KeyError  # noqa: TRY301 - one end for all that is no such event
        return statement_of(event)
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        checked.faults.append("sealed: It is no event of a request's end as this release knows it.")
        return None


def _compare(name: str, said: object, sealed: object, checked: Checked) -> None:
    """Name each field of the statement that is not what was sealed."""
    if isinstance(said, dict) and isinstance(sealed, dict):
        for key in sorted(said.keys() | sealed.keys()):
            inner = f"{name}.{key}"
            if key not in said:
                checked.faults.append(f"{inner}: It is missing.")
            elif key not in sealed:
                checked.faults.append(f"{inner}: Nothing of the kind was sealed.")
            else:
                _compare(inner, said[key], sealed[key], checked)
    elif type(said) is not type(sealed) or said != sealed:
        checked.faults.append(f"{name}: It is not what was sealed.")


def _check_proof(certificate: dict[str, Any], keys: Sequence[PublicKey], checked: Checked) -> None:
    try:
        proof = parse_proof(certificate["proof"])
    except ValueError as error:
        checked.faults.append(f"proof: {error}.")
        return
    try:
        checkpoint = open_checkpoint(proof.checkpoint, keys)
    except ValueError as error:
        checked.faults.append(f"proof: Its checkpoint cannot be trusted. {error}")
        return
    leaf = _leaf(certificate, checked)
    if leaf is None:
        return
    if not verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root):
        checked.faults.append(
            "proof: What is sealed here is not at this index of the log: sealed, salt, index or "
            "path was changed."
        )
        return
    checked.checkpoint = checkpoint


def _leaf(certificate: dict[str, Any], checked: Checked) -> bytes | None:
    try:
        salt = bytes.fromhex(certificate["salt"])
    except ValueError:
        salt = b""
    if len(salt) != hashlib.sha256().digest_size or salt.hex() != certificate["salt"]:
        checked.faults.append("salt: It is not 64 hex digits.")
        return None
    try:
        return leaf_hash(certificate["sealed"].encode(), salt)
    except UnicodeEncodeError:
        checked.faults.append("sealed: It is no text.")
        return None
