"""The root over a request's ids: the tree of RFC 6962, whatever the number of ids."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.merkle import root_of
from ledger.items import _leaves, chunk_root, list_root, subject_binding, subject_nonce

SALT = b"s" * 32


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100, 101, 255, 256, 257])
def test_a_chunks_root_is_that_of_the_tree_over_its_leaves(count):
    ids = [f"m{n}" for n in range(count)]
    assert chunk_root(SALT, 7, ids) == root_of(_leaves(SALT, 7, ids))


def test_place_salt_id_and_chunk_size_all_count():
    roots = {
        list_root(SALT, ["a", "b", "c"], 2),
        list_root(SALT, ["b", "a", "c"], 2),
        list_root(SALT, ["a", "b", "d"], 2),
        list_root(SALT, ["a", "b", "c"], 3),
        list_root(b"t" * 32, ["a", "b", "c"], 2),
    }
    assert len(roots) == 5
    assert {count for _, count in roots} == {3}


def test_a_binding_tells_project_kind_and_name_apart():
    nonce = subject_nonce(SALT)
    made = [
        subject_binding(nonce, "shop", "user", "alice"),
        subject_binding(nonce, "shop", "agent", "alice"),
        subject_binding(nonce, "shopa", "user", "lice"),
        subject_binding(bytes(32), "shop", "user", "alice"),
    ]
    assert len(set(made)) == 4
    assert made[0] == subject_binding(nonce, "shop", "memories", "alice")


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**40),
    st.lists(st.text(st.characters(codec="utf-8")), max_size=5),
)
def test_each_id_is_a_leaf_behind_an_hmac_of_its_place(salt, first, ids):
    expected = []
    for place, item in enumerate(ids, first):
        own = hmac.digest(salt, place.to_bytes(8, "big"), "sha256")
        expected.append(hashlib.sha256(b"\x00expunge/item/v1\n" + own + item.encode()).digest())
    assert list(_leaves(salt, first, ids)) == expected
