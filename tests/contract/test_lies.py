"""Whatever MemOS says: nothing is called absent that is there, and every request comes to an end.

`pytest tests/contract -k lies` prints the matrix: each behaviour of the simulator, for ids and for
a user, on both ledgers, with what the request came to and what looking cost.
"""

from dataclasses import replace
from typing import Any, Final

import pytest

from ledger import Kind
from ledger.states import Result
from memos_api import Cloud, SelfHosted
from memos_api.simulator.faults import FaultKind
from memos_api.simulator.lies import Lie
from memos_api.simulator.process import SimulatorProcess
from tests.support.real_client import real_client
from tests.support.virtual_drains import VirtualDrains

USER, OTHER = "u", "other"
FACTS = [f"fact-{n}" for n in range(55)]  # more than one page
SKILLS = [f"skill-{n}" for n in range(3)]
THEIRS = [f"theirs-{n}" for n in range(4)]
ORDERED = [*FACTS[50:], *FACTS[:3], *SKILLS]
LONGEST_S = 3_600.0
# What looks like an outage is waited for, about a day: here it ends sooner.
OUTAGES: Final = {
    "failure after effect",
    "html",
    "cut off",
    "503 always",
    "database down",
    "code_fails_success_true",
}
OUTAGE_S = 300.0

NO_EFFECT: Final = {"kind": FaultKind.SUCCESS_WITHOUT_EFFECT}
DELETE_FAULTS: Final[dict[str, dict[str, Any]]] = {
    "honest": {},
    "no effect": NO_EFFECT,
    "no effect once": NO_EFFECT | {"count": 1},
    "no effect now and then": NO_EFFECT | {"probability": 0.5},
    "half": {"kind": FaultKind.HALF_EFFECT},
    "half once": {"kind": FaultKind.HALF_EFFECT, "count": 1},
    "failure after effect": {"kind": FaultKind.FAILURE_AFTER_EFFECT},
    "refusal after effect": {"kind": FaultKind.FAILURE_AFTER_EFFECT, "code": 40306},
    "effect after 5 s": {"kind": FaultKind.DELAYED_EFFECT, "seconds": 5.0},
    "effect after 300 s": {"kind": FaultKind.DELAYED_EFFECT, "seconds": 300.0},
    "reset after effect": {"kind": FaultKind.RESET_AFTER_APPLYING, "count": 2},
    "reset without effect": {"kind": FaultKind.RESET_BEFORE_APPLYING, "count": 2},
    "html": {"kind": FaultKind.HTML},
    "empty 202": {"kind": FaultKind.EMPTY},
    "cut off": {"kind": FaultKind.TRUNCATED},
    "503 always": {"kind": FaultKind.HTTP_5XX},
    "40000 always": {"kind": FaultKind.CODE, "code": 40000},
}
DELETE_LIES: Final = (
    Lie.FIRST_PAGE_ONLY,
    Lie.NOT_FOUND_THOUGH_THERE,
    Lie.REFUSED_THOUGH_GONE,
    Lie.SUCCESS_FALSE,
    Lie.SUCCESS_FALSE_THOUGH_GONE,
    Lie.SUCCESS_AS_TEXT,
    Lie.CODE_FAILS_SUCCESS_TRUE,
    Lie.KEEPS_ARCHIVED,
    Lie.SOFT_DELETE_LISTED,
    Lie.VECTORS_LEFT,
    Lie.KEEPS_ONE,
)
READ_LIES: Final = (
    Lie.IGNORES_PAGING,
    Lie.IGNORES_USER,
    Lie.OMITS_OWNER,
    Lie.WRONG_TOTALS,
    Lie.PAGE_CAPPED,
    Lie.NULL_CATEGORIES,
    Lie.HIDES_CATEGORY,
    Lie.HIDES_CATEGORY_TOGETHER,
    Lie.MALFORMED_ITEM,
    Lie.REPEATS_PAGE,
    Lie.OTHER_ID,
    Lie.MIXED_TIMES,
    Lie.NO_TIMES,
    Lie.EMPTY_LIST_202,
    Lie.LIST_OTHER_PAGE,
)
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "partial batch": {"unknown_id_policy": "partial"},
    "unknown ids accepted": {"unknown_id_policy": "accept"},
    "database down": {"database_down": True},
    "soft delete": {"soft_delete": True},
}
# Behaviour: what deletions do, what is said of them and of what is left, and settings.
CASES: Final[dict[str, tuple[str, tuple[Lie, ...], dict[str, Any]]]] = {
    **{name: (name, (), {}) for name in DELETE_FAULTS},
    **{lie.value: ("honest", (lie,), {}) for lie in DELETE_LIES},
    **{f"{lie.value}, honest": ("honest", (lie,), {}) for lie in READ_LIES},
    **{f"{lie.value}, no effect": ("no effect", (lie,), {}) for lie in READ_LIES},
    **{name: ("honest", (), changed) for name, changed in SETTINGS.items()},
}
CLOUD_ONLY: Final = {
    "partial batch",
    "unknown ids accepted",
    "soft delete",
    "40000 always",
    "refusal after effect",
    *(name for name in CASES if name.startswith(("hides_category_together", "list_other_page"))),
}
OF_A_USER: Final = {name for name in CASES if name.endswith((", honest", ", no effect"))}
PLACES: Final = [
    (dialect, name, what)
    for dialect in ("cloud", "self-hosted")
    for name in CASES
    for what in ("ids", "ids of a user", "user")
    # What a named user changes is the look, and only the Cloud has another one then.
    if what != "ids of a user" or (dialect == "cloud" and name in {*OF_A_USER, "honest"})
    if dialect == "cloud" or name not in CLOUD_ONLY
]
# Each stands for others; all of them take minutes (`make lies`).
QUICK: Final = (
    "honest",
    "no effect",
    "first_page_only",
    "refused_though_gone",
    "vectors_left",
    "repeats_page, no effect",
    "hides_category, no effect",
    "ignores_user, honest",
    "database down",
)
DEFAULTS: Final = {
    "unknown_id_policy": "all_or_nothing",
    "database_down": False,
    "soft_delete": False,
    "backend": "postgres",
    "lies": [],
}


