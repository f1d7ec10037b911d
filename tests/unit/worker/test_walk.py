"""Walks over lists: whatever a server does with pages, the end is reached and no id is lost."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.states import Kind, Sight
from ledger.tasks import Page, Seen, Task
from ledger.walks import Walk
from memos_api import CLOUD, SEARCH, Cloud, Dialect, Item, Listing, SelfHosted
from tests.support.worker_fakes import make_task
from worker.walk import LATER_BY_US, MOST_LEFT, MOST_PAGES, begun, gave_up, owner_of, took

CUTOFF = 1_800_000_000_000_000
TWO_CUBES = SelfHosted(cubes=("one", "two"))
FINDS = Cloud(searches=True)


def purge(**changed):
    values = {"kind": Kind.USER, "subject": "u", "ids": (), "call": "list", "cutoff_us": CUTOFF}
    return make_task(**{**values, **changed})


def batch(**changed):
    return make_task(**{"subject": "u", "ids": (), "call": "list", **changed})


def item(name, *, owned=True, created_us=CUTOFF - 1):
    return Item(id=name, owned=owned, created_us=created_us)


def page(*items, unchecked=(), deleted=()):
    """Make a page of items, or of ids of what is the subject's."""
    made = tuple(one if isinstance(one, Item) else item(one) for one in items)
    ids = frozenset(one.id for one in made) | frozenset(deleted)
    return Listing(items=made, ids=ids, unchecked=unchecked)


EMPTY = page()


@dataclass
class Server:
    """Pages by leg. Beyond the last: an empty one, or whatever `beyond` says."""

    pages: dict[str, list[Listing]]
    beyond: str = "empty"
    asked: list[tuple[str, int]] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)

    def look(self, leg: str, number: int) -> Listing:
        self.asked.append((leg, number))
        pages = self.pages.get(leg) or [EMPTY]
        if number <= len(pages):
            listing = pages[number - 1]
        elif self.beyond == "empty":
            listing = EMPTY
        else:
            listing = pages[0 if self.beyond == "first" else -1]
        self.shown |= set(listing.memory_ids)
        return listing


def walk_through(task: Task, server: Server, dialect: Dialect = CLOUD) -> Seen:
    """Walk to the end, storing the walk between the pages as the ledger does."""
    for _ in range(10 * MOST_PAGES):
        walk = begun(task, dialect)
        move = took(task, server.look(walk.legs[0], walk.page), dialect)
        if isinstance(move, Seen):
            return move
        task = replace(task, walk=Walk.from_json(move.walk.to_json()))
    pytest.fail("the walk has no end")


def ended(
    task: Task, pages: dict[str, list[Listing]], dialect: Dialect = CLOUD
) -> tuple[Seen, Walk]:
    move = walk_through(task, Server(pages), dialect)
    assert move.walk is not None
    assert (move.walk.legs, move.walk.pages) == ((), ())
    return move, move.walk


# -- whose list, and which ------------------------------------------------------------------------


def test_whose_list_is_read():
    assert owner_of(purge()) == ("user", "u")
    assert owner_of(purge(kind=Kind.AGENT, subject="g")) == ("agent", "g")
    assert owner_of(batch()) == ("user", "u")
    assert owner_of(batch(subject=None)) is None


def test_a_walk_begins_with_all_legs_and_goes_on_where_it_was():
    assert begun(purge(), FINDS) == Walk(legs=("all", SEARCH))
    assert begun(batch(subject=None), TWO_CUBES) == Walk(legs=("one", "two"))
    under_way = Walk(legs=("two",), page=7)
    assert begun(purge(walk=under_way), TWO_CUBES) is under_way


# -- paging ---------------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "c", "a\nb", "\n", "é", "\x00"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3
)
PAGES = st.lists(
    st.tuples(st.lists(IDS, max_size=4), st.lists(IDS, max_size=2)).map(
        lambda both: page(*dict.fromkeys(both[0]), deleted=both[1])
    ),
    max_size=8,
)
BEYOND = st.sampled_from(["empty", "first", "last"])


@given(pages=PAGES, beyond=BEYOND, make=st.sampled_from([purge, batch]))
def test_whatever_the_paging_the_walk_ends_and_no_id_shown_is_lost(pages, beyond, make):
    server = Server({"all": pages}, beyond=beyond)

    move = walk_through(make(), server)

    assert move.walk is not None
    assert move.walk.present == server.shown
    assert move.sight is (Sight.PRESENT if server.shown else Sight.ABSENT)
    assert len(server.asked) <= len(pages) + 1


