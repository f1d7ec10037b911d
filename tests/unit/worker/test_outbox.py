"""Outcomes are gathered for a moment, none is lost, and what stops traffic does not wait."""

import asyncio
import time

import pytest

from tests.unit.worker.test_prepare import task
from worker.outbox import MOST_AT_ONCE, Outbox

from ledger.tasks import Retry, Settlement

GATHER_S = 0.05


def settlement(number=0, **changed):
    return Settlement(
        task=task(place=number),
        move=Retry(delay_s=0, burn=False),
        outcome="back_off",
        reason="x",
        **changed,
    )
