"""The numbers that have to be reached, and whether they were.

    python -m bench.verdict

Reads what the figures kept in `bench/results/`. A figure that was not measured is neither.
"""

from dataclasses import dataclass
from typing import Any, Final

from bench.report import keep, kept, table

_AT_LEAST: Final = "at least"
_AT_MOST: Final = "at most"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number.

    Attributes:
        what: The figure.
        must: What it must reach.
        aim: What it should; None without one.
        most: Whether less is better.
        found: What was measured; None when it was not.
        how: Over how long, or at which size.
        unit: After the numbers.
    """

    what: str
    must: float
    aim: float | None = None
    most: bool = False
    found: float | None = None
    how: str = ""
    unit: str = ""

    def row(self) -> dict[str, Any]:
        """Give it as a row of the table."""
        sign = "≤" if self.most else "≥"
        passed = self._reaches(self.must)
        return {
            "what": self.what,
            "must": f"{sign} {self.must:,g}{self.unit}",
            "aim": "" if self.aim is None else f"{self.aim:,g}{self.unit}",
            "found": self._shown(),
            "how": self.how,
            "verdict": {None: "not measured", True: "pass", False: "MISS"}[passed],
            "reached_aim": None if self.aim is None else self._reaches(self.aim),
        }

    def _shown(self) -> str:
        if self.found is None:
            return ""
        digits = ",.0f" if self.found >= 1_000 else ".3g"  # noqa: PLR2004
        return f"{self.found:{digits}}{self.unit}"

    def _reaches(self, bound: float) -> bool | None:
        if self.found is None:
            return None
        return self.found <= bound if self.most else self.found >= bound


def lines() -> list[Line]:
    """Make the table of all that was kept."""
    return [*_calls(), *_departures(), *_importing(), *_backlog()]


def _calls() -> list[Line]:
    kept_ = kept("calls")
    by_latency = {} if kept_ is None else {row["latency_ms"]: row for row in kept_["latencies"]}

    def found(latency_ms: int, kind: str, processes: int) -> tuple[dict[str, Any] | None, str]:
        block = by_latency.get(latency_ms)
        rows = [] if block is None else block["rows"]
        for row in rows:
            if row["ledger"] == kind and row["processes"] == processes:
                note = "" if block is None or block["counts"] else "; server too slow"
                runs = f"{len(row['runs'])} x " if len(row["runs"]) > 1 else ""
                return row, f"{runs}{row['seconds']:.1f} s{note}"
        return None, ""

    made = []
    for latency_ms, bounds in (
        (0, {"sqlite": (0.60, 0.80), "postgresql": (0.75, 0.90)}),
        (20, {"sqlite": (0.90, 0.97), "postgresql": (0.90, 0.97)}),
    ):
        for kind, (must, aim) in bounds.items():
            row, how = found(latency_ms, kind, 1)
            what = f"deletes/s of one process, of the raw client, {latency_ms} ms, {kind}"
            made.append(
                Line(
                    what=what,
                    must=must,
                    aim=aim,
                    found=None if row is None else row["of_raw"],
                    how=how,
                )
            )
    for kind, must in (("sqlite", 1.2), ("postgresql", 1.1)):
        row, how = found(20, kind, 2)
        what = f"two processes at 20 ms, of one raw process, {kind}"
        made.append(
            Line(
                what=what, must=must, aim=1.5, found=None if row is None else row["of_raw"], how=how
            )
        )
    for latency_ms, must in ((0, 2.5), (20, 4.0)):
        block = by_latency.get(latency_ms)
        celery = [] if block is None else [row["per_s"] for row in block["celery"]]
        for kind in ("sqlite", "postgresql"):
            row, how = found(latency_ms, kind, 2)
            times = row["per_s"] / max(celery) if row and celery else None
            what = f"two processes, of the best naive Celery, {latency_ms} ms, {kind}"
            made.append(Line(what=what, must=must, aim=6, found=times, how=how, unit=" x"))
    return made


def _departures() -> list[Line]:
    found = kept("departures")
    made = []
    for name, what in (("calm", "undisturbed"), ("trouble", "in all disturbances")):
        block = None if found is None else found.get(name)
        over = (
            None
            if block is None
            else float(max(row["most_1"] - row["may_1"] for row in block["rows"]))
        )
        how = "" if block is None else f"{block['seconds']:.0f} s, 4 limits"
        line = f"departures above the limit in the fullest 1 s window, {what}"
        made.append(Line(what=line, must=0, most=True, found=over, how=how))
    block = None if found is None else found.get("calm")
    for rate in (10, 50, 500):
        share, how = None, ""
        if block is not None:
            share = next(row["share"] for row in block["rows"] if row["limit"] == rate)
            how = f"{block['seconds']:.0f} s at {block['latency_ms']:g} ms"
        what = f"share of the limit used under steady work, {rate}/s"
        made.append(Line(what=what, must=0.99, aim=0.995, found=share, how=how))
    return made


def _importing() -> list[Line]:
    found = kept("importing")
    rows = [] if found is None else found["rows"]
    made = []
    for kind, must in (("sqlite", 500_000), ("postgresql", 300_000)):
        largest = max(
            (row for row in rows if row["ledger"] == kind), key=lambda row: row["ids"], default=None
        )
        rate = None if largest is None else largest.get("per_s")
        how = "" if largest is None else f"{largest['ids']:,} ids"
        what = f"import on an idle ledger, {kind}"
        made.append(Line(what=what, must=must, aim=1e6, found=rate, how=how, unit=" ids/s"))
    peak = max((row["peak_mb"] for row in rows), default=None)
    most = max((row["ids"] for row in rows), default=0)
    made.append(
        Line(
            what="memory of an import",
            must=150,
            most=True,
            found=peak,
            how=f"up to {most:,} ids",
            unit=" MB",
        )
    )
    for row in [] if found is None else found["beside"]:
        what = f"calls/s during an import on SQLite, of without, limit {row['limit']:,}/s"
        how = f"{row['seconds']:.1f} s each"
        made.append(Line(what=what, must=0.8, aim=0.9, found=row["ratio"], how=how))
    return made


def _backlog() -> list[Line]:
    urgent, claims, importing = kept("urgent"), kept("claims"), kept("importing")
    rows = [] if urgent is None else urgent["rows"]
    redis = max((row["redis_kb"] / 1024 for row in rows), default=None)
    most = max((row["ids"] for row in rows), default=0)
    made = [
        Line(
            what="Redis memory with all of them pending",
            must=5,
            aim=2,
            most=True,
            found=redis,
            how=f"{most:,} ids",
            unit=" MB",
        )
    ]
    for kind in ("sqlite", "postgresql"):
        sizes = [] if importing is None else importing["rows"]
        found, how = _growth([row for row in sizes if row["ledger"] == kind], "bytes_per_id")
        what = f"bytes an id, most against fewest ids, {kind}"
        made.append(Line(what=what, must=1.2, aim=1.05, most=True, found=found, how=how))
        sizes = [] if claims is None else claims["rows"]
        found, how = _growth([row for row in sizes if row["ledger"] == kind], "p50_ms_a_call")
        what = f"claim and record a call, most against fewest ids pending, {kind}"
        made.append(Line(what=what, must=1.2, aim=1.05, most=True, found=found, how=how))
    return made


def _growth(rows: list[dict[str, Any]], key: str) -> tuple[float | None, str]:
    if not rows:
        return None, ""
    few, many = min(rows, key=lambda row: row["ids"]), max(rows, key=lambda row: row["ids"])
    return many[key] / few[key], f"{many['ids']:,} against {few['ids']:,}"


def show() -> bool:
    """Print and keep the table; says whether nothing misses."""
    rows = [line.row() for line in lines()]
    columns = {
        "what": "figure",
        "must": "must",
        "aim": "aim",
        "found": "measured",
        "how": "over",
        "verdict": "verdict",
    }
    shown = table("Numbers to reach", rows, columns)
    keep("verdict", {"rows": rows}, shown)
    return all(row["verdict"] == "pass" for row in rows)


if __name__ == "__main__":
    show()
