"""What came of one seed, and the table of many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.oracle import Verdict

__all__ = ["Score", "table"]

_COLUMNS = (
    *("kind", "ledger", "seeds", "events", "calls", "kills"),
    *("lost", "unordered", "doubled", "explained", "excess", "heals", "failed"),
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One seed.

    Attributes:
        name: What replays it: `make campaign SEED=name`.
        kind: `in process` or `processes`.
        ledger: `sqlite` or `postgresql`.
        events: What happened to it, calls not counted.
        kills: Processes that died, or whose commit's answer was lost.
        heals_s: From the last fault to the end of all work; None where time is injected.
        verdict: The oracle's; None when it did not come so far.
        error: What went wrong; empty when nothing did.
    """

    name: str
    kind: str
    ledger: str
    events: int = 0
    kills: int = 0
    heals_s: float | None = None
    verdict: Verdict | None = None
    error: str = ""


def table(scores: Sequence[Score]) -> Iterator[str]:
    """Give the totals by kind and ledger as lines of text."""
    groups = dict.fromkeys((score.kind, score.ledger) for score in scores)
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for kind, ledger in groups:
        rows.append(_totals([one for one in scores if (one.kind, one.ledger) == (kind, ledger)]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _totals(scores: Sequence[Score]) -> tuple[str, ...]:
    verdicts = [score.verdict for score in scores if score.verdict is not None]
    heals = [score.heals_s for score in scores if score.heals_s is not None]
    counts = (
        len(scores),
        sum(score.events for score in scores),
        sum(verdict.calls for verdict in verdicts),
        sum(score.kills for score in scores),
        sum(verdict.lost for verdict in verdicts),
        sum(verdict.unordered for verdict in verdicts),
        sum(verdict.doubled for verdict in verdicts),
        sum(verdict.most_doubled for verdict in verdicts),
        max((verdict.excess for verdict in verdicts), default=0),
    )
    healing = f"{max(heals):.1f} s" if heals else "-"
    failed = sum(bool(score.error) for score in scores)
    return (scores[0].kind, scores[0].ledger, *map(str, counts), healing, str(failed))
