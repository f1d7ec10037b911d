"""What was asked, what the record says, and what is truly left: side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.demo.handing_in import Handed
from expunge.demo.orders import Orders
from expunge.tables import cell, table
from ledger.states import RequestState

if TYPE_CHECKING:
    from ledger.model import RequestView
    from memos_api.simulator.process import Remaining, SimulatorControl

__all__ = ["Truth", "ask_simulator", "faults_of", "record_table"]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the simulator says at the end.

    Attributes:
        ids_left: Of the ids asked for, how many are still there.
        purged_left: Memories that the purged users still have.
        bystanders: Memories that nobody asked to delete and that are there.
        bystanders_due: How many of these there must be.
        touched: Users who do not have exactly what they must have.
    """

    ids_left: int
    purged_left: int
    bystanders: int
    bystanders_due: int
    touched: int

    @property
    def agrees(self) -> bool:
        """All that was asked for is gone, and nothing else is."""
        return (
            self.ids_left == self.purged_left == self.touched == 0
            and self.bystanders == self.bystanders_due
        )


def ask_simulator(control: "SimulatorControl", orders: Orders) -> Truth:
    """Compare what is there with what must be there."""
    purged: Remaining = control.remaining(users=orders.purged)
    others: Remaining = control.remaining(ids=orders.ids, users=list(orders.left))
    purged_left = sum(purged.users.values())
    return Truth(
        ids_left=len(others.ids),
        purged_left=purged_left,
        bystanders=others.total - len(others.ids) - purged_left,
        bystanders_due=sum(orders.left.values()),
        touched=sum(others.users[user] != due for user, due in orders.left.items()),
    )


def faults_of(files: Sequence[Handed], views: Sequence[Sequence["RequestView"]]) -> list[str]:
    """Say what in the record is not as it should be at the end."""
    found = []
    for file, requests in zip(files, views, strict=True):
        not_done = sum(view.state is not RequestState.COMPLETE for view in requests)
        open_ids = sum(
            view.counts.pending
            + view.counts.still_present
            + view.counts.refused
            + view.counts.unknown
            + view.counts.cancelled
            for view in requests
        )
        if not_done:
            found.append(
                f"{file.name}: {not_done:,} of {len(requests):,} requests did not complete"
            )
        if open_ids:
            found.append(f"{file.name}: {open_ids:,} ids are not known to be gone")
    return found


def record_table(
    files: Sequence[Handed],
    views: Sequence[Sequence["RequestView"]],
    truly_left: Sequence[int] | None = None,
) -> list[str]:
    """Lay out the counts of the record, a column for each file.

    Args:
        files: The files.
        views: The requests of each.
        truly_left: For each file, what the simulator still has of what it ordered.
    """
    columns = [_figures(requests) for requests in views]
    names = _figures([])
    rows = [[name, *(cell(column[name]) for column in columns)] for name in names]
    if truly_left is not None:
        shown = truly_left[: len(files)]
        rows.append(["truly still there", *(cell(left) for left in shown)])
    return table(["the record says", *(file.name for file in files)], rows)


def _figures(requests: Sequence["RequestView"]) -> dict[str, int]:
    counts = [view.counts for view in requests]
    return {
        "requests": len(requests),
        "asked": sum(count.requested for count in counts),
        "unique": sum(count.unique for count in counts),
        "verified absent": sum(count.verified_absent for count in counts),
        "acknowledged": sum(count.acknowledged for count in counts),
        "already absent": sum(count.already_absent for count in counts),
        "still present": sum(count.still_present for count in counts),
        "refused or unknown": sum(count.refused + count.unknown for count in counts),
        "pending or cancelled": sum(count.pending + count.cancelled for count in counts),
        "retried calls": sum(view.retried for view in requests),
    }
