"""128 bits by which ids are told apart, by Python's own hash or by BLAKE2."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.digests import Digests, is_secret

SIPHASH = {"algorithm": "siphash13", "hash_bits": 64, "width": 64, "cutoff": 0}
RANDOM = {"hash_randomization": 1, "ignore_environment": 0}


def secret(*, hash_info=(), flags=(), environment=()):
    return is_secret(
        SimpleNamespace(**SIPHASH | dict(hash_info)),
        SimpleNamespace(**RANDOM | dict(flags)),
        dict(environment),
    )


@pytest.mark.parametrize("sip", [True, False])
@given(texts=st.lists(st.text(st.characters(codec="utf-8")), unique=True))
def test_a_text_has_one_digest_whatever_stands_beside_it_and_others_have_others(sip, texts):
    digests = Digests(sip=sip)
    together = list(zip(*digests.of(texts), strict=True))
    singly = [
        (one, other) for each in texts for one, other in zip(*digests.of([each]), strict=True)
    ]
    assert together == singly
    assert len(set(together)) == len(texts)
    assert all(-(1 << 63) <= each < 1 << 63 for pair in together for each in pair)


@pytest.mark.parametrize("sip", [True, False])
def test_texts_that_are_the_same_bytes_in_memory_are_told_apart(sip):
    one, other = Digests(sip=sip).of(["AB", "\u4241"])
    assert one[0] != one[1]
    assert other[0] != other[1]


@pytest.mark.parametrize("sip", [True, False])
def test_each_has_a_key_of_its_own(sip):
    assert Digests(sip=sip).of(["a"]) != Digests(sip=sip).of(["a"])


def test_the_hash_is_used_where_its_key_is_random():
    assert secret()
    assert secret(environment={"PYTHONHASHSEED": "random"})
    assert secret(flags={"ignore_environment": 1}, environment={"PYTHONHASHSEED": "0"})


@pytest.mark.parametrize(
    "odd",
    [
        {"environment": {"PYTHONHASHSEED": "7"}},
        {"environment": {"PYTHONHASHSEED": "0"}},
        {"flags": {"hash_randomization": 0}},
        {"hash_info": {"algorithm": "fnv"}},
        {"hash_info": {"hash_bits": 32}},
        {"hash_info": {"width": 32}},
        {"hash_info": {"cutoff": 7}},
    ],
)
def test_the_hash_is_not_used_where_somebody_may_know_its_key(odd):
    assert not secret(**odd)
