"""Which part of a list a page holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from memos_api.simulator.lies import Lie

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["take_page"]

_T = TypeVar("_T")
_CAP = 10


def take_page(items: Sequence[_T], *, page: int, size: int, lies: Sequence[Lie]) -> list[_T]:
    """Give a page, or what the lies in force make of it.

    Args:
        items: The whole list.
        page: From 1.
        size: Items a page.
        lies: In force.
    """
    if Lie.IGNORES_PAGING in lies:
        return list(items)
    if Lie.REPEATS_PAGE in lies:
        page = 1
    if Lie.PAGE_CAPPED in lies:
        size = min(size, _CAP)
    first = (page - 1) * size
    return list(items[first : first + size])
