"""Checks a file that `expunge audit export` wrote. A second verifier: it imports nothing of ours.

    python verify_audit_export.py EXPORT.jsonl KEY... [--checkpoint NOTE_FILE]...

KEY is a public key as `expunge keys show` prints it, NOTE_FILE a checkpoint that was kept. Needs
Python's standard library, and `cryptography` for Ed25519. Written from docs/formats.md alone.
Prints what is wrong, a line each, and exits with 1 when anything is; with 2 when it cannot be
checked: a file is not there, or a key is none.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "expunge-audit-export/v1"


class BrokenError(Exception):
    """A line is not as an export has it."""


def need(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion that stays
    if not condition:
        raise BrokenError(message)


def number(line: dict[str, object], name: str) -> int:
    value = line.get(name)
    if type(value) is not int or value < 0:
        message = f"its {name} is no number"
        raise BrokenError(message)
    return value


def unhex(line: dict[str, object], name: str) -> bytes:
    value = line.get(name)
    try:
        data = bytes.fromhex(value if isinstance(value, str) else "-")
    except ValueError:
        message = f"its {name} is no hex"
        raise BrokenError(message) from None
    need(len(data) == 32, f"its {name} has not 32 bytes")
    return data


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root_of_peaks(peaks: list[tuple[int, bytes]]) -> bytes:
    """The root over full subtrees, given as (leaves, hash), the largest first."""
    if not peaks:
        return sha256(b"")
    root = peaks[-1][1]
    for _, peak in reversed(peaks[:-1]):
        root = sha256(b"\x01" + peak + root)
    return root


def add_leaf(peaks: list[tuple[int, bytes]], leaf: bytes) -> None:
    peaks.append((1, leaf))
    while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
        leaves, right = peaks.pop()
        _, left = peaks.pop()
        peaks.append((2 * leaves, sha256(b"\x01" + left + right)))


class Keys:
    """Public keys by name and id."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.by_id: dict[tuple[str, bytes], bytes] = {}
        for line in lines:
            message = f"no Ed25519 key, give a whole line of `expunge keys show`: {line}"
            try:
                name, key_id, encoded = line.strip().split("+", 2)
                typed = base64.b64decode(encoded, validate=True)
            except ValueError:
                raise ValueError(message) from None
            computed = sha256(name.encode() + b"\n" + typed)[:4]
            if typed[:1] != b"\x01" or len(typed) != 33 or computed.hex() != key_id:
                raise ValueError(message)
            self.by_id[name, computed] = typed[1:]

    def read(self, note: str) -> tuple[str, int, bytes]:
        """Give origin, size and root of a checkpoint that one of the keys signed."""
        text, separator, tail = note.rpartition("\n\n")
        text += "\n"
        lines = text.split("\n")
        if not separator or not tail.endswith("\n") or len(lines) != 4 or lines[3]:
            message = "it is no signed checkpoint"
            raise ValueError(message)
        origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
        plain = base64.b64encode(root).decode() == lines[2] and len(root) == 32
        if not origin or not size.isascii() or not size.isdigit() or not plain:
            message = "its size or root is not written as it must be"
            raise ValueError(message)
        if str(int(size)) != size:
            message = "its size is not written as it must be"
            raise ValueError(message)
        good = 0
        signatures = tail[:-1].split("\n")
        if len(signatures) > 16:
            message = "it has more than 16 signatures"
            raise ValueError(message)
        for line in signatures:
            dash, name, encoded = line.split(" ")
            raw = base64.b64decode(encoded, validate=True)
            if dash != "\u2014":
                message = "a signature's line is broken"
                raise ValueError(message)
            key = self.by_id.get((name, raw[:4]))
            if key is not None and name == origin:
                try:
                    Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], text.encode())
                except InvalidSignature:
                    message = "a signature by a trusted key is wrong"
                    raise ValueError(message) from None
                good += 1
        if not good:
            message = "no trusted key signed it"
            raise ValueError(message)
        return origin, int(size), root


def read_lines(file: Iterable[str]) -> Iterator[dict[str, object]]:
    for line in file:
        try:
            value = json.loads(line, object_pairs_hook=once_each)
        except (ValueError, RecursionError):
            message = "it is no JSON, or a name stands in it twice"
            raise BrokenError(message) from None
        need(isinstance(value, dict), "it is no object")
        yield value


def once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        message = "a name stands twice in an object"
        raise ValueError(message)
    return dict(pairs)


