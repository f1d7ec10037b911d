"""Exit codes that are not those of an error; `ledger.errors` has the others (2, 5, 6, 8)."""

from typing import Final

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_PARTLY",
    "EXIT_REFUSED",
    "EXIT_UNEXPECTED",
    "EXIT_UNVERIFIED",
    "EXIT_WAITED",
]

EXIT_UNEXPECTED: Final = 1
EXIT_PARTLY: Final = 3
EXIT_WAITED: Final = 7
EXIT_UNVERIFIED: Final = 9
EXIT_REFUSED: Final = 10
EXIT_INTERRUPTED: Final = 130