@given(ids=st.lists(IDS, unique=True, max_size=60), size=st.integers(1, 9), beyond=BEYOND)
def test_a_server_that_pages_is_read_to_its_last_page(ids, size, beyond):
    pages = [page(*ids[at : at + size]) for at in range(0, len(ids), size)]

    move = walk_through(batch(), Server({"all": pages}, beyond=beyond))

    assert move.walk is not None
    assert move.walk.present == set(ids)


@given(ids=st.lists(IDS, unique=True, min_size=1, max_size=20))
def test_a_server_that_ignores_paging_is_asked_twice(ids):
    server = Server({"one": [page(*ids)]}, beyond="first")

    move = walk_through(purge(), server, SelfHosted(cubes=("one",), searches=False))

    assert move.walk is not None
    assert move.walk.present == set(ids)
    assert server.asked == [("one", 1), ("one", 2)]


def test_what_is_shown_again_is_not_counted_twice():
    anybody = page(item("x", owned=None), item("y", owned=False))
    server = Server({"all": [anybody], SEARCH: [anybody]}, beyond="first")

    move = walk_through(purge(), server, FINDS)

    assert move.walk is not None
    assert (move.walk.unsaid, move.walk.foreign) == (1, 1)


def test_a_page_that_comes_again_later_ends_the_walk():
    server = Server({"all": [page("a"), page("b"), page("a"), page("c")]})

    move = walk_through(batch(), server)

    assert move.walk is not None
    assert move.walk.present == {"a", "b"}
    assert len(server.asked) == 3


def test_a_page_of_deleted_memories_only_is_not_the_end():
    pages = [page(deleted=("a",)), page("b", deleted=("c",)), page(deleted=("d",))]
    move, walk = ended(purge(), {"all": pages})
    assert (move.sight, walk.present) == (Sight.PRESENT, frozenset("b"))
    move, walk = ended(purge(), {"all": [page(deleted=("a",)), page(deleted=("d",))]})
    assert (move.sight, walk.present) == (Sight.ABSENT, frozenset())


def test_an_id_with_a_newline_is_not_taken_for_two():
    _, walk = ended(batch(), {"all": [page("a", "b"), page("a\nb"), page("c")]})
    assert walk.present == {"a", "b", "a\nb", "c"}


@given(one=PAGES, two=PAGES, beyond=BEYOND)
def test_every_cube_is_walked(one, two, beyond):
    server = Server({"one": one, "two": two}, beyond=beyond)

    move = walk_through(batch(subject=None), server, TWO_CUBES)

    assert move.walk is not None
    assert move.walk.present == server.shown
    assert {leg for leg, _ in server.asked} == {"one", "two"}
    assert {("one", 1), ("two", 1)} <= set(server.asked)


def test_a_page_of_one_cube_that_looks_like_one_of_another_is_no_repetition():
    server = Server({"one": [page("a")], "two": [page("a"), page("b")]})

    move = walk_through(batch(), server, replace(TWO_CUBES, searches=False))

    assert move.walk is not None
    assert move.walk.present == {"a", "b"}


# -- categories that are left out -----------------------------------------------------------------


def test_a_category_that_is_left_out_is_asked_for_alone():
    server = Server({"all": [page("a", unchecked=("skill", "event"))], "skill": [page("s")]})

    move = walk_through(purge(), server)

    assert move.walk is not None
    assert server.asked == [("all", 1), ("all", 2), ("skill", 1), ("skill", 2), ("event", 1)]
    assert (move.sight, move.walk.present, move.walk.unchecked) == (
        Sight.PRESENT,
        frozenset("as"),
        (),
    )


def test_a_category_that_is_left_out_on_several_pages_is_asked_for_once():
    pages = [page(one, unchecked=("skill",)) for one in "abc"]
    server = Server({"all": pages})

    walk_through(purge(), server)

    assert [leg for leg, _ in server.asked].count("skill") == 1


@pytest.mark.parametrize(
    ("empty", "make", "sight"),
    [
        (False, purge, Sight.UNKNOWN),
        (False, batch, Sight.UNKNOWN),
        (True, purge, Sight.ABSENT),
        (True, batch, Sight.ABSENT),
    ],
)
def test_of_what_is_left_out_alone_too_nothing_is_known(empty, make, sight):
    missing = page(unchecked=("skill",))
    move, walk = ended(
        make(), {"all": [missing], "skill": [missing]}, Cloud(missing_is_empty=empty)
    )
    assert (move.sight, walk.unchecked) == (sight, ("skill",))


