"""Certificates: what a stranger can check, and what nobody can change."""

import json
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.audit.notes import Signer, open_checkpoint, sign_checkpoint
from ledger.audit.published import Published
from ledger.audit.sealing import Sealer
from ledger.canonical import canonical
from ledger.certificates.checking import check_certificate, check_items, check_subject
from ledger.certificates.issuing import issue, open_up
from ledger.certificates.openings import read_opening
from ledger.certificates.proofs import parse_proof, write_proof
from ledger.clock import from_wall, wall_us
from ledger.errors import AuditError, ConflictError, KeysError, NotFoundError, RequestError
from ledger.keys import write_key
from ledger.macs import Macs
from ledger.retention import prune_old
from ledger.schema import request
from ledger.states import Certainty, Kind
from ledger.tasks import Dead
from tests import verify_certificate
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, make_order

IDS = [f"m{n}" for n in range(25)]
# What is shown there has nothing to do with the database.
on_one_database = pytest.mark.parametrize("worlds", ["sqlite"], indirect=True)


@pytest.fixture
def seal(world, tmp_path):
    """Seal what waits; gives the public keys."""
    write_key(tmp_path / "signing.key", "ab" * 32)
    published = Published(tmp_path / "audit")
    sealer = Sealer(world.database, keys_dir=tmp_path, published=published, owner="s")

    def run():
        sealer.round()
        return published.keys()

    return run


def done(world, ids=IDS, **order):
    receipt = world.submit(ids, **order)
    world.run(Memos(ids))
    return receipt.id


def test_a_request_that_ended_has_a_certificate_that_verifies_by_the_public_key_alone(world, seal):
    request_id = done(world, subject="alice", verify="full")
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    checked = check_certificate(made, keys)
    assert checked.faults == []
    said = checked.statement or {}
    assert (said["result"], said["certainty"]) == ("complete", "verified")
    assert said["counts"]["verified_absent"] == said["scope"]["unique"] == 25
    assert said["performed_by"]["calls"] == 3
    assert said["verified_by"]["calls"] > 0
    assert b"alice" not in made
    assert b'"m1' not in made


def test_whoever_has_the_list_and_the_opening_can_show_that_it_is_about_it(world, seal):
    request_id = done(world, subject="alice")
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    opening = open_up(world.database, Macs(KEYS), request_id, generation=1, principal="op")
    opening = read_opening(opening.file())

    def faults(check, value):
        checked = check_certificate(made, keys)
        check(checked, opening, value)
        return checked.faults

    assert faults(check_items, IDS) == []
    assert faults(check_items, [*IDS, IDS[3]]) == []
    assert "others, or in another order" in faults(check_items, IDS[::-1])[0]
    assert "has 24 ids" in faults(check_items, IDS[:-1])[0]
    assert faults(check_subject, "alice") == []
    assert "somebody else" in faults(check_subject, "bob")[0]


def test_the_second_verifier_is_a_command_of_its_own(world, seal, tmp_path, capsys):
    request_id = done(world)
    keys = [str(key) for key in seal()]
    names = {name: str(tmp_path / name) for name in ("made", "opening", "items", "fewer")}
    opening = open_up(world.database, Macs(KEYS), request_id, generation=1, principal="op")
    Path(names["made"]).write_bytes(issue(world.database, request_id, keys=seal()))
    Path(names["opening"]).write_bytes(opening.file())
    Path(names["items"]).write_text("\n".join(IDS))
    Path(names["fewer"]).write_text("\n".join(IDS[1:]))

    def run(*arguments):
        code = verify_certificate.main([names.get(one, one) for one in arguments])
        return code, capsys.readouterr().out

    assert run("made", *keys) == (0, "good\n")
    assert run("made", *keys, "--opening", "opening", "--items", "items") == (0, "good\n")
    code, says = run("made", *keys, "--opening", "opening", "--items", "fewer")
    assert (code, says) == (1, "another list\nNOT good\n")
    for wrong in (["made"], ["made", *keys, "--items", "items"], ["nowhere", *keys]):
        with pytest.raises(SystemExit) as ended:
            run(*wrong)
        assert ended.value.code == 2


