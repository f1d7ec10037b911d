"""Trees and proofs after RFC 6962: the published vectors, and properties of all sizes."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "merkle" / "testdata"
FILES = sorted(VECTORS.rglob("*.json"))
# A root of 12 bytes is expected to pass there; ours have 32.
STRICTER = {"sizes-are-equal-one-and-proof-is-empty.json"}

# github google/certificate-transparency, python/ct/crypto/merkle_test.py
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
LEAVES = [*LEAVES, "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def decoded(value):
    return base64.b64decode(value or "")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_published_vectors(file):
    case = json.loads(file.read_text())
    proof = [decoded(each) for each in case["proof"] or []]
    if "leafIdx" in case:
        place = case["leafIdx"], case["treeSize"]
        good = verify_inclusion(decoded(case["leafHash"]), *place, proof, decoded(case["root"]))
    else:
        sizes = case["size1"], case["size2"]
        good = verify_consistency(*sizes, decoded(case["root1"]), decoded(case["root2"]), proof)
    assert good == (not case["wantErr"] and file.name not in STRICTER)


def test_all_vectors_are_there():
    assert len(FILES) == 196


def test_the_reference_trees_of_certificate_transparency():
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]
    assert EMPTY_ROOT.hex().startswith("e3b0c44298fc1c14")
    assert [root_of(leaves[: n + 1]).hex() for n in range(8)] == ROOTS


def test_the_reference_hashes_of_transparency_dev():
    """Github transparency-dev/merkle, rfc6962/rfc6962_test.go."""
    assert leaf_hash(b"L123456").hex() == (
        "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    )
    assert node_hash(b"N123", b"N456").hex() == (
        "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


def straight(leaves):
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(straight(leaves[:k]), straight(leaves[k:]))


@given(st.integers(1, 600), st.data())
def test_every_leaf_can_be_proved_and_no_other_fits(size, data):
    leaves = [leaf_hash(b"%d" % n) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    root = straight(leaves)
    path = inclusion_path(index, size, lambda start, end: straight(leaves[start:end]))

    assert root_of(leaves) == root
    assert verify_inclusion(leaves[index], index, size, path, root)
    assert not verify_inclusion(leaves[index - 1], index, size, path, root) or size == 1
    for wrong in ((index + 1, size), (index - 1, size), (index, index)):
        assert not verify_inclusion(leaves[index], *wrong, path, root)
    for changed in ([*path, root], path[:-1], [root, *path[1:]]):
        if changed != path:
            assert not verify_inclusion(leaves[index], index, size, changed, root)


@given(st.integers(1, 600), st.data())
def test_every_earlier_tree_can_be_shown_to_be_the_beginning(new, data):
    leaves = [leaf_hash(b"%d" % n) for n in range(new)]
    old = data.draw(st.integers(1, new))
    before, after = straight(leaves[:old]), straight(leaves)
    path = consistency_path(old, new, lambda start, end: straight(leaves[start:end]))

    assert verify_consistency(old, new, before, after, path)
    assert not verify_consistency(old, new, after[::-1], after, path)
    assert not verify_consistency(old, new, before, after[::-1], path)
    assert not verify_consistency(old, new, before, after, [*path, after])
    if path:
        assert not verify_consistency(old, new, before, after, path[:-1])


@given(st.integers(0, 3_000), st.integers(0, 600))
def test_a_frontier_goes_on_where_another_ended(first, more):
    whole, begun = Frontier(), Frontier()
    for n in range(first):
        begun.append(leaf_hash(b"%d" % n))
    carried_on = Frontier(first, begun.peaks)
    for n in range(first + more):
        whole.append(leaf_hash(b"%d" % n))
    for n in range(first, first + more):
        carried_on.append(leaf_hash(b"%d" % n))

    assert carried_on.root() == whole.root()
    assert begun.made + carried_on.made == whole.made
    assert len(whole.peaks) == whole.size.bit_count()
    assert len([one for one in whole.made if one[0] == 1]) == whole.size // 256


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_leaf_that_is_not_there_has_no_proof(index, size):
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_path(index, size, lambda _start, _end: b"")


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3), (-1, 0)])
def test_trees_that_do_not_follow_have_no_proof(old, new):
    with pytest.raises(ValueError, match="No consistency"):
        consistency_path(old, new, lambda _start, _end: b"")
    assert not verify_consistency(old, new, b"x" * 32, b"x" * 32, [])
