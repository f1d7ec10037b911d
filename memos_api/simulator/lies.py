"""What a MemOS may say that is not so; `Settings.lies` names those in force."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Lie", "lies_from"]


class Lie(StrEnum):
    """One thing a server says or leaves undone.

    Where a comment names no dialect, both tell it. *Refuses* means 40306, 40307 or 40308 on the
    Cloud, and status `failure` on a self-hosted server.
    """

    # Of deletions.
    FIRST_PAGE_ONLY = "first_page_only"  # a purge deletes the newest 10 of each category only
    NOT_FOUND_THOUGH_THERE = "not_found_though_there"  # deletes nothing, refuses with 40307 / 40308
    REFUSED_THOUGH_GONE = "refused_though_gone"  # deletes, refuses with 40306
    SUCCESS_FALSE = "success_false"  # deletes nothing; Cloud: code 0 with success false
    SUCCESS_FALSE_THOUGH_GONE = "success_false_though_gone"  # deletes, answers the same
    SUCCESS_AS_TEXT = "success_as_text"  # Cloud: deletes, success is the string "true"
    # Deletes nothing; a failing code (50002, self-hosted 500) beside a success in `data`.
    CODE_FAILS_SUCCESS_TRUE = "code_fails_success_true"
    KEEPS_ARCHIVED = "keeps_archived"  # archives instead of deleting: still listed and readable
    SOFT_DELETE_LISTED = "soft_delete_listed"  # deletes; listed and readable as `deleted`
    VECTORS_LEFT = "vectors_left"  # deletes; a search still finds it, whatever the backend
    KEEPS_ONE = "keeps_one"  # the first memory that a call would delete survives it
    COMES_BACK = "comes_back"  # what was deleted shows again `comes_back_s` after it was gone

    # Of lists and by-id reads.
    IGNORES_PAGING = "ignores_paging"  # each page is the whole list
    IGNORES_USER = "ignores_user"  # a list holds everybody's memories
    OMITS_OWNER = "omits_owner"  # items have neither user_id nor agent_id
    WRONG_TOTALS = "wrong_totals"  # total 0 and pages 1; self-hosted: total_nodes 0
    # At most 10 items a page, whatever was asked, while `pages` counts by the size asked.
    PAGE_CAPPED = "page_capped"
    NULL_CATEGORIES = "null_categories"  # a category without items is null
    HIDES_CATEGORY = "hides_category"  # skills are left out, also when asked for alone
    # Cloud: skills are left out unless `include_memory_view` asks for them alone.
    HIDES_CATEGORY_TOGETHER = "hides_category_together"
    MALFORMED_ITEM = "malformed_item"  # the first item of a list answer has no id
    REPEATS_PAGE = "repeats_page"  # page 2 and later hold what page 1 holds
    OTHER_ID = "other_id"  # a by-id read answers with another memory
    BY_ID_BLIND = "by_id_blind"  # a by-id read finds nothing, ever
    # Times by turns, memory after memory as seeded: epoch ms, epoch s, ISO 8601 with Z, ISO 8601
    # with an offset, epoch ms as digits in a string.
    MIXED_TIMES = "mixed_times"
    NO_TIMES = "no_times"  # items have no times
    EMPTY_LIST_202 = "empty_list_202"  # a list answers HTTP 202 without a body
    LIST_OTHER_PAGE = "list_other_page"  # Cloud: `current` is one more than the page asked for


def lies_from(names: Iterable[object]) -> list[Lie]:
    """Give the lies of these names, each once.

    Raises:
        ValueError: A name is unknown; the message names the known ones.
    """
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ValueError("lies are a list of names")
    listed = list(names)
    known = {lie.value: lie for lie in Lie}
    if unknown := [name for name in listed if name not in known]:
        raise ValueError(f"unknown lies {unknown}; known: {sorted(known)}")
    return list(dict.fromkeys(known[str(name)] for name in listed))
