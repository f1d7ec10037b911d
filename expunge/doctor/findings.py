"""What a check found, and what waits at most so long for it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from ledger.errors import ExpungeError

__all__ = ["Finding", "Grade", "Late", "fail", "failed", "ok", "unexpected", "warn", "within"]

T = TypeVar("T")


class Grade(StrEnum):
    """How good it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        check: What was looked at, a few words.
        grade: How good it is.
        says: What was found; no key, no id, no URL with a password.
        fix: What to do; None when all is well.
    """

    check: str
    grade: Grade
    says: str
    fix: str | None = None


def ok(check: str, says: str) -> Finding:
    """Give a finding that all is well."""
    return Finding(check=check, grade=Grade.OK, says=says)


def warn(check: str, says: str, *, fix: str) -> Finding:
    """Give a finding that somebody should know of; the service works."""
    return Finding(check=check, grade=Grade.WARN, says=says, fix=fix)


def fail(check: str, says: str, *, fix: str) -> Finding:
    """Give a finding that keeps something from working."""
    return Finding(check=check, grade=Grade.FAIL, says=says, fix=fix)


def failed(check: str, error: ExpungeError) -> Finding:
    """Turn an error of ours into a finding: our messages end in what to do, after a semicolon."""
    says, mark, fix = str(error).rpartition("; ")
    if not mark:
        return fail(check, fix, fix="Mend that and run `expunge doctor` again.")
    return fail(check, f"{says}.", fix=fix[:1].upper() + fix[1:])


def unexpected(check: str, error: BaseException) -> Finding:
    """Turn any other error into a finding, without its text, which may hold anything."""
    return fail(
        check,
        f"Looking at it ended in an unexpected {type(error).__name__}.",
        fix="Run `expunge --debug doctor` to see where, and report it.",
    )


class Late(Exception):  # noqa: N818 - what happened, not what it is
    """It took longer than it may."""


class _Result(Generic[T]):
    def __init__(self) -> None:
        self.values: Sequence[T] = ()
        self.error: BaseException | None = None


def within(seconds: float, look: Callable[[], T]) -> T:
    """Look at something that may hang, for so long at most.

    Raises:
        Late: It took longer. The thread is left behind and does not keep the process from ending.
        Exception: What *look* raised.
    """
    result: _Result[T] = _Result()

    def run() -> None:
        try:
            result.values = [look()]
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            result.error = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Late
    if result.error is not None:
        raise result.error
    return result.values[0]
