"""Hands files in and waits for the end, with bars; the same code as `expunge import`."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from expunge.progress import bars
from ledger.states import FINAL_REQUEST_STATES
from producer import Producer, WaitTimeoutError
from producer.files import Layout, RejectLog, Terms, guess_format, import_file, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from expunge.stack import Stack
    from ledger.model import Receipt, RequestView

__all__ = ["Handed", "hand_in", "wait_for_all"]

_LOOK_S: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Handed:
    """One file after it was handed in.

    Attributes:
        name: Of the file.
        receipts: One a request.
        rejected: Lines that were not taken.
    """

    name: str
    receipts: Sequence["Receipt"]
    rejected: int


def hand_in(producer: Producer, path: Path) -> Handed:
    """Import one file with all defaults; its format follows from its suffix.

    Raises:
        RequestError: The file cannot be taken.
    """
    receipts: list[Receipt] = []
    with ExitStack() as opened:
        source = opened.enter_context(open_source(str(path)))
        log = opened.enter_context(RejectLog())
        shown = opened.enter_context(bars(unit="B"))
        source.on_progress = shown.add(f"Reading {path.name}", source.size)
        import_file(
            producer,
            source,
            layout=Layout(format=guess_format(path.name, source)),
            terms=Terms(),
            rejects=log,
            on_receipt=receipts.append,
        )
    return Handed(name=path.name, receipts=receipts, rejected=log.count)


def wait_for_all(
    producer: Producer, files: Sequence[Handed], stack: "Stack", *, limit_s: float
) -> list[list["RequestView"]]:
    """Wait until each request has ended; gives them file by file.

    Raises:
        WaitTimeoutError: Some are still under way after *limit_s* seconds.
        SettingsError: A worker has ended.
    """
    until = time.monotonic() + limit_s
    ended: dict[str, RequestView] = {}
    with bars() as shown:
        moves: list[Callable[[int], None]] = [
            shown.add(each.name, sum(receipt.unique for receipt in each.receipts)) for each in files
        ]
        while True:
            for each, move in zip(files, moves, strict=True):
                done = 0
                for receipt in each.receipts:
                    view = ended.get(receipt.id) or producer.status(receipt.id)
                    done += view.counts.unique - view.counts.pending
                    if view.state in FINAL_REQUEST_STATES:
                        ended[receipt.id] = view
                move(done)
            stack.check_parts()
            if all(receipt.id in ended for each in files for receipt in each.receipts):
                return [[ended[receipt.id] for receipt in each.receipts] for each in files]
            if time.monotonic() > until:
                left = sum(receipt.id not in ended for each in files for receipt in each.receipts)
                msg = f"{left:,} requests are still under way after {limit_s:g} s."
                raise WaitTimeoutError(msg)
            time.sleep(_LOOK_S)
