"""Checks a certificate of deletion. A second verifier: it imports nothing of ours.

    python verify_certificate.py CERTIFICATE KEY... [--opening FILE] [--items FILE]

KEY is a public key as `expunge keys show` prints it. Needs Python's standard library, and
`cryptography` for Ed25519. Written from docs/formats.md alone. Prints what is wrong, a line each,
and exits with 1 when anything is; with 2 when it cannot be checked: a file is not there, or a key
is none.
"""

import argparse
import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "expunge-certificate/v1"
Fields = dict[str, Any]


class WrongError(Exception):
    """Something is not as it has to be."""


def need(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion that stays
    if not condition:
        raise WrongError(message)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def canonical(value: object) -> bytes:
    """RFC 8785, for values without floats and with names of ASCII only."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def framed(domain: str, *parts: bytes) -> bytes:
    joined = b"".join(struct.pack(">Q", len(part)) + part for part in parts)
    return domain.encode() + b"\n" + joined


def once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    need(len({name for name, _ in pairs}) == len(pairs), "a name stands twice in an object")
    return dict(pairs)


def refuse(name: str) -> None:
    message = f"{name} is no JSON"
    raise WrongError(message)


def parse(data: bytes) -> Fields:
    try:
        value = json.loads(data.decode(), object_pairs_hook=once_each, parse_constant=refuse)
    except (ValueError, RecursionError):
        message = "it is no JSON"
        raise WrongError(message) from None
    need(isinstance(value, dict), "it is no object")
    return dict(value)


# -- the proof ------------------------------------------------------------------------------------


def unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        message = "something is no base64"
        raise WrongError(message) from None
    need(base64.b64encode(raw).decode() == text, "base64 is not written as it must be")
    return raw


class NoKeyError(WrongError):
    """What was given as a public key is none."""


def read_key(line: str) -> tuple[str, bytes, bytes]:
    """Give name, id and the 32 bytes of a public key."""
    message = f"no Ed25519 key, give a whole line of `expunge keys show`: {line}"
    try:
        name, key_id, encoded = line.strip().split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise NoKeyError(message) from None
    own = sha256(name.encode() + b"\n" + typed)[:4]
    if own.hex() != key_id or typed[:1] != b"\x01" or len(typed) != 33:
        raise NoKeyError(message)
    return name, own, typed[1:]


def check_note(note: str, keys: list[str]) -> tuple[int, bytes]:
    """Give size and root of a checkpoint that one of the keys signed."""
    text, separator, tail = note.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")
    need(bool(separator) and tail.endswith("\n") and len(lines) == 4, "it is no checkpoint")
    need(not any(mark < " " and mark != "\n" for mark in note), "there are control characters")
    origin, size, root = lines[0], lines[1], unbase64(lines[2])
    need(size.isascii() and size.isdigit() and str(int(size)) == size, "its size is no number")
    need(len(root) == 32 and bool(origin), "its root or origin is none")
    signatures = tail[:-1].split("\n")
    need(len(signatures) <= 16, "there are too many signatures")
    good = set()
    for line in signatures:
        parts = line.split(" ")
        need(len(parts) == 3 and parts[0] == "\u2014", "a signature's line is broken")
        raw = unbase64(parts[2])
        for key in keys:
            name, own, public = read_key(key)
            if (parts[1], raw[:4], origin) != (name, own, name):
                continue
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text.encode())
            except InvalidSignature:
                message = "a signature by a trusted key is wrong"
                raise WrongError(message) from None
            need(own not in good, "a key signed twice")
            good.add(own)
    need(bool(good), "no trusted key signed it")
    return int(size), root


def check_proof(proof: str, leaf: bytes, keys: list[str]) -> None:
    head, separator, note = proof.partition("\n\n")
    first, *lines = head.split("\n")
    need(first == "c2sp.org/tlog-proof@v1" and bool(separator) and bool(lines), "it is no proof")
    word, _, number = lines[0].partition(" ")
    need(word == "index" and number.isascii() and number.isdigit(), "its index is none")
    need(str(int(number)) == number, "its index is none")
    path = [unbase64(line) for line in lines[1:]]
    need(all(len(one) == 32 for one in path), "one of its hashes is none")
    size, root = check_note(note, keys)
    at = int(number)
    need(at < size, "its index is beyond the checkpoint")
    # From the root down: at which side of each node the leaf is, so that lengths fit by themselves.
    sides = []
    start, end = 0, size
    while end - start > 1:
        half = 1
        while half * 2 < end - start:
            half *= 2
        left = at < start + half
        sides.append(left)
        start, end = (start, start + half) if left else (start + half, end)
    need(len(sides) == len(path), "its path has another length than its sizes ask for")
    node = leaf
    for left, other in zip(reversed(sides), path, strict=True):
        node = sha256(b"\x01" + (node + other if left else other + node))
    need(node == root, "what is sealed is not at this place of the log")


# -- the statement --------------------------------------------------------------------------------


def says(event: Fields) -> str:
    counts, n, kind = event["counts"], event["unique"], event["kind"]
    if event["tampered"]:
        return "What was ordered was changed in the ledger; nothing is claimed of it."
    if event["certainty"] is None:
        return "Nothing of it was carried out."
    gone = counts["verified_absent"] + counts["already_absent"]
    part = f"All {n} were" if gone == n else f"{gone} of {n} were"
    drawn = event["drawn"] or 0
    rest = "" if drawn >= n else " The others are gone by MemOS's word alone."
    lost = counts["unknown"] + counts["refused"]
    acknowledged = counts["acknowledged"]
    of_ids = {
        "acknowledged": f"MemOS said that it deleted {acknowledged} of {n}; nobody looked.",
        "verified": f"{part} looked for after the deletion, and none was there.",
        "sampled": f"{drawn} of {n} read back, all absent.{rest}",
        "still_present": f"{counts['still_present']} of {n} were seen to be still there.",
        "unverifiable": f"{lost} of {n} could not be seen to be gone: MemOS refused "
        f"{counts['refused']}, and of {counts['unknown']} it gave no answer that tells.",
    }
    of_purge = {
        "acknowledged": f"MemOS said that it deleted everything of this {kind}; nobody looked.",
        "verified": f"Every list of this {kind} was read to its end after the deletion, and "
        "showed nothing that was to go.",
        "sampled": f"Some lists of this {kind} were read, and were empty.",
        "still_present": f"Memories of this {kind} were seen to be still there.",
        "unverifiable": f"Whether anything of this {kind} is left could not be seen.",
    }
    said = (of_ids if kind == "memories" else of_purge)[event["certainty"]]
    if event["later"]:
        said += f" {event['later']} appeared after the request was handed in and were left."
    return said


def limits(event: Fields) -> list[str]:
    days, missed = event["backup_days"], event["not_checked"]
    found = [
        (
            "It proves that the issuer sealed this statement in an append-only log, not that bytes "
            "left a disk."
        ),
        (
            "It is about the memory store's API alone: not about its logs, indexes, caches or "
            "exports, nor about models or whatever else was made of the memories, nor about other "
            "systems."
        ),
        "Not covered: backups of the memory store; how long they are kept is not known to the "
        "issuer."
        if days is None
        else f"Not covered: backups of the memory store, which are kept for {days} days.",
    ]
    if missed:
        names = ", ".join(name.replace("_", " ") for name in missed)
        found.append(f"Not checked, for MemOS did not show it: {names}.")
    if event["certainty"] == "acknowledged":
        found.append("Not checked: nobody looked whether anything is left.")
    return found


def statement(event: Fields) -> Fields:
    due = event["due_at"]
    operations = {
        "memories": "delete_by_memory_id",
        "user": "delete_all_of_user",
        "agent": "delete_all_of_agent",
    }
    return {
        "says": says(event),
        **{name: event[name] for name in ("result", "certainty", "request", "generation")},
        "issuer": event["issuer"],
        "instruction": {
            "by": event["principal"],
            **{
                name: event[name]
                for name in (
                    *("project", "reason", "order_digest"),
                    *("submitted_at", "accepted_at", "due_at"),
                )
            },
        },
        "ended_at": event["at"],
        "in_time": None if due is None else event["at"] <= due,
        "scope": {
            **{
                name: event[name]
                for name in (
                    *("kind", "requested", "unique", "items_root"),
                    *("subject_binding", "opening_digest", "include_later"),
                )
            },
            "chunk_size": event["chunk_size"] if event["kind"] == "memories" else None,
        },
        "counts": event["counts"],
        "performed_by": {
            "component": "expunge worker, deletion",
            "release": event["release"],
            "api": event["api"],
            "operation": operations[event["kind"]],
            "calls": event["delete_calls"],
            "from": event["delete_from"],
            "to": event["delete_to"],
            "leftovers": event["leftovers"],
        },
        "verified_by": {
            "component": "expunge worker, read-back",
            "release": event["release"],
            "policy": event["verify"],
            "method": event["method"] if event["read_calls"] else "none",
            "drawn": event["drawn"],
            "calls": event["read_calls"],
            "from": event["read_from"],
            "to": event["read_to"],
            "appeared_later": event["later"],
            "not_checked": event["not_checked"],
        },
        "tampered": event["tampered"],
        "limits": limits(event),
        "record": {"event": event["id"], "key_epoch": event["key_epoch"]},
    }


def check(data: bytes, keys: list[str]) -> Fields:
    """Give the statement of a certificate that holds; raises WrongError otherwise."""
    found = parse(data)
    need(sorted(found) == ["format", "proof", "salt", "sealed", "statement"], "other fields")
    need(found["format"] == FORMAT, "another format")
    texts = [found[name] for name in ("proof", "salt", "sealed")]
    need(all(isinstance(text, str) for text in texts), "a field is no text")
    try:
        need(canonical(found) + b"\n" == data, "it is not in its canonical form")
        salt, sealed = bytes.fromhex(found["salt"]), found["sealed"].encode()
    except ValueError:
        message = "its salt is not hex, or something in it is no text"
        raise WrongError(message) from None
    need(len(salt) == 32 and salt.hex() == found["salt"], "its salt is none")
    check_proof(found["proof"], sha256(b"\x00expunge-audit/v1\n" + salt + sealed), keys)
    event = parse(sealed)
    need((event.get("type"), event.get("v")) == ("request.finished", 2), "another event")
    # Compared as bytes: true is no 1, and 1.0 is no 1.
    need(canonical(statement(event)) == canonical(found["statement"]), "it says other than sealed")
    return dict(found["statement"])


# -- the list -------------------------------------------------------------------------------------


def root_of(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:]))


def check_list(said: Fields, opening: Fields, ids: list[str]) -> None:
    """Check that a certificate is about a list."""
    need(opening.get("request") == said["request"], "the opening is of another certificate")
    try:
        salt = bytes.fromhex(str(opening.get("salt")))
    except ValueError:
        message = "the opening has no salt"
        raise WrongError(message) from None
    scope = said["scope"]
    digest = sha256(framed("expunge/opening/v1", salt))
    need(digest.hex() == scope["opening_digest"], "the opening is of another certificate")
    unique = list(dict.fromkeys(ids))
    leaves = [
        sha256(
            b"\x00expunge/item/v1\n"
            + hmac.digest(salt, struct.pack(">Q", place), "sha256")
            + one.encode()
        )
        for place, one in enumerate(unique)
    ]
    step = scope["chunk_size"]
    parts = [root_of(leaves[at : at + step]) for at in range(0, len(leaves), step)]
    root = root_of([sha256(b"\x00" + part) for part in parts])
    need((len(unique), root.hex()) == (scope["unique"], scope["items_root"]), "another list")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Check a certificate. Exit code 0: good, 1: not good, 2: cannot be checked."
    )
    parser.add_argument("file", type=Path, help="what `expunge certificate issue` printed")
    parser.add_argument("keys", nargs="+", metavar="KEY", help="lines of `expunge keys show`")
    parser.add_argument("--items", type=Path, help="the list of ids, one a line; with --opening")
    parser.add_argument("--opening", type=Path, help="what `certificate issue --opening` wrote")
    given = parser.parse_args(arguments)
    if (given.items is None) != (given.opening is None):
        parser.error("--items and --opening go together")
    try:
        for key in given.keys:
            read_key(key)
    except NoKeyError as error:
        parser.error(str(error))
    try:
        said = check(given.file.read_bytes(), given.keys)
        if given.items is not None:
            ids = given.items.read_text(encoding="utf-8").splitlines()
            check_list(said, parse(given.opening.read_bytes()), ids)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    except WrongError as error:
        sys.stdout.write(f"{error}\nNOT good\n")
        return 1
    sys.stdout.write("good\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
