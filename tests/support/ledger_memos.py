"""A MemOS in a set: what is there, what a call does to it, and lies that a test can ask for."""

from collections import Counter
from collections.abc import Iterable

from ledger.states import Kind, Sight
from ledger.tasks import Delivered, Move, Probe, Retry, Seen, Split, Task
from ledger.walks import Walk

__all__ = ["Memos"]


class Memos:
    """Answers tasks as a worker would that talks to a MemOS with these memories.

    Args:
        there: Memory ids that exist.
        subjects: Users or agents that have memories.
        stubborn: How often a deletion of an id (or subject) is acknowledged without effect.
        blind: Read-backs fail to the end.
    """

    def __init__(
        self,
        there: Iterable[str] = (),
        *,
        subjects: Iterable[str] = (),
        stubborn: dict[str, int] | None = None,
        blind: bool = False,
    ) -> None:
        self.there = set(there)
        self.subjects = set(subjects)
        self.stubborn = Counter(stubborn or {})
        self.blind = blind
        self.deleted: Counter[str] = Counter()
        self.reads = 0
        self.lists = 0
        self.controls = 0

    def __call__(self, task: Task) -> Move:
        if task.call == "delete":
            return self._delete(task)
        self.reads += task.call == "read"
        self.lists += task.call == "list" and not task.control
        self.controls += task.control
        if self.blind:
            last = task.burnt + 1 >= 3
            return Seen(sight=Sight.UNKNOWN) if last else Retry(delay_s=1.0, burn=True)
        if task.call == "read":
            return Seen(sight=_sight(task.ids[0] in self.there))
        if task.control:
            return Seen(sight=Sight.ABSENT)
        if task.kind is not Kind.MEMORIES:
            return Seen(sight=_sight(task.subject in self.subjects))
        return Seen(sight=_sight(bool(self.there)), walk=Walk(present=frozenset(self.there)))

    def _delete(self, task: Task) -> Move:
        wanted = set(task.ids) or {str(task.subject)}
        pool = self.there if task.ids else self.subjects
        self.deleted.update(wanted)
        if task.ids and not wanted <= self.there:
            if len(wanted) == 1:
                return Delivered(was_absent=True)
            return Probe() if task.doubtful else Split()
        for one in wanted:
            if self.stubborn[one]:
                self.stubborn[one] -= 1
            else:
                pool.discard(one)
        return Delivered()


def _sight(present: bool) -> Sight:  # noqa: FBT001 - one argument, named by the function
    return Sight.PRESENT if present else Sight.ABSENT
