"""The words that logs may say: names of events, and reasons that no enumeration holds.

A log line is for people at night, and no place for what somebody else wrote. Whatever is not in
these lists, and of no other known form, is shown as `[redacted]` (`ledger.redaction`).
"""

from typing import Final

__all__ = ["EVENTS", "WORDS"]

EVENTS: Final = frozenset(
    {
        # worker
        "advance_failed",
        "bell_not_rung",
        "broker_refuses",
        "broker_unfit",
        "call_failed",
        "claim_failed",
        "clerk_failed",
        "clerk_lost",
        "closer_alone",
        "doorbell_rejected",
        "disk_failed",
        "drain_failed",
        "ledger_away",
        "leeway_returned",
        "leeway_taken",
        "look_failed",
        "metrics_failed",
        "order_tampered",
        "part_ended",
        "part_killed",
        "postpone_failed",
        "record_failed",
        "request_finished",
        "schema_fits",
        "schema_mismatch",
        "scrubbed",
        "scrub_failed",
        "steward_drains",
        "sweep_failed",
        "worker_ended",
        "worker_started",
        # bridge
        "batch_failed",
        "bridge_ended",
        "bridge_started",
        "intake_waits",
        "message_parked",
        "message_unreadable",
        "queue_waits",
        "turn_failed",
        # sealer
        "account_halted",
        "bodies_pruned",
        "events_damaged",
        "seal_failed",
        # every process
        "health_failed",
        "health_listening",
        "process_failed",
        "thread_failed",
        "library_message",
    }
)

WORDS: Final = {
    "part": frozenset({"worker.celery_main", "worker.steward", "expunge.health.steward_main"}),
    "role": frozenset({"drain", "steward", "bridge", "sealer"}),
    "process": frozenset({"worker", "bridge", "dev"}),
    "reason": frozenset({"evicts"}),
}
