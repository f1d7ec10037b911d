"""What the producer package offers."""

import inspect

import producer
from producer import Producer


def test_the_public_methods_say_everything_by_their_signature():
    methods = {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(Producer, inspect.isfunction)
        if not name.startswith("_")
    }
    assert set(methods) == {
        *("delete_memories", "purge_user", "purge_agent", "hand_in_many"),
        *("status", "wait"),
    }
    for name in ("delete_memories", "purge_user", "purge_agent"):
        optional = list(methods[name].parameters.values())[2:]
        assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in optional)


def test_all_is_true():
    assert all(hasattr(producer, name) for name in producer.__all__)
