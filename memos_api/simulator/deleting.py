"""How much a deletion really deletes: what the call's fault and the lies in force leave of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from memos_api.simulator.lies import Lie
from memos_api.simulator.memory import CATEGORIES, Memory, Traces, newest_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memos_api.simulator.settings import Settings
    from memos_api.simulator.state import Project

__all__ = ["Course", "Effect", "carry_out"]

Effect: TypeAlias = Literal["all", "none", "half", "wider"]
"""Of what is to be deleted: everything, nothing, every second one, all that their owners have."""

_DELETES_NOTHING = frozenset(
    {Lie.NOT_FOUND_THOUGH_THERE, Lie.SUCCESS_FALSE, Lie.CODE_FAILS_SUCCESS_TRUE}
)
_FIRST_PAGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a fault makes of a deletion; the answer is the same.

    Attributes:
        now: Seconds of the simulator's clock.
        delay_s: Seconds until the deletion shows.
        effect: What is deleted.
    """

    now: float
    delay_s: float = 0.0
    effect: Effect = "all"


def carry_out(
    project: Project, ids: Iterable[str], course: Course, settings: Settings, *, purge: bool = False
) -> int:
    """Delete of *ids* what the course and the lies leave of them; return how many that were.

    Args:
        project: Whose memories.
        ids: All that an honest server would delete.
        course: What a fault makes of it.
        settings: With the lies in force.
        purge: Whether the call named an owner and not ids.
    """
    lies = settings.lies
    if course.effect == "none" or not _DELETES_NOTHING.isdisjoint(lies):
        return 0
    chosen = _chosen(project, list(ids), course.effect)
    if purge and Lie.FIRST_PAGE_ONLY in lies:
        chosen = _first_page(project, chosen)
    if Lie.KEEPS_ONE in lies:
        kept = next((one for one in chosen if project.alive(one) is not None), None)
        chosen = [one for one in chosen if one != kept]
    if Lie.KEEPS_ARCHIVED in lies:
        project.archive(chosen)
        return 0
    traces = Traces(
        listed=Lie.SOFT_DELETE_LISTED in lies,
        searched=Lie.VECTORS_LEFT in lies,
        back_after_s=settings.comes_back_s if Lie.COMES_BACK in lies else None,
    )
    return project.delete(chosen, now=course.now, delay_s=course.delay_s, traces=traces)


def _chosen(project: Project, ids: list[str], effect: Effect) -> list[str]:
    if effect == "half":
        return ids[::2]
    if effect == "wider":
        owners = {memory.owner for one in ids if (memory := project.alive(one)) is not None}
        return [one for owner in owners for one in project.of(owner)]
    return ids


def _first_page(project: Project, ids: Sequence[str]) -> list[str]:
    pages: list[list[Memory]] = [[] for _ in CATEGORIES]
    there = (memory for one in ids if (memory := project.alive(one)) is not None)
    for memory in newest_first(there):
        page = pages[memory.category]
        if len(page) < _FIRST_PAGE:
            page.append(memory)
    return [memory.id for page in pages for memory in page]
