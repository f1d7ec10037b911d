"""What the doctor makes of a ledger's facts."""

from collections.abc import Iterable
from typing import Final

from expunge.doctor.findings import Finding, fail, ok, warn
from expunge.doctor.ledger_facts import Beat, LedgerFacts
from expunge.tables import counted
from ledger.pauses import Pause

__all__ = ["check_clock", "check_requests", "check_standstills", "check_workers"]

_FRESH_S: Final = 30.0
_UNCLAIMED_S: Final = 60.0
_SKEW_S: Final = 2.0
_MUCH_SKEW_S: Final = 60.0
_STEWARD: Final = "steward"


def check_clock(name: str, skew_s: float | None) -> list[Finding]:
    """Do the clocks of a server and of this host agree?

    Args:
        name: Whose clock it is.
        skew_s: How far it is ahead of ours; None when it has none.
    """
    if skew_s is None:
        return []
    if abs(skew_s) <= _SKEW_S:
        return [ok("clock", f"The clock of {name} agrees with this host's.")]
    way = "ahead of" if skew_s > 0 else "behind"
    grade = fail if abs(skew_s) > _MUCH_SKEW_S else warn
    return [
        grade(
            "clock",
            f"The clock of {name} is {abs(skew_s):.0f} s {way} this host's: due dates and the "
            "record say other times than it.",
            fix="Let both follow a time server (NTP).",
        )
    ]


def check_workers(facts: LedgerFacts, version: str) -> list[Finding]:
    """Does anybody carry out what is due, and with this release?

    Args:
        facts: What the ledger says.
        version: Of this installation.
    """
    alive = [beat for beat in facts.beats if -_FRESH_S < beat.age_s < _FRESH_S]
    workers = sum(beat.role == _STEWARD for beat in alive)
    waits = facts.unclaimed_s is not None and facts.unclaimed_s > _UNCLAIMED_S
    if not workers:
        gone = min((beat.age_s for beat in facts.beats if beat.age_s >= _FRESH_S), default=None)
        says = "No worker runs" + ("" if gone is None else f"; the last was heard {gone:.0f} s ago")
        fix = "Start `expunge worker`, and read what it logs."
        if facts.unclaimed_s is not None:
            return [fail("workers", f"{says}, and work is due.", fix=fix)]
        return [warn("workers", f"{says}; nothing is due.", fix=fix)]
    found = [ok("workers", "One worker runs." if workers == 1 else f"{workers} workers run.")]
    if waits:
        found.append(
            warn(
                "workers",
                f"Work is due, and none of the workers has claimed any for over "
                f"{_UNCLAIMED_S:.0f} s.",
                fix="Look again in a minute; if it stays so, read the workers' logs.",
            )
        )
    return found + _versions(alive, version)


def _versions(alive: Iterable[Beat], version: str) -> list[Finding]:
    others = sorted({beat.release for beat in alive} - {version})
    if not others:
        return []
    return [
        warn(
            "workers",
            f"Some run another release ({', '.join(others)}) than this one ({version}).",
            fix="Restart them on the release that the ledger was upgraded to.",
        )
    ]


def check_standstills(pauses: Iterable[Pause]) -> list[Finding]:
    """Does anything stand still?"""
    found = [_standstill(pause) for pause in pauses]
    return found or [ok("pauses", "Nothing stands still.")]


def _standstill(pause: Pause) -> Finding:
    what = f"{pause.scope.capitalize()} {pause.name}"
    left = f"{pause.seconds_left or 0:.0f} s"
    if pause.kind == "rests":
        return warn(
            "pauses",
            f"{what} rests for {left} more ({pause.reason}).",
            fix="It goes on by itself. If it happens often, lower its rate.",
        )
    if pause.kind == "broken":
        return warn(
            "pauses",
            f"{what} cannot reach MemOS ({pause.reason}); it is tried again in {left}.",
            fix="It goes on by itself, once MemOS can be reached from the workers.",
        )
    option = "--account " if pause.scope == "account" else ""
    return fail(
        "pauses",
        f"{what} is paused ({pause.reason}): nothing of it is sent.",
        fix="Mend its key or address if these were refused, restart the workers, then run: "
        f"expunge resume {option}{pause.name}",
    )


def check_requests(facts: LedgerFacts) -> list[Finding]:
    """Does any request need a person?"""
    found = []
    if facts.tampered:
        found.append(
            fail(
                "requests",
                f"Not what was ordered any more, and stopped: {facts.tampered:,}. Somebody wrote "
                "to the ledger, it is damaged, or these are other keys.",
                fix="expunge list 'tampered:true final:false' and `expunge audit verify`, then go "
                'by docs/operations.md, "An order was changed".',
            )
        )
    if facts.tampered_ended:
        found.append(
            warn(
                "requests",
                f"Ended, and something of them is not what was ordered: {facts.tampered_ended:,}.",
                fix="expunge list 'tampered:true final:true' and `expunge audit verify`, then go "
                'by docs/operations.md, "An order was changed". This goes when they are '
                "scrubbed.",
            )
        )
    if facts.overdue:
        found.append(
            fail(
                "requests",
                f"Past their due date and not ended: {facts.overdue:,}.",
                fix="expunge list overdue:true",
            )
        )
    if facts.held:
        found.append(
            warn(
                "requests",
                f"Held by somebody: {facts.held:,}.",
                fix="expunge list held:true, then `expunge release` those that may go on.",
            )
        )
    if facts.dead:
        found.append(
            warn(
                "requests",
                f"Given up, and waiting for a person: {counted(facts.dead, 'chunk')}.",
                fix="expunge dead list, then `expunge dead redrive` or `expunge dead discard`.",
            )
        )
    if facts.stale:
        found.append(
            warn(
                "requests",
                f"Their ids stopped coming in over an hour ago: {facts.stale:,}. After a day they "
                "are cancelled.",
                fix="expunge list state:receiving, and hand them in again: `expunge import "
                "--resume` goes on where it was.",
            )
        )
    if facts.parked:
        found.append(
            warn(
                "messages",
                f"Parked, since they cannot be an order: {facts.parked:,}.",
                fix="expunge parked, and tell the sender what is wrong with them.",
            )
        )
    return found or [ok("requests", "None is overdue, tampered with, held, given up or stuck.")]
