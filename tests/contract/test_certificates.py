"""Certificates: what a stranger can check, and what nobody can change."""

import pytest

from ledger.audit.published import Published
from ledger.audit.sealing import Sealer
from ledger.certificates.checking import check_certificate, check_items, check_subject
from ledger.certificates.issuing import issue, open_up
from ledger.certificates.openings import read_opening
from ledger.keys import write_key
from ledger.macs import Macs
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS

IDS = [f"m{n}" for n in range(25)]


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
