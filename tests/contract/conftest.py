"""Ledgers for the tests of this folder."""

from tests.support.ledger_world import world, worlds

__all__ = ["world", "worlds"]