def test_the_second_verifier_finds_the_same_certificate_and_list_good(world, seal):
    request_id = done(world, subject="alice", due_at=from_wall(wall_us()) + timedelta(days=1))
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    opening = open_up(world.database, Macs(KEYS), request_id, generation=1, principal="op")
    said = verify_certificate.check(made, [str(key) for key in keys])
    assert said["in_time"] is True
    verify_certificate.check_list(said, json.loads(opening.file()), IDS)
    with pytest.raises(verify_certificate.WrongError):
        verify_certificate.check_list(said, json.loads(opening.file()), IDS[1:])


@on_one_database
def test_both_verifiers_know_every_kind_of_end(world, seal):
    """Purges and batches, verified, sampled, believed, refused, still there, cancelled."""
    ended = [done(world), done(world, verify="none"), done(world, verify="full")]
    for kind in (Kind.USER, Kind.AGENT):
        for stubborn, blind in ((0, False), (9, False), (0, True)):
            ended.append(world.submit(kind=kind, subject="alice").id)
            memos = Memos([], subjects={"alice"}, stubborn={"alice": stubborn}, blind=blind)
            world.run(memos)
    for memos in (Memos(IDS, stubborn={"m3": 9}), Memos(IDS, blind=True), Memos(IDS[:20])):
        ended.append(world.submit(IDS, verify="full").id)
        world.run(memos)
    cancelled = world.submit(["x"])
    world.ledger.cancel(cancelled.id, principal="op", reason="x")
    ended.append(cancelled.id)
    keys = seal()
    seen = set()
    for request_id in ended:
        made = issue(world.database, request_id, keys=keys)
        said = verify_certificate.check(made, [str(key) for key in keys])
        view = world.view(request_id)
        assert (said["result"], said["certainty"]) == (view.result, view.certainty)
        assert said["says"] == (view.seen or "Nothing of it was carried out.")
        seen.add((said["result"], said["certainty"]))
    assert {certainty for _, certainty in seen} == {None, *Certainty}


def leaves_of(value, path=()):
    """All places in a JSON value, the containers too."""
    yield path
    inner = []
    if isinstance(value, dict | list):
        inner = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, each in inner:
        yield from leaves_of(each, (*path, key))


def changed(value, path, change):
    """Give a copy in which one place is another."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = change(inner[path[-1]])
    return copy


def other(value):
    """Something of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, dict):
        return {**value, "x": 1}
    return "x"


@on_one_database
@pytest.mark.fault("F125")
def test_every_field_that_is_changed_is_found_and_named(world, seal):
    keys = seal_some(world, seal)
    vkeys = [str(key) for key in keys]
    made = issue(world.database, world.rows(request)[0].id, keys=keys)
    certificate = json.loads(made)
    verify_certificate.check(made, vkeys)
    assert check_certificate(made, keys).good
    places = [path for path in leaves_of(certificate) if path]
    assert len(places) > 60
    for path in places:
        for change in CHANGES:
            forged = changed(certificate, path, change)
            if forged == certificate:
                continue
            data = canonical(forged) + b"\n"
            faults = check_certificate(data, keys).faults
            assert faults, path
            named = ".".join(str(key) for key in path if isinstance(key, str))
            told = " ".join(faults)
            assert named in told or path[0] in ("proof", "sealed", "salt", "format"), (path, told)
            assert path[0] in told or path[0] == "format", (path, told)
            with pytest.raises(verify_certificate.WrongError):
                verify_certificate.check(data, vkeys)
        *outer, last = path
        if isinstance(last, str):
            forged = json.loads(json.dumps(certificate))
            inner = forged
            for key in outer:
                inner = inner[key]
            del inner[last]
            assert check_certificate(canonical(forged) + b"\n", keys).faults, path


