"""An order is one kind from its birth, and names something."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.orders import AgentPurge, MemoryBatch, UserPurge

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "ids",
    [
        (),
        [],
        ["a"],
        "abc",
        None,
        ("",),
        ("a", ""),
        ("a", None),
        (1,),
        (b"a",),
        ("a", "half \ud83d pair"),
        {"a"},
    ],
)
def test_a_batch_that_names_nothing_or_no_strings_cannot_be_made(ids):
    with pytest.raises(ValueError, match=r"(batch needs|memory id)"):
        MemoryBatch(memory_ids=ids)


@pytest.mark.parametrize("value", ["", None, 5, b"u", ["u"], "\ud800"])
def test_a_purge_of_nobody_cannot_be_made(value):
    with pytest.raises(ValueError, match="user id"):
        UserPurge(user_id=value)
    with pytest.raises(ValueError, match="agent id"):
        AgentPurge(agent_id=value)


def test_a_batch_cannot_be_emptied_or_turned_into_a_purge_later():
    batch = MemoryBatch(memory_ids=("a",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.memory_ids = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="batch needs"):
        dataclasses.replace(batch, memory_ids=())
    with pytest.raises(TypeError):
        dataclasses.replace(batch, user_id="u")  # type: ignore[call-arg]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_ids_are_kept_as_they_were_given(ids):
    assert MemoryBatch(memory_ids=tuple(ids)).memory_ids == tuple(ids)


def test_neither_reprs_nor_errors_show_ids():
    shown = [
        repr(MemoryBatch(memory_ids=(CANARY,))),
        repr(UserPurge(user_id=CANARY)),
        repr(AgentPurge(agent_id=CANARY)),
    ]
    with pytest.raises(ValueError, match="memory id") as caught:
        MemoryBatch(memory_ids=(CANARY, ""))
    with pytest.raises(ValueError, match="surrogate") as half:
        UserPurge(user_id=CANARY + "\ud800")
    assert half.value.__cause__ is None
    assert half.value.__suppress_context__
    for text in [*shown, str(caught.value), str(half.value)]:
        assert CANARY not in text
