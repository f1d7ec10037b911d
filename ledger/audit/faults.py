"""What a verification found wrong: a closed list, each with the index it begins at."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["Fault", "Kind", "Verdict"]


class Kind(StrEnum):
    """The closed list of what can be wrong with a log."""

    LEAF_MISSING = "leaf_missing"
    LEAF_DIFFERS = "leaf_differs"
    EVENT_MISSING = "event_missing"
    BODY_MISSING = "body_missing"
    BODY_DIFFERS = "body_differs"
    ROW_DIFFERS = "row_differs"
    SCHEMA_UNKNOWN = "schema_unknown"
    SUBTREE_DIFFERS = "subtree_differs"
    ROOT_DIFFERS = "root_differs"
    CHECKPOINT_EDITED = "checkpoint_edited"
    CHECKPOINT_MISSING = "checkpoint_missing"
    CHECKPOINT_UNTRUSTED = "checkpoint_untrusted"
    ORIGIN_DIFFERS = "origin_differs"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"
    NOT_SEALED = "not_sealed"
    PRUNING_UNRECORDED = "pruning_unrecorded"
    ORDER_CHANGED = "order_changed"
    REQUEST_MISSING = "request_missing"
    REQUEST_DIFFERS = "request_differs"


# What is wrong beside the log, which may be whole all the same.
_BESIDE: Final = frozenset({Kind.ORDER_CHANGED, Kind.REQUEST_MISSING, Kind.REQUEST_DIFFERS})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: What.
        says: A sentence; ids without meaning in it, never a name.
        index: The first leaf concerned, None when it is of none.
        end: When it is somewhere in a range of leaves: the first one behind that; else None.
    """

    kind: Kind
    says: str
    index: int | None = None
    end: int | None = None


@dataclass(kw_only=True)
class Verdict:
    """What came of a verification.

    Attributes:
        leaves: Leaves that were hashed again.
        signed: Of these, how many are below the last checkpoint.
        pruned: Of these, how many have no body any more, as recorded.
        checkpoints: How many were checked.
        waiting: Events that are not sealed yet.
        compared: Events that rows of requests were held against.
        faults: What is wrong, in the order it was found; the first 100.
        found: How many faults there are in all.
    """

    leaves: int = 0
    signed: int = 0
    pruned: int = 0
    checkpoints: int = 0
    waiting: int = 0
    compared: int = 0
    faults: list[Fault] = field(default_factory=list)
    found: int = 0

    _MOST = 100

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not self.found

    @property
    def log_is_whole(self) -> bool:
        """Nothing of the log itself is wrong, whatever else is."""
        listed = all(one.kind in _BESIDE for one in self.faults)
        return self.good or (listed and self.found == len(self.faults))

    @property
    def first_bad(self) -> int | None:
        """The lowest index that a fault names; of a range its start, unless another names more."""
        exact = {one.index for one in self.faults if one.index is not None and one.end is None}
        ranges = {
            one.index
            for one in self.faults
            if one.index is not None
            and one.end is not None
            and not any(one.index <= known < one.end for known in exact)
        }
        return min(exact | ranges, default=None)

    def add(
        self, kind: Kind, says: str, *, index: int | None = None, end: int | None = None
    ) -> None:
        """Note a fault."""
        self.found += 1
        if len(self.faults) < self._MOST:
            self.faults.append(Fault(kind=kind, says=says, index=index, end=end))