@pytest.fixture(scope="module")
def simulator():
    with SimulatorProcess() as running:
        yield running


def prepared(simulator, name):
    """A simulator that behaves so, with what there is to delete and to leave alone."""
    fault, lies, changed = CASES[name]
    control = simulator.control
    control.set_settings(**DEFAULTS)
    control.reset()
    control.seed_ids(FACTS, user_id=USER, category="fact", created_ms=1_700_000_000_000)
    control.seed_ids(SKILLS, user_id=USER, category="skill", created_ms=1_700_000_000_000)
    control.seed_ids(THEIRS, user_id=OTHER, category="fact", created_ms=1_700_000_000_000)
    control.set_settings(lies=[lie.value for lie in lies], **changed)
    if DELETE_FAULTS[fault]:
        control.set_faults(DELETE_FAULTS[fault])
    return control


@pytest.mark.parametrize(
    ("worlds", "dialect", "name", "what"),
    [
        pytest.param(ledger, *place, marks=() if place[1] in quick else pytest.mark.slow)
        for ledger, quick in (("sqlite", QUICK), ("postgresql", QUICK[:2]))
        for place in PLACES
    ],
    indirect=["worlds"],
)
def test_no_lie_is_believed(world, simulator, record_property, dialect, name, what):  # noqa: PLR0917 - a table's columns
    control = prepared(simulator, name)
    spoken = SelfHosted(cubes=("default",)) if dialect == "self-hosted" else Cloud(searches=True)
    if dialect == "self-hosted":
        world.policy = replace(world.policy, by_cube=frozenset({"shop"}))
    base_url = simulator.self_hosted_url if dialect == "self-hosted" else simulator.base_url
    if what == "user":
        receipt = world.submit(kind=Kind.USER, subject=USER)
    else:
        receipt = world.submit(ORDERED, subject=USER if what == "ids of a user" else None)
    with real_client(simulator, base_url, spoken) as memos:
        drains = VirtualDrains(world, memos, workers=1, sweep_s=30.0)
        took_s = 0.0
        if name in OUTAGES:
            took_s = drains.run(OUTAGE_S)
            control.clear_faults()
            control.set_settings(database_down=False, lies=[])
        took_s += drains.run(LONGEST_S, until_done=True)
    view = world.view(receipt.id)
    left = control.remaining(ids=[*FACTS, *SKILLS], users=[USER, OTHER])
    mine = set(left.ids) if what == "user" else set(left.ids) & set(ORDERED)
    vectors = set(left.vectors) if what == "user" else set(left.vectors) & set(ORDERED)
    if what == "ids":
        vectors = set()  # of nobody in particular nothing can be searched for
    gone = view.counts.verified_absent + view.counts.already_absent
    most_gone = int(not mine | vectors) if what == "user" else len(ORDERED) - len(mine | vectors)
    complete = view.result in {Result.COMPLETE, Result.COMPLETE_WITH_ALREADY_ABSENT}
    record_property(
        "lies",
        [
            "SQLite" if world.database.is_sqlite else "PostgreSQL",
            dialect,
            name,
            what,
            str(view.result),
            str(view.certainty),
            max(0, gone - most_gone),
            int(complete and bool(mine | vectors)),
            memos.calls["delete"],
            memos.calls["list"],
            memos.calls["read"],
            round(took_s),
        ],
    )
    assert view.finished_at is not None
    assert gone <= most_gone
    assert not (complete and mine | vectors)
    assert left.users[OTHER] == len(THEIRS)  # nothing that was not ordered
    if what != "user":
        assert set(FACTS) - set(ORDERED) <= set(left.ids)
    # Of a server that does as it says nothing may be left in doubt.
    if name == "honest":
        assert (complete, view.certainty) == (True, "verified" if what != "ids" else view.certainty)
