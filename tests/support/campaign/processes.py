"""One seed with real processes: two workers, and a hand that does them harm for a while.

Orders come in while workers are killed and frozen, Redis is flushed, killed and cut off, the ledger
and MemOS are reached over lines that break, and MemOS gives odd answers. Then everything heals,
all work is done, and the oracle judges.
"""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.campaign.score import Score
from tests.support.fault_proxy import Mode
from tests.support.stack import Stack, Worker

__all__ = ["HARM_S", "run_seed"]

HARM_S = 30.0
_REST_S = 60.0
_RATE = 80.0
_USERS, _EACH = 16, 60
_ODD_ANSWERS: list[dict[str, Any]] = [
    {"kind": "http_429", "endpoint": "any", "count": 3, "retry_after": "1"},
    {"kind": "http_5xx", "endpoint": "any", "count": 6},
    {"kind": "failure_after_effect", "count": 5},
    {"kind": "success_without_effect", "count": 5},
    {"kind": "delayed_effect", "count": 5, "seconds": 0.5},
    {"kind": "slow_body", "count": 3, "seconds": 3.0},
    {"kind": "stall", "count": 3, "seconds": 3.0},
    {"kind": "reset_after_applying", "count": 8},
    {"kind": "reset_before_applying", "count": 8},
    {"kind": "html", "endpoint": "any", "count": 4},
    {"kind": "empty", "count": 4},
    {"kind": "truncated", "endpoint": "any", "count": 6},
]
_BREAKS: list[dict[str, Any]] = [
    {"mode": Mode.REFUSE},
    {"mode": Mode.BLACK_HOLE},
    {"mode": Mode.BLACK_HOLE, "direction": "down"},
    {"mode": Mode.HOLD},
    {"mode": Mode.RESET, "direction": "up"},
    {"mode": Mode.SWALLOW, "direction": "up"},
    {"mode": Mode.DELAY, "seconds": 0.2},
    {"mode": Mode.THROTTLE, "direction": "down", "rate": 2_000.0},
    {"mode": Mode.CUT, "direction": "down", "after_bytes": 20},
]


def run_seed(folder: Path, ledger_url: str, seed: int) -> Score:
    """Run one seed for at most a minute and a half; what goes wrong is in the score."""
    kind = ledger_url.partition("+")[0].partition(":")[0]
    proxied = {"memos", "redis"} | ({"ledger"} if kind == "postgresql" else set())
    events = 0
    verdict = heals_s = None
    error = ""
    kills = 0
    try:
        with Stack(folder, ledger_url, rate=_RATE, latency_ms=20, proxied=proxied) as stack:
            harm = _Harm(random.Random(seed), stack)
            events = harm.go()
            healed_s = time.monotonic()
            verdict = stack.verdict(seconds=_REST_S)
            heals_s = time.monotonic() - healed_s
            kills = stack.counted_kills
        verdict.assert_clean()
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is this seed's failure
        error = f"{type(problem).__name__}: {str(problem)[:2_000]}"
    return Score(
        name=f"processes-{seed}",
        kind="processes",
        ledger=kind,
        events=events,
        kills=kills,
        heals_s=heals_s,
        verdict=verdict,
        error=error,
    )


class _Harm:
    """The hand: orders work, and does harm between."""

    def __init__(self, chance: random.Random, stack: Stack) -> None:
        self._chance = chance
        self._stack = stack
        stack.start_worker()
        stack.start_worker()
        self._seeded = stack.seed(users=_USERS, memories=_EACH, seed=chance.randrange(10**6))
        self._free = self._seeded.users[: _USERS - 3]  # the others are bystanders

    def go(self) -> int:
        """Do harm for a while and make all good again; gives how much was done."""
        what = [
            self._kill_worker,
            self._kill_child,
            self._freeze_worker,
            self._flush,
            self._restart_redis,
            self._odd_answers,
            self._odd_answers,
            self._break_line,
            self._break_line,
            self._break_line,
        ]
        done = 0
        end = time.monotonic() + HARM_S
        while time.monotonic() < end:
            self._order()
            self._chance.choice(what)()
            done += 2
            time.sleep(self._chance.uniform(0.2, 1.5))
        while self._free:
            self._order()
        for proxy in self._stack.proxies.values():
            proxy.clear()
        self._stack.control.clear_faults()
        return done

    def _order(self) -> None:
        if not self._free:
            return
        user = self._free.pop()
        if self._chance.random() < 0.3:
            self._stack.purge(user)
            return
        ids = self._seeded.by_user[user][: self._chance.randint(5, _EACH)]
        # Lies are found out by a full read-back only.
        self._stack.submit(ids, chunk_size=self._chance.choice([1, 3, 10]), subject=user)

    def _living(self) -> list[Worker]:
        """Give the workers that run: one that met a broken line as it started has ended."""
        if all(one.process.poll() is not None for one in self._stack.workers):
            self._stack.start_worker()
        return [one for one in self._stack.workers if one.process.poll() is None]

    def _kill_worker(self) -> None:
        living = self._living()
        self._chance.choice(living).kill_group()
        self._stack.start_worker()

    def _kill_child(self) -> None:
        living = self._living()
        pids = [
            pid
            for pid in self._chance.choice(living).members()
            if pid not in {one.pid for one in living}
        ]
        if pids:
            self._stack.kills += 1
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(pids), signal.SIGKILL)

    def _freeze_worker(self) -> None:
        living = self._living()
        group = self._chance.choice(living).pid
        os.killpg(group, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.5, 8.0))
        os.killpg(group, signal.SIGCONT)

    def _flush(self) -> None:
        with self._stack.valkey.client() as client:
            client.flushall()

    def _restart_redis(self) -> None:
        self._stack.valkey.kill()
        time.sleep(self._chance.uniform(0.0, 3.0))
        self._stack.valkey.start()

    def _odd_answers(self) -> None:
        self._stack.control.set_faults(*self._chance.sample(_ODD_ANSWERS, 3))

    def _break_line(self) -> None:
        proxy = self._stack.proxies[self._chance.choice(sorted(self._stack.proxies))]
        proxy.set(**self._chance.choice(_BREAKS))
        time.sleep(self._chance.uniform(0.2, 2.5))
        proxy.clear()
