"""Draw what was measured: `bench/results/*.json` to `docs/plots/*.svg`.

    python -m bench.plots

Plain SVG by hand, so that no drawing library is needed: lines over a logarithmic axis of sizes, and
bars. A figure that was not measured is not drawn.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from bench.report import kept

FOLDER: Final = Path(__file__).parents[1] / "docs" / "plots"
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 40, 50
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666")
_STEPS: Final = (1, 2, 2.5, 5, 10)
_TICKS: Final = 5

Points = Sequence[tuple[float, float]]


def lines(title: str, series: Mapping[str, Points], *, across: str, up: str) -> str:
    """Draw lines over a logarithmic axis.

    Args:
        title: Over the plot.
        series: Points by what the line is, each of a size above 0 and a figure of at least 0.
        across: What the sizes are.
        up: What the figures are, with their unit.
    """
    sizes = sorted({x for points in series.values() for x, _ in points})
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])
    top, ticks = _scale(max(y for points in series.values() for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / ((high - low) or 1.0)
        return _LEFT + share * _inner_width(), _y(y / top)

    parts = _frame(title, up, top, ticks)
    for size in sizes:
        x, _ = at(size, 0)
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, _short(size), anchor="middle"))
    middle = _LEFT + _inner_width() / 2
    parts.append(_text(middle, _HEIGHT - 10, across, anchor="middle"))
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_key(number, name, colour))
    return _svg(parts)


def bars(title: str, groups: Mapping[str, Mapping[str, float]], *, up: str) -> str:
    """Draw bars by group, such as calls a second of everybody by latency."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    top, ticks = _scale(max(value for group in groups.values() for value in group.values()))
    parts = _frame(title, up, top, ticks)
    room = _inner_width() / len(groups)
    width = room * 0.85 / len(names)
    for place, (label, group) in enumerate(groups.items()):
        start = _LEFT + place * room + room * 0.075
        parts.append(_text(start + room * 0.425, _HEIGHT - _BOTTOM + 18, label, anchor="middle"))
        for name, value in group.items():
            number = names.index(name)
            y = _y(value / top)
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(
                f'<rect x="{start + number * width:.1f}" y="{y:.1f}" width="{width * 0.9:.1f}" '
                f'height="{_HEIGHT - _BOTTOM - y:.1f}" fill="{colour}"/>'
            )
    parts += [
        _key(number, name, _COLOURS[number % len(_COLOURS)]) for number, name in enumerate(names)
    ]
    return _svg(parts)


def _inner_width() -> float:
    return _WIDTH - _LEFT - _RIGHT


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _scale(most: float) -> tuple[float, list[float]]:
    """Give a round top and its ticks."""
    rough = (most or 1.0) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough * 0.999)
    count = math.ceil(most / step - 1e-9) or 1
    return count * step, [number * step for number in range(count + 1)]


def _frame(title: str, up: str, top: float, ticks: Sequence[float]) -> list[str]:
    parts = [_text(_LEFT, 18, title, weight="bold"), _text(8, _TOP - 8, up)]
    for tick in ticks:
        y = _y(tick / top)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, _short(tick), anchor="end"))
    return parts


def _key(number: int, name: str, colour: str) -> str:
    x, y = _WIDTH - _RIGHT + 14, _TOP + 8 + 20 * number
    mark = f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
    return mark + _text(x + 16, y, name)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def _short(value: float) -> str:
    for bound, unit in ((1e6, " M"), (1e3, " k")):
        if value >= bound:
            return f"{value / bound:g}{unit}"
    return f"{value:g}"


def _svg(parts: Sequence[str]) -> str:
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inner}\n</svg>\n'
    )


def _by_ledger(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Points]:
    kinds = dict.fromkeys(row["ledger"] for row in rows)
    return {
        kind: [(row["ids"], row[key]) for row in rows if row["ledger"] == kind and key in row]
        for kind in kinds
    }


def drawn() -> dict[str, str]:
    """Give all plots by file name."""
    plots: dict[str, str] = {}
    if (calls := kept("calls")) is not None:
        groups = {
            f"{each['latency_ms']:g} ms": {
                "raw client": each["raw"]["per_s"],
                **{row["who"].removeprefix("expunge, "): row["per_s"] for row in each["rows"]},
                **_best(each["celery"]),
            }
            for each in calls["latencies"]
        }
        plots["calls"] = bars("Deletions by latency of the server", groups, up="calls/s")
    if (urgent := kept("urgent")) is not None:
        rows = urgent["rows"]
        waits = {
            "p50": [(row["ids"], row["p50_s"]) for row in rows],
            "p99": [(row["ids"], row["p99_s"]) for row in rows],
        }
        plots["urgent"] = lines(
            "Wait of an urgent purge", waits, across="bulk ids before it", up="s"
        )
        memory = {"used memory": [(row["ids"], row["redis_kb"] / 1024) for row in rows]}
        plots["redis"] = lines("Memory of Redis", memory, across="ids pending", up="MB")
    if (importing := kept("importing")) is not None:
        for name, key, title, up in (
            ("import-speed", "per_s", "Import", "ids/s"),
            ("import-memory", "peak_mb", "Memory of an import", "MiB at the peak"),
            ("bytes", "bytes_per_id", "Ledger on disk", "bytes an id"),
        ):
            series = _by_ledger(importing["rows"], key)
            plots[name] = lines(title, series, across="ids imported", up=up)
    if (claims := kept("claims")) is not None:
        series = _by_ledger(claims["rows"], "p50_ms_a_call")
        plots["claims"] = lines(
            "Claim and record, median", series, across="ids pending", up="ms a call"
        )
    return plots


def _best(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {"best naive Celery": max(row["per_s"] for row in rows)} if rows else {}


def main() -> None:
    """Draw all."""
    FOLDER.mkdir(exist_ok=True)
    for name, svg in drawn().items():
        (FOLDER / f"{name}.svg").write_text(svg)
        print(f"docs/plots/{name}.svg")


if __name__ == "__main__":
    main()