@on_one_database
@pytest.mark.fault("F125")
def test_every_way_to_bend_the_proof_or_the_file_is_found(world, seal, tmp_path):
    keys = seal_some(world, seal)
    made = issue(world.database, world.rows(request)[0].id, keys=keys)
    certificate = json.loads(made)
    proof = certificate["proof"]
    lines = proof.split("\n")
    index = int(lines[1].split()[1])
    hashes = lines[2 : lines.index("")]
    assert len(hashes) >= 3
    note = proof.partition("\n\n")[2]
    foreign = Signer(keys[0].name, b"f" * 32)
    signed = open_checkpoint(note, keys)
    extra = foreign.line(signed.text())
    swapped = [*lines[:2], hashes[1], hashes[0], *lines[4:]]
    proofs = {
        "index + 1": proof.replace(f"index {index}\n", f"index {index + 1}\n"),
        "index - 1": proof.replace(f"index {index}\n", f"index {index - 1}\n"),
        "index 0n": proof.replace(f"index {index}\n", f"index 0{index}\n"),
        "size + 1": proof.replace(f"\n{signed.size}\n", f"\n{signed.size + 1}\n"),
        "size - 1": proof.replace(f"\n{signed.size}\n", f"\n{signed.size - 1}\n"),
        "hash gone": proof.replace(f"{hashes[0]}\n", ""),
        "hash twice": proof.replace(hashes[0], f"{hashes[0]}\n{hashes[0]}"),
        "hashes swapped": "\n".join(swapped),
        "hash no base64": proof.replace(hashes[0], hashes[0][:-1] + "*"),
        "extra data": proof.replace("\nindex", "\nextra AAAA\nindex"),
        "text before": "x\n" + proof,
        "text behind": proof + "x",
        "no line break at the end": proof[:-1],
        "CRLF": proof.replace("\n", "\r\n"),
        "another log": proof.replace(keys[0].name, "expunge/0000000000000000"),
        "unknown key": write_proof(
            index, parse_proof(proof).path, sign_checkpoint(signed, [foreign])
        ),
        "name same, id other": write_proof(
            index,
            parse_proof(proof).path,
            signed.text() + "\n" + note.rpartition("\n\n")[2].replace(" ", " AAAA", 2)[:-1] + "\n",
        ),
        "17 signatures": proof + extra * 16,
        "no signature": proof.rpartition("\n\n")[0] + "\n\n",
    }
    vkeys = [str(key) for key in keys]
    for name, bent in proofs.items():
        assert bent != proof, name
        data = canonical({**certificate, "proof": bent}) + b"\n"
        checked = check_certificate(data, keys)
        assert any(fault.startswith("proof: ") for fault in checked.faults), name
        assert checked.checkpoint is None, name
        with pytest.raises(verify_certificate.WrongError):
            verify_certificate.check(data, vkeys)
    files = {
        "empty": b"",
        "cut": made[:-10],
        "no line break": made[:-1],
        "two line breaks": made + b"\n",
        "CRLF": made[:-1] + b"\r\n",
        "BOM": b"\xef\xbb\xbf" + made,
        "indented": json.dumps(certificate, indent=2).encode() + b"\n",
        "another order": json.dumps(dict(reversed(certificate.items()))).encode() + b"\n",
        "a field twice": made.replace(b'{"format"', b'{"salt":"00","format"', 1),
        "a field more": canonical({**certificate, "x": 1}) + b"\n",
        "no object": b"[]\n",
        "nested deep": b"[" * 100_000,
        "a long number": b'{"format":' + b"9" * 10_000 + b"}\n",
        "a number that is no number": made.replace(b'"generation":1', b'"generation":NaN', 1),
        "one point zero": made.replace(b'"generation":1', b'"generation":1.0', 1),
        "another version": made.replace(b"certificate/v1", b"certificate/v2"),
        "no UTF-8": made.replace(b"says", b"s\xffys", 1),
    }
    for name, data in files.items():
        assert check_certificate(data, keys).faults, name
        with pytest.raises(verify_certificate.WrongError):
            verify_certificate.check(data, vkeys)
    assert check_certificate(made, []).faults
    good = sign_checkpoint(signed, [Signer(keys[0].name, bytes.fromhex("ab" * 32)), foreign])
    also = canonical({**certificate, "proof": write_proof(index, parse_proof(proof).path, good)})
    assert check_certificate(also + b"\n", keys).good
    verify_certificate.check(also + b"\n", vkeys)


