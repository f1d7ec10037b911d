"""The arithmetic of `docs/scale.md`: from what was measured to a billion memories.

    python -m bench.scale

Takes bytes, milliseconds and ids a second from `bench/results/`, the largest size of each.
"""

from typing import Any, Final

from bench.report import keep, kept, table

MEMORIES: Final = (10**5, 10**6, 10**7, 10**8, 10**9)
RATES: Final = (50, 500)
IDS_PER_CALL: Final = 100
_PACE: Final = 0.995
_GB: Final = 10**9
_UNITS: Final = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))


def show() -> None:
    """Print and keep the two tables; nothing happens when a figure is missing."""
    importing, claims, calls = kept("importing"), kept("claims"), kept("calls")
    if importing is None or claims is None or calls is None:
        return
    measured = [
        _measured(kind, importing, claims, calls)
        for kind in dict.fromkeys(row["ledger"] for row in importing["rows"])
    ]
    columns = {
        "ledger": "ledger",
        "bytes_per_id": "bytes an id",
        "bytes_a_call": "bytes a call",
        "ids_per_s": "ids/s of an import",
        "ledger_ms": "claim and record, ms a call",
        "cpu_ms": "CPU ms a call, at speed",
        "calls_per_s": "calls/s at most, two processes, 20 ms",
    }
    inputs = table("What was measured", measured, columns)
    rows = [_row(memories, measured) for memories in MEMORIES]
    columns = {
        "memories": "memories",
        "calls": "calls and chunk rows",
        **{f"{one['ledger']}_gb": f"GB on {one['ledger']}" for one in measured},
        **{f"{one['ledger']}_import": f"import, {one['ledger']}" for one in measured},
        **{f"at_{rate}": f"calls at {rate}/s" for rate in RATES},
        "core_h": "core hours, paced",
    }
    outputs = table(f"What follows, {IDS_PER_CALL} ids a call", rows, columns)
    keep("scale", {"measured": measured, "rows": rows}, inputs, outputs)


def _measured(
    kind: str, importing: dict[str, Any], claims: dict[str, Any], calls: dict[str, Any]
) -> dict[str, Any]:
    size = _largest(importing["rows"], kind)
    claim = _largest(claims["rows"], kind)
    (at_speed,) = (
        row
        for each in calls["latencies"]
        for row in each["rows"]
        if each["latency_ms"] == 20  # noqa: PLR2004 - the middle one
        and (row["ledger"], row["processes"]) == (kind, 2)
    )
    return {
        "ledger": kind,
        "bytes_per_id": size["bytes_per_id"],
        "bytes_a_call": claim["bytes_a_call"],
        "ids_per_s": size["per_s"],
        "ledger_ms": claim["p50_ms_a_call"],
        "cpu_ms": at_speed["cpu_ms"],
        "calls_per_s": at_speed["per_s"],
    }


def _largest(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return max((row for row in rows if row["ledger"] == kind), key=lambda row: row["ids"])


def _row(memories: int, measured: list[dict[str, Any]]) -> dict[str, Any]:
    calls = memories // IDS_PER_CALL
    row: dict[str, Any] = {"memories": memories, "calls": calls}
    for one in measured:
        size = memories * one["bytes_per_id"] + calls * one["bytes_a_call"]
        row[f"{one['ledger']}_gb"] = size / _GB
        row[f"{one['ledger']}_import"] = _duration(memories / one["ids_per_s"])
    for rate in RATES:
        row[f"at_{rate}"] = _duration(calls / (_PACE * rate))
    # A paced call costs its claim and record in small batches on top of the call.
    dearest = max(one["ledger_ms"] + one["cpu_ms"] for one in measured)
    import_s = max(memories / one["ids_per_s"] for one in measured)
    row["core_h"] = (calls * dearest / 1_000 + import_s) / 3_600
    return row


def _duration(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size or unit == "s":
            return f"{seconds / size:.1f} {unit}"
    raise AssertionError


if __name__ == "__main__":
    show()
