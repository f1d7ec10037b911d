"""Places where a test lets the product crash, stall, or lose the answer of a commit.

Off unless a test arms them: a place then costs one look at a global. Tests arm this process by
`armed`, and child processes by EXPUNGE_CRASH_POINTS, a comma-separated list of rules:

    PLACE@HIT=ACTION     such as claim.after_commit@3=kill

HIT counts this process's passages, from 1. A rule fires once for all processes that share a home:
whoever fires it leaves a file named like its place and hit in the folder `crash-points` there, with
its process id in it. ACTION is one of `kill` (SIGKILL), `stop` (SIGSTOP: somebody has to send
SIGCONT), `delay:SECONDS`, and `lost` (the ledger did not confirm, as when a COMMIT's answer is
lost; only of use after a commit).
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import LedgerError

__all__ = ["PLACES", "arm", "armed", "parse_rules", "reached"]

PLACES: Final = frozenset(
    {
        "submit.before_commit",
        "submit.after_commit",
        "claim.before_commit",
        "claim.after_commit",
        "call.before_send",
        "call.after_answer",
        "record.before_commit",
        "record.after_commit",
        "advance.before_commit",
        "advance.after_commit",
        "finish.before_commit",
        "scrub.after_begin",
        "scrub.after_chunks",
        "sweep.before_commit",
        "sweep.after_commit",
        "bell.before_publish",
        "seal.after_leaves",
        "seal.before_publish",
        "seal.after_publish",
        "seal.before_new_key",
    }
)
_RULE: Final = re.compile(r"([a-z._]+)@([1-9][0-9]*)=(kill|stop|lost|delay:([0-9.]+))")
_hook: Callable[[str], None] | None = None


def reached(place: str) -> None:
    """Say that this process is at a place; does nothing unless a test armed it."""
    if _hook is not None:
        _hook(place)


@contextmanager
def armed(hook: Callable[[str], None]) -> Iterator[None]:
    """Call `hook` with the name of each place that this process reaches; it may raise or block."""
    global _hook  # noqa: PLW0603 - one switch a process
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def arm(rules: str | None, *, home: Path) -> None:
    """Arm this process for good by rules as above; nothing happens without any.

    Raises:
        ValueError: A rule is none, or names no place.
    """
    global _hook  # noqa: PLW0603 - as above
    if rules and not isinstance(_hook, _Rules):
        _hook = _Rules(parse_rules(rules), home / "crash-points")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens at which passage of a place; seconds are those of a delay."""

    place: str
    hit: int
    action: str
    seconds: float = 0.0


def parse_rules(text: str) -> list[Rule]:
    """Read rules.

    Raises:
        ValueError: One is none, or names no place.
    """
    rules = []
    for part in text.split(","):
        match = _RULE.fullmatch(part.strip())
        if match is None or match[1] not in PLACES:
            msg = (
                "must be rules such as claim.after_commit@1=kill, comma-separated; the places are: "
                + ", ".join(sorted(PLACES))
            )
            raise ValueError(msg)
        action = match[3].partition(":")[0]
        seconds = float(match[4] or 0)
        rules.append(Rule(place=match[1], hit=int(match[2]), action=action, seconds=seconds))
    return rules


class _Rules:
    """The rules of a process and how often it came to each place."""

    def __init__(self, rules: list[Rule], folder: Path) -> None:
        self._rules = rules
        self._folder = folder
        self._hits: Counter[str] = Counter()

    def __call__(self, place: str) -> None:
        self._hits[place] += 1
        for rule in self._rules:
            if (rule.place, rule.hit) == (place, self._hits[place]) and self._is_first(rule):
                _carry_out(rule)

    def _is_first(self, rule: Rule) -> bool:
        """Leave the mark; False when another process did before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / f"{rule.place}@{rule.hit}"
        try:
            with mark.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return False
        return True


def _carry_out(rule: Rule) -> None:
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif rule.action == "delay":
        time.sleep(rule.seconds)
    else:
        msg = f"A test lost the ledger's answer at {rule.place}; it is safe to try again."
        raise LedgerError(msg, cause="lost_answer")