@on_one_database
@pytest.mark.fault("F125")
def test_ten_thousand_flipped_bytes_are_all_found(world, seal):
    keys = seal_some(world, seal)
    made = issue(world.database, world.rows(request)[0].id, keys=keys)
    draw = random.Random(125)
    for _ in range(10_000):
        place, bit = draw.randrange(len(made)), 1 << draw.randrange(8)
        bent = bytearray(made)
        bent[place] ^= bit
        assert not check_certificate(bytes(bent), keys).good, (place, bit)


def nothing(_value):
    return None


CHANGES = (other, nothing, str)


def seal_some(world, seal):
    for number in range(4):
        done(world, [f"x{number}"], subject="alice")
    return seal()


def test_an_end_that_is_not_sealed_yet_has_no_certificate(world, seal):
    done(world)
    keys = seal()
    request_id = done(world, ["x"])
    with pytest.raises(ConflictError, match="not sealed yet"):
        issue(world.database, request_id, keys=keys)
    with pytest.raises(NotFoundError):
        issue(world.database, "nobody", keys=keys)
    with pytest.raises(ConflictError, match="has not ended yet"):
        issue(world.database, world.submit(["y"]).id, keys=keys)


def test_each_generation_has_a_certificate_of_its_own(world, seal):
    receipt = world.submit(IDS, verify="none")
    world.run(lambda _task: Dead(bucket="refused"))
    world.ledger.redrive(receipt.id, principal="op", reason="x")
    world.run(Memos(IDS))
    keys = seal()

    def said(**which):
        made = issue(world.database, receipt.id, keys=keys, **which)
        return check_certificate(made, keys).statement or {}

    assert (said()["generation"], said()["result"]) == (2, "complete")
    assert (said(generation=1)["result"], said(generation=1)["counts"]["refused"]) == ("failed", 25)
    assert said(generation=1)["scope"]["items_root"] == said()["scope"]["items_root"]
    with pytest.raises(NotFoundError, match="generation 3"):
        said(generation=3)


def test_the_root_is_that_of_the_list_however_its_chunks_were_divided(world, seal):
    absent = Memos([one for one in IDS if one not in ("m3", "m14")])
    receipt = world.submit(IDS, verify="none", chunk_size=10)
    world.run(absent)
    keys = seal()
    made = issue(world.database, receipt.id, keys=keys)
    opening = open_up(world.database, Macs(KEYS), receipt.id, generation=1, principal="op")
    checked = check_certificate(made, keys)
    check_items(checked, read_opening(opening.file()), IDS)
    assert checked.faults == []


def test_a_record_that_was_changed_gives_no_certificate(world, seal):
    request_id = done(world)
    keys = seal()
    text = "CAST(replace(CAST(payload AS TEXT), 'sampled', 'verified') AS BLOB)"
    if not world.database.is_sqlite:
        text = "convert_to(replace(convert_from(payload, 'UTF8'), 'sampled', 'verified'), 'UTF8')"
    ends = "SELECT id FROM event WHERE type = 'request.finished'"
    world.tamper(f"UPDATE event_body SET payload = {text} WHERE event IN ({ends})")  # noqa: S608 - ours
    with pytest.raises(AuditError, match="does not hold"):
        issue(world.database, request_id, keys=keys)


@pytest.mark.fault("F122")
def test_certificates_outlive_scrubbing_and_their_openings_the_keys(world, seal):
    request_id = done(world, subject="alice")
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    macs = Macs(KEYS)
    handed_out = open_up(world.database, macs, request_id, generation=1, principal="op").file()
    world.clock.tick(15 * 86_400)
    world.ledger.scrub(redrive_days=14, row_days=14)
    seal()
    assert open_up(world.database, macs, request_id, generation=1, principal="op").file() == (
        handed_out
    )
    world.sql("UPDATE request SET key_epoch = 7")
    with pytest.raises(KeysError, match="not here any more"):
        open_up(world.database, macs, request_id, generation=1, principal="op")
    later = issue(world.database, request_id, keys=keys)
    for each in (made, later):
        checked = check_certificate(each, keys)
        check_subject(checked, read_opening(handed_out), "alice")
        check_items(checked, read_opening(handed_out), IDS)
        assert checked.faults == []
        verify_certificate.check(each, [str(key) for key in keys])