class Reading:
    """One pass over the lines of an export; keeps some 30 hashes, however long it is."""

    def __init__(self, keys: Keys, names: list[str], pruned_below: int) -> None:
        self.keys = keys
        self.names = names
        self.pruned_below = pruned_below
        self.peaks: list[tuple[int, bytes]] = []
        self.leaves = self.checkpoints = self.last = self.longest = 0
        self.wanted: dict[int, list[bytes]] = {}
        # The pruning that `pruned_below` is about was found among the events.
        self.pruning_found = not pruned_below

    def keep(self, note: str) -> Iterator[str]:
        """Take note of a checkpoint that somebody kept."""
        try:
            origin, size, root = self.keys.read(note)
        except ValueError as error:
            yield f"a kept checkpoint is not to be trusted: {error}"
            return
        if origin not in self.names:
            yield f"a kept checkpoint is of another log, {origin}"
        self.wanted.setdefault(size, []).append(root)
        self.longest = max(self.longest, size)

    def leaf(self, line: dict[str, object]) -> Iterator[str]:
        index = number(line, "index")
        if index != self.leaves:
            yield f"leaf {self.leaves} is missing: the next one is {index}"
        digest = unhex(line, "hash")
        if "payload" in line:
            need(isinstance(line["payload"], str), "its payload is no text")
            payload, salt = str(line["payload"]), unhex(line, "salt")
            try:
                hashed = sha256(b"\x00expunge-audit/v1\n" + salt + payload.encode())
            except UnicodeEncodeError:
                hashed = b""
            if hashed != digest:
                yield f"leaf {self.leaves} is not what was recorded"
            elif "bodies.pruned" in payload and not self.pruning_found:
                self.pruning_found = pruned_by(payload) == self.pruned_below
        elif self.leaves >= self.pruned_below:
            yield f"leaf {self.leaves} has no payload, and no pruning says so"
        add_leaf(self.peaks, digest)
        self.leaves += 1
        for root in self.wanted.pop(self.leaves, ()):
            if root != root_of_peaks(self.peaks):
                yield f"the log is not that of a kept checkpoint of {self.leaves} leaves"

    def checkpoint(self, line: dict[str, object]) -> Iterator[str]:
        self.checkpoints += 1
        number = self.checkpoints
        try:
            origin, size, root = self.keys.read(str(line["checkpoint"]))
        except ValueError as error:
            yield f"checkpoint {number} is not to be trusted: {error}"
            return
        if origin not in self.names or size <= self.last:
            yield f"checkpoint {number} does not follow on the one before it"
        if size != self.leaves:
            yield f"checkpoint {number} says {size} leaves and stands behind {self.leaves}"
        elif root != root_of_peaks(self.peaks):
            yield f"leaves {self.last} to {size - 1} do not give the root of checkpoint {number}"
        self.last = max(self.last, size)

    def end(self, foot: dict[str, object] | None, size: object) -> Iterator[str]:
        if not self.leaves or not self.checkpoints:
            yield "it has no leaf or no checkpoint, so nothing of it is signed"
        if not self.pruning_found:
            yield (
                f"payloads below {self.pruned_below} may be missing, it says, and no event "
                "bodies.pruned that names this index is in it"
            )
        if foot != {"leaves": self.leaves, "checkpoints": self.checkpoints}:
            yield "the foot is missing, or says other counts"
        if self.last != self.leaves or size != self.leaves:
            yield f"the log was cut: it ends at {self.leaves}, and the last one signed is {size}"
        if self.longest > self.leaves:
            yield f"the log was cut: it ends at {self.leaves}, and {self.longest} were signed"


def pruned_by(payload: str) -> int | None:
    """Give the index that a pruning names; None when the event is none."""
    try:
        event = json.loads(payload, object_pairs_hook=once_each)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("type") != "bodies.pruned":
        return None
    below = event.get("below")
    return below if type(below) is int else None


def faults(file: Iterable[str], keys: Keys, kept: Iterable[str] = ()) -> Iterator[str]:
    """Give a sentence for everything that is wrong with an export; none when all is well."""
    at = 0  # lines that were read whole
    try:
        lines = read_lines(file)
        head = next(lines, {})
        if head.get("format") != FORMAT:
            yield "the file does not begin as an export does"
            return
        reading = Reading(keys, names_of(head), number(head, "pruned_below"))
        for note in kept:
            yield from reading.keep(note)
        foot, at = None, 1
        for line in lines:
            if foot is not None:
                yield "there is something behind the foot"
            if "checkpoint" in line:
                yield from reading.checkpoint(line)
            elif "index" in line:
                yield from reading.leaf(line)
            else:
                foot = line
            at += 1
        yield from reading.end(foot, head.get("size"))
    except BrokenError as error:
        yield f"line {at + 1} was cut or changed: {error}"
    except UnicodeDecodeError:
        yield "the file was changed: it is no UTF-8"


def names_of(head: dict[str, object]) -> list[str]:
    origins = head.get("origins")
    if not isinstance(origins, list) or not all(isinstance(one, dict) for one in origins):
        message = "its origins are none"
        raise BrokenError(message)
    return [str(one.get("name")) for one in origins]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Check an audit export. Exit code 0: good, 1: not good, 2: cannot be checked."
    )
    parser.add_argument("file", type=Path, help="what `expunge audit export` wrote")
    parser.add_argument("keys", nargs="+", metavar="KEY", help="lines of `expunge keys show`")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        help="a note that was kept elsewhere, which the export must hold; may be given again",
    )
    given = parser.parse_args(arguments)
    try:
        keys = Keys(given.keys)
    except ValueError as error:
        parser.error(str(error))
    try:
        notes = [note.read_text(encoding="utf-8") for note in given.checkpoint]
        with given.file.open(encoding="utf-8") as file:
            found = list(faults(file, keys, notes))
    except (OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    for fault in found:
        sys.stdout.write(fault + "\n")
    sys.stdout.write("NOT good\n" if found else "good\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
