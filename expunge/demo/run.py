"""The demo from its first process to its verdict."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from expunge.demo.asking import ask, count_orders
from expunge.demo.handing_in import Handed, hand_in, wait_for_all
from expunge.demo.orders import FULL_SIZE, Size, make_orders
from expunge.demo.verdict import Truth, ask_simulator, faults_of, record_table
from expunge.exit_codes import EXIT_INTERRUPTED, EXIT_PARTLY, EXIT_REFUSED, EXIT_UNVERIFIED
from expunge.stack import Stack, memos_settings
from ledger.errors import RequestError, SettingsError
from ledger.model import RequestView
from ledger.settings import Settings, load_settings
from memos_api.simulator.process import SimulatorControl, SimulatorProcess
from producer import Producer, WaitTimeoutError

__all__ = ["FAULTS", "run_demo"]

_SEED: Final = 11
_LIMIT_S: Final = 150.0
# A person's own files may be of any size.
_OWN_LIMIT_S: Final = 24 * 3600.0

# Each burst hits calls in a row, so that workers have to back off and come back.
FAULTS: Final[tuple[dict[str, object], ...]] = (
    {"kind": "http_429", "from_call": 15, "to_call": 18, "retry_after": "1"},
    {"kind": "http_5xx", "from_call": 60, "to_call": 66},
    {"kind": "http_429", "from_call": 110, "to_call": 112},
    {"kind": "http_5xx", "from_call": 160, "to_call": 164, "status": 503, "retry_after": "1"},
    {"kind": "http_5xx", "endpoint": "read", "from_call": 10, "to_call": 14},
    {"kind": "http_429", "endpoint": "list", "from_call": 5, "to_call": 6, "retry_after": "1"},
)


def run_demo(
    *,
    memos: str = "simulator",
    files: Sequence[Path] = (),
    yes: bool = False,
    size: Size = FULL_SIZE,
    faults: Sequence[dict[str, object]] = FAULTS,
    out: TextIO | None = None,
) -> int:
    """Run the demo.

    Args:
        memos: `simulator`, or `env` for the MemOS that the settings name.
        files: For `env`, whose orders are carried out there.
        yes: For `env`, do not ask.
        size: For `simulator`, how much.
        faults: For `simulator`, what goes wrong (`memos_api.simulator.faults.Fault`).
        out: Where the verdict goes; None is stdout.

    Returns:
        The exit code: 0 when record and truth agree, 3 when lines of *files* were not taken, 9 when
        they do not agree, 10 when it was not confirmed, 130 when it was interrupted.

    Raises:
        RequestError: An argument, or one of *files*, cannot be taken.
        SettingsError: A setting is wrong, or there is no Valkey program.
        WaitTimeoutError: It did not end in time.
    """
    show = out or sys.stdout
    try:
        if memos == "simulator":
            if files:
                msg = "The simulator knows nothing of your files; give them with --memos env."
                raise RequestError(msg)
            return _with_simulator(show, size, faults)
        if memos == "env":
            return _with_real(files, yes=yes, out=show)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; no process and no file of the demo is left.\n")
        return EXIT_INTERRUPTED
    msg = "--memos is simulator or env."
    raise RequestError(msg)


def _with_simulator(out: TextIO, size: Size, switches: Sequence[dict[str, object]]) -> int:
    with ExitStack() as opened:
        simulator = opened.enter_context(
            SimulatorProcess(rate=size.rate_per_second, keep_ids=False)
        )
        template = memos_settings(
            Settings(
                rate_per_second=size.rate_per_second, call_deadline_seconds=10, settle_seconds=1
            ),
            base_url=simulator.base_url,
            api_key=simulator.api_key,
        )
        stack = opened.enter_context(Stack(template))
        seeded = simulator.control.seed(
            users=size.users, memories=size.memories_per_user, seed=_SEED
        )
        orders = make_orders(seeded.by_user, stack.folder, size=size, seed=_SEED)
        simulator.control.set_faults(*switches)
        _say(
            f"Seeded a simulated MemOS with {size.users * size.memories_per_user:,} memories of "
            f"{size.users} users; the limit is {size.rate_per_second:g} calls a second, and bursts "
            "of 429 and 503 will come."
        )
        started = time.monotonic()
        files, views = _carry_out(stack, [orders.ids_file, orders.purges_file], limit_s=_LIMIT_S)
        seconds = time.monotonic() - started
        truth = ask_simulator(simulator.control, orders)
        faults = faults_of(files, views)
        lines = [
            *record_table(files, views, [truth.ids_left, truth.purged_left]),
            "",
            *_truth_lines(truth),
            *_call_lines(simulator.control, seconds, size.rate_per_second),
            "",
            *faults,
        ]
        agrees = truth.agrees and not faults
        lines.append(
            "PROVEN: all that was ordered is gone, nothing else is, and the record says the same."
            if agrees
            else "NOT PROVEN: record and truth do not agree."
        )
        out.write("\n".join(lines) + "\n")
    return 0 if agrees else EXIT_UNVERIFIED


def _with_real(files: Sequence[Path], *, yes: bool, out: TextIO) -> int:
    settings = load_settings()
    if settings.memos_api_key is None:
        msg = "MEMOS_API_KEY is not set, so no call can be made. Set it, and MEMOS_BASE_URL."
        raise SettingsError(msg)
    if not files:
        msg = "Name the files to carry out, as in `expunge demo --memos env ids.csv`."
        raise RequestError(msg)
    if not ask(settings.memos_base_url, [count_orders(path) for path in files], yes=yes):
        sys.stderr.write("Not confirmed; nothing was deleted.\n")
        return EXIT_REFUSED
    with Stack(settings) as stack:
        handed, views = _carry_out(stack, files, limit_s=_OWN_LIMIT_S)
    faults = faults_of(handed, views)
    rejected = sum(file.rejected for file in handed)
    lines = [*record_table(handed, views), "", *faults]
    if faults:
        lines.append("NOT PROVEN: not all that was ordered is known to be gone.")
    elif rejected:
        lines.append(f"What was taken is gone; {rejected:,} lines were not taken.")
    else:
        lines.append("All that was ordered is gone, as far as the read-backs in the table saw.")
    out.write("\n".join(lines) + "\n")
    if faults:
        return EXIT_UNVERIFIED
    return EXIT_PARTLY if rejected else 0


def _carry_out(
    stack: Stack, paths: Sequence[Path], *, limit_s: float
) -> tuple[list[Handed], list[list[RequestView]]]:
    stack.start_worker()
    with Producer.from_settings(stack.settings) as producer:
        files = [hand_in(producer, path) for path in paths]
        for file in files:
            unique = sum(receipt.unique for receipt in file.receipts)
            _say(f"Handed in {file.name}: {len(file.receipts):,} requests for {unique:,}.")
        try:
            views = wait_for_all(producer, files, stack, limit_s=limit_s)
        except WaitTimeoutError:
            stack.show_logs()
            raise
    return files, views


def _truth_lines(truth: Truth) -> list[str]:
    return [
        "The simulator says:",
        f"  memories that nobody asked for: {truth.bystanders:,} of {truth.bystanders_due:,} there",
        f"  users who have more or less than they must: {truth.touched:,}",
    ]


def _call_lines(control: SimulatorControl, seconds: float, limit: float) -> list[str]:
    calls = control.journal()
    refused = sum(call.status == 429 for call in calls)  # noqa: PLR2004 - the HTTP status
    failed = sum((call.status or 0) >= 500 for call in calls)  # noqa: PLR2004 - the HTTP status
    worst = control.worst_window(1.0)
    return [
        f"  calls: {len(calls):,} in {seconds:.0f} s, answered 429: {refused:,}, 5xx: {failed:,}",
        f"  most calls in any second: {worst} of {limit:g} allowed",
    ]


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