@pytest.mark.fault("F126")
def test_certificates_outlive_the_pruning_of_what_they_are_made_of(world, seal):
    request_id = done(world)
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    world.clock.tick(3 * 86_400)
    other_id = done(world, ["x"])
    seal()
    assert prune_old(world.database, keep_days=2, principal="sealer") > 0
    with pytest.raises(NotFoundError, match="pruned"):
        issue(world.database, request_id, keys=keys)
    assert check_certificate(made, keys).good
    assert check_certificate(issue(world.database, other_id, keys=keys), keys).good


def test_what_is_missing_and_was_not_pruned_is_not_called_pruned(world, seal):
    request_id = done(world, ["x"])
    keys = seal()
    world.clock.tick(3 * 86_400)
    other_id = done(world)
    seal()
    assert prune_old(world.database, keep_days=2, principal="sealer") > 0
    delete_end(world, other_id)
    with pytest.raises(AuditError, match="no pruning on record covers it"):
        issue(world.database, other_id, keys=keys)
    with pytest.raises(AuditError, match="no pruning on record covers it"):
        issue(world.database, other_id, keys=keys, generation=1)
    with pytest.raises(NotFoundError, match="pruned"):
        issue(world.database, request_id, keys=keys)


def test_a_last_end_that_is_missing_is_not_stood_in_for_by_one_before(world, seal):
    receipt = world.submit(IDS, verify="none")
    world.run(lambda _task: Dead(bucket="refused"))
    world.ledger.redrive(receipt.id, principal="op", reason="x")
    world.run(Memos(IDS))
    keys = seal()
    delete_end(world, receipt.id)
    with pytest.raises(AuditError, match="missing"):
        issue(world.database, receipt.id, keys=keys)
    made = issue(world.database, receipt.id, keys=keys, generation=1)
    assert check_certificate(made, keys).good


def test_a_request_that_ended_without_an_end_on_record_says_which_of_two_it_is(world, seal):
    given_up = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=10)
    world.ledger.cancel(given_up.request_id, principal="op", reason="x")
    with pytest.raises(NotFoundError, match="before it was handed in whole"):
        issue(world.database, given_up.request_id, keys=seal())
    gone = done(world)
    world.tamper("UPDATE event SET request = NULL WHERE type = 'request.finished'")
    with pytest.raises(AuditError, match="missing in the record"):
        issue(world.database, gone, keys=seal())


def delete_end(world, request_id):
    """Delete what was recorded of a request's last end, as its owner could by hand."""
    last = "SELECT max(id) FROM event WHERE type = 'request.finished' AND request = :id"
    assert world.tamper(f"DELETE FROM event_body WHERE event = ({last})", id=request_id) == 1  # noqa: S608 - ours


@on_one_database
def test_an_opening_without_its_salt_shows_the_person_and_no_list(world, seal):
    request_id = done(world, subject="alice")
    keys = seal()
    made = issue(world.database, request_id, keys=keys)
    whole = open_up(world.database, Macs(KEYS), request_id, generation=1, principal="op")
    part = replace(whole, salt=None)
    checked = check_certificate(made, keys)
    check_subject(checked, part, "alice")
    assert checked.good
    check_items(checked, part, IDS)
    assert "has no salt" in checked.faults[0]
    for wrong in (
        replace(whole, salt=bytes(32)),
        replace(whole, subject_nonce=bytes(32)),
        replace(whole, request="r"),
        replace(whole, generation=2),
    ):
        checked = check_certificate(made, keys)
        check_subject(checked, wrong, "alice")
        assert checked.faults[0].startswith("opening: ")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":"expunge-opening/v1"}'])
def test_what_is_no_opening_is_refused(data):
    with pytest.raises(RequestError, match="no opening"):
        read_opening(data)