def test_what_was_seen_is_there_whatever_else_is_not_known():
    missing = page(unchecked=("skill",))
    pages = {"all": [page("a", unchecked=("skill",))], "skill": [missing]}
    move, walk = ended(purge(), pages)
    assert (move.sight, walk.present, walk.unchecked) == (Sight.PRESENT, frozenset("a"), ("skill",))
    # Of ids it says nothing of those that were not seen, so that none of them may be called gone.
    move, walk = ended(batch(), pages)
    assert (move.sight, walk.present) == (Sight.UNKNOWN, frozenset("a"))


def test_a_kind_that_no_list_shows_alone_is_unchecked_at_once():
    missing = page(unchecked=("pref_mem",))
    move, walk = ended(purge(), {"one": [missing], "two": [missing]}, TWO_CUBES)
    assert (move.sight, walk.unchecked) == (Sight.UNKNOWN, ("pref_mem",))
    move, walk = ended(
        purge(), {"one": [missing], "two": [EMPTY]}, replace(TWO_CUBES, missing_is_empty=True)
    )
    assert (move.sight, walk.unchecked) == (Sight.ABSENT, ("pref_mem",))


# -- the search -----------------------------------------------------------------------------------


def test_the_search_comes_last_and_is_asked_once():
    server = Server({"all": [page(unchecked=("skill",))], SEARCH: [page("x"), page("y")]})

    move = walk_through(purge(), server, FINDS)

    assert move.walk is not None
    assert server.asked == [("all", 1), ("skill", 1), (SEARCH, 1)]
    assert (move.sight, move.walk.present) == (Sight.PRESENT, frozenset("x"))


def test_a_search_that_finds_nothing_proves_nothing_against_the_lists():
    move, walk = ended(purge(), {"all": [page("a")], SEARCH: [EMPTY]}, FINDS)
    assert (move.sight, walk.present) == (Sight.PRESENT, frozenset("a"))
    assert ended(purge(), {}, FINDS)[0].sight is Sight.ABSENT


def test_what_a_search_leaves_out_was_listed_before():
    server = Server({SEARCH: [page(unchecked=("profile", "event"))]})

    move = walk_through(purge(), server, FINDS)

    assert move == Seen(sight=Sight.ABSENT, walk=Walk())
    assert server.asked == [("all", 1), (SEARCH, 1)]


@pytest.mark.parametrize(
    ("present", "sight"), [(frozenset(), Sight.ABSENT), (frozenset("a"), Sight.PRESENT)]
)
@pytest.mark.parametrize("make", [purge, batch])
def test_a_search_that_failed_is_told_and_spoils_nothing(make, present, sight):
    walk = Walk(legs=(SEARCH,), present=present)
    move = gave_up(make(walk=walk), FINDS)
    assert move == Seen(sight=sight, walk=Walk(present=present, unchecked=(SEARCH,)))


# -- giving up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [CLOUD, FINDS, TWO_CUBES])
@pytest.mark.parametrize("make", [purge, batch])
def test_a_first_page_that_cannot_be_read_leaves_all_unknown(make, dialect):
    move = gave_up(make(), dialect)
    assert move == Seen(sight=Sight.UNKNOWN, walk=Walk())


@pytest.mark.parametrize(
    ("first", "sight"),
    [
        (page("x"), Sight.PRESENT),
        (page(item("x", owned=None)), Sight.PRESENT),
        (page(item("x", owned=False)), Sight.UNKNOWN),
        (page(item("x", created_us=CUTOFF + LATER_BY_US + 1)), Sight.UNKNOWN),
        (page(deleted=("x",)), Sight.UNKNOWN),
    ],
)
def test_a_purge_given_up_at_its_second_page_is_known_by_what_was_seen(first, sight):
    move = took(purge(), first, CLOUD)
    assert isinstance(move, Page)
    move = gave_up(purge(walk=move.walk), CLOUD)
    assert isinstance(move, Seen)
    assert move.sight is sight


def test_ids_given_up_at_the_second_page_are_unknown_but_what_was_seen_is_kept():
    move = took(batch(), page("x"), CLOUD)
    assert isinstance(move, Page)
    move = gave_up(batch(walk=move.walk), CLOUD)
    assert move == Seen(sight=Sight.UNKNOWN, walk=Walk(page=2, present=frozenset("x")))


@pytest.mark.parametrize(("make", "sight"), [(purge, Sight.PRESENT), (batch, Sight.UNKNOWN)])
def test_a_list_too_long_to_be_walked_is_known_by_what_was_seen(make, sight):
    pages = [page(str(number)) for number in range(2 * MOST_PAGES)]
    server = Server({"all": pages})

    move = walk_through(make(), server)

    assert move.walk is not None
    assert (move.sight, len(move.walk.present)) == (sight, MOST_PAGES)
    assert len(server.asked) == MOST_PAGES


