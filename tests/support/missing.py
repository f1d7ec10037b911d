"""What happens when a part that a test needs is not on this machine.

On a person's machine the test is skipped and says why. In CI (`CI=true`) and with
`EXPUNGE_TEST_REQUIRE_ALL=1` it fails: a skipped test proves nothing, and nobody reads the skips.
"""

import os
from collections.abc import Generator, Mapping
from typing import Any, NoReturn

import pytest

__all__ = ["NoSkips", "missing_part", "requires_all"]

_YES = {"1", "true", "yes"}


def requires_all(environment: Mapping[str, str]) -> bool:
    """Tell whether *environment* asks for every test to run."""
    return any(
        environment.get(name, "").lower() in _YES for name in ("CI", "EXPUNGE_TEST_REQUIRE_ALL")
    )


# Read once, before the environment of the tests is cleared.
_REQUIRES_ALL = requires_all(os.environ)


def missing_part(message: str) -> NoReturn:
    """Skip the test, or fail it where every part has to be there.

    Args:
        message: What is missing, and how to get it.
    """
    if _REQUIRES_ALL:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


class NoSkips:
    """Pytest plugin that turns every skip into a failure.

    Catches what does not go through `missing_part`: `skipif` marks, `importorskip`, skipped files.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Fail a skipped test; an expected failure (xfail) stays what it is."""
        report = yield
        return report if hasattr(report, "wasxfail") else _failed(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        """Fail the loading of a file that skips itself."""
        return _failed((yield))


def _failed(report: Any) -> Any:  # test and collect reports have no common class
    if report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{why}\nNothing may be skipped in this run (CI=true)."
    return report
