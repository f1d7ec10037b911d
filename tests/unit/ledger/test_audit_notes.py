"""Signed notes as C2SP writes them: published examples, and what must not be taken for one."""

import base64
import json
import random
from pathlib import Path

import pytest

from ledger.audit.notes import Checkpoint, PublicKey, Signer, open_checkpoint, sign_checkpoint
from tests.verify_audit_export import Keys as ForeignKeys

VECTORS = Path(__file__).parents[2] / "vectors" / "wycheproof" / "ed25519_test.json"
ORIGIN = "expunge/0123456789abcdef"
SIGNER = Signer(ORIGIN, b"s" * 32)
CHECKPOINT = Checkpoint(ORIGIN, 1024, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, [SIGNER])

# C2SP signed-note.md, "Verifier keys", example.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_SIGNATURE = (
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
)
# golang.org/x/mod/sumdb/note, note_test.go.
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_LINE = (
    "\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_example_of_the_specification():
    key = PublicKey.parse(SPEC_KEY)
    signature = base64.b64decode(SPEC_SIGNATURE)

    assert str(key) == SPEC_KEY
    assert signature[:4].hex() == key.id == "530d903a"
    assert key.signed("This is an example message.\n", signature[4:])
    assert not key.signed("This is an example message!\n", signature[4:])


def test_the_example_of_go_is_signed_byte_for_byte():
    signer = Signer("PeterNeumann", GO_SEED)

    assert str(signer.public) == GO_KEY
    assert signer.line(GO_TEXT) == GO_LINE


def test_wycheproofs_signatures():
    groups = json.loads(VECTORS.read_text())["testGroups"]
    keys = [PublicKey("x", bytes.fromhex(group["publicKey"]["pk"])) for group in groups]
    cases = [
        (key, case) for key, group in zip(keys, groups, strict=True) for case in group["tests"]
    ]
    assert len(cases) == 151
    for key, case in cases:
        try:
            text = bytes.fromhex(case["msg"]).decode()
        except UnicodeDecodeError:
            continue  # no text, so never a note
        assert key.signed(text, bytes.fromhex(case["sig"])) == (case["result"] == "valid"), case


@pytest.mark.parametrize("place", range(len(str(SIGNER.public))))
def test_a_changed_public_key_is_none(place):
    vkey = str(SIGNER.public)
    changed = vkey[:place] + chr(ord(vkey[place]) ^ 1) + vkey[place + 1 :]
    with pytest.raises(ValueError, match="no public key"):
        PublicKey.parse(changed)


def test_a_checkpoint_is_opened_by_both_verifiers():
    assert open_checkpoint(NOTE, [SIGNER.public]) == CHECKPOINT
    foreign = ForeignKeys([str(SIGNER.public)]).read(NOTE)
    assert foreign == (CHECKPOINT.origin, CHECKPOINT.size, CHECKPOINT.root)


def test_signatures_by_others_are_passed_over():
    other = Signer(ORIGIN, b"o" * 32)
    both = sign_checkpoint(CHECKPOINT, [other, SIGNER])

    assert open_checkpoint(both, [SIGNER.public]) == CHECKPOINT
    assert open_checkpoint(both, [other.public, SIGNER.public]) == CHECKPOINT
    with pytest.raises(ValueError, match="None of the trusted keys"):
        open_checkpoint(NOTE, [other.public])


TEXT, LINE = NOTE.split("\n\n")
BAD = {
    "no signature": TEXT + "\n\n",
    "17 signatures": TEXT + "\n\n" + LINE * 17,
    "the same signature twice": TEXT + "\n\n" + LINE * 2,
    "CRLF": NOTE.replace("\n", "\r\n"),
    "no final newline": NOTE[:-1],
    "text before it": "hello\n" + NOTE,
    "text behind it": NOTE + "hello\n",
    "no empty line": NOTE.replace("\n\n", "\n"),
    "another size": NOTE.replace("1024", "1025"),
    "a size with zeros": sign_checkpoint(Checkpoint(ORIGIN, 1, b"x" * 32), [SIGNER]).replace(
        "\n1\n", "\n01\n"
    ),
    "a name of another key": NOTE.replace(f"\u2014 {ORIGIN}", "\u2014 expunge/other"),
    "a short root": sign_checkpoint(Checkpoint(ORIGIN, 1, b"x" * 31), [SIGNER]),
    "an extension line": TEXT + "\nmore\n\n" + LINE,
    "a hyphen for the dash": NOTE.replace("\u2014", "-"),
    "nothing": "",
}


@pytest.mark.parametrize("note", BAD.values(), ids=BAD.keys())
def test_what_is_no_checkpoint_is_refused_by_both_verifiers(note):
    with pytest.raises(ValueError, match=r"It is no|is wrong|None of"):
        open_checkpoint(note, [SIGNER.public])
    if note != BAD["the same signature twice"]:  # harmless; ours is stricter
        with pytest.raises(ValueError):  # noqa: PT011 - whichever step notices it
            ForeignKeys([str(SIGNER.public)]).read(note)


def test_no_changed_byte_passes():
    rng = random.Random(7)
    raw = NOTE.encode()
    for _ in range(2_000):
        at, to = rng.randrange(len(raw)), rng.randrange(256)
        changed = raw[:at] + bytes([to]) + raw[at + 1 :]
        if changed == raw:
            continue
        try:
            note = changed.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(ValueError):  # noqa: PT011 - as above
            open_checkpoint(note, [SIGNER.public])


def test_nothing_shows_a_private_key():
    assert "73" * 32 not in repr(SIGNER)
    assert repr(SIGNER) == f"Signer({SIGNER.public.id})"