def test_a_list_too_long_that_shows_others_only_leaves_all_unknown():
    pages = [page(item(str(number), owned=False)) for number in range(2 * MOST_PAGES)]
    assert walk_through(purge(), Server({"all": pages})).sight is Sight.UNKNOWN


# -- leftovers ------------------------------------------------------------------------------------

MANY = [page(*(f"{number}/{one}" for one in range(50))) for number in range(60)]


def test_so_many_leftovers_are_enough():
    server = Server({"all": MANY, SEARCH: [page("more")]})

    move = walk_through(purge(), server, FINDS)

    assert move.walk is not None
    assert (move.sight, len(move.walk.present)) == (Sight.PRESENT, MOST_LEFT)
    assert len(server.asked) == MOST_LEFT // 50


@pytest.mark.parametrize("task", [batch(), purge(second_look=True)], ids=["batch", "second look"])
def test_ids_and_second_looks_are_walked_to_the_end(task):
    move = walk_through(task, Server({"all": MANY}))
    assert move.walk is not None
    assert len(move.walk.present) == 60 * 50


@pytest.mark.parametrize(
    ("created_us", "later"),
    [
        (None, False),
        (0, False),
        (CUTOFF, False),
        (CUTOFF + 300_000_000, False),  # five minutes
        (CUTOFF + 300_000_001, True),
        (2 * CUTOFF, True),
    ],
)
@pytest.mark.parametrize("owned", [True, None])
def test_only_what_is_surely_later_is_not_part_of_the_order(created_us, later, owned):
    """The clocks may differ, and a time that cannot be read is no excuse to keep anything."""
    move, walk = ended(purge(), {"all": [page(item("x", owned=owned, created_us=created_us))]})
    assert walk.later == ({"x"} if later else set())
    assert walk.present == ({"x"} if owned and not later else set())
    assert walk.unsaid == int(owned is None and not later)
    assert move.sight is (Sight.ABSENT if later else Sight.PRESENT)


def test_without_a_cut_off_nothing_is_later():
    late = page(item("x", created_us=2 * CUTOFF))
    move, walk = ended(purge(cutoff_us=None), {"all": [late]})
    assert (move.sight, walk.present, walk.later) == (Sight.PRESENT, frozenset("x"), frozenset())


def test_what_is_of_others_is_counted_and_nothing_else():
    others = page(item("x", owned=False), item("y", owned=False, created_us=2 * CUTOFF))
    move, walk = ended(purge(), {"all": [others]})
    assert (move.sight, walk.foreign) == (Sight.ABSENT, 2)
    assert walk.present == walk.later == frozenset()
    assert walk.unsaid == 0


def test_what_may_be_anybodys_is_there_but_has_no_id_to_delete():
    move, walk = ended(purge(), {"all": [page(item("x", owned=None), item("y", owned=False))]})
    assert (move.sight, walk.present, walk.unsaid, walk.foreign) == (
        Sight.PRESENT,
        frozenset(),
        1,
        1,
    )


@pytest.mark.parametrize("owned", [True, False, None])
def test_of_ids_all_that_was_seen_counts_whoever_it_is_of(owned):
    shown = page(item("x", owned=owned, created_us=2 * CUTOFF))
    move, walk = ended(batch(), {"all": [shown]})
    assert (move.sight, walk.present) == (Sight.PRESENT, frozenset("x"))
    assert (walk.unsaid, walk.foreign, walk.later) == (0, 0, frozenset())


ITEMS = st.builds(
    Item,
    id=IDS,
    owned=st.sampled_from([True, False, None]),
    created_us=st.sampled_from([None, 0, CUTOFF, CUTOFF + LATER_BY_US + 1]),
)


@given(st.lists(st.lists(ITEMS, max_size=4, unique_by=lambda one: one.id), max_size=6), BEYOND)
def test_a_purge_is_absent_only_when_nothing_of_it_was_shown(pages, beyond):
    server = Server({"all": [page(*one) for one in pages]}, beyond=beyond)

    move = walk_through(purge(), server)

    shown = [one for number in range(len(server.asked)) for one in pages[number : number + 1]]
    items = [one for listed in shown for one in listed]
    in_time = [one for one in items if one.created_us in {None, 0, CUTOFF}]
    assert move.walk is not None
    assert move.walk.present == {one.id for one in in_time if one.owned}
    assert bool(move.walk.unsaid) == any(one.owned is None for one in in_time)
    assert bool(move.walk.foreign) == any(one.owned is False for one in items)
    there = any(one.owned is not False for one in in_time)
    assert move.sight is (Sight.PRESENT if there else Sight.ABSENT)
