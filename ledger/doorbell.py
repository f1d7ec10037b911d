"""The doorbell: names of task and queue, Celery's settings, and when to ring.

A message says "look into the ledger", nothing else. Losing one costs time, never work: the steward
rings again for whatever is due. Traps and figures behind each setting: Celery 5.7 "Using Redis",
and `docs/adr/0003-one-task-without-arguments.md`.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from ledger.crash_points import reached

__all__ = [
    "BELL_KEY",
    "BROKER_KEYS",
    "BROKER_PREFIX",
    "QUEUE",
    "TASK",
    "BellStore",
    "celery_settings",
    "ring",
]

TASK: Final = "expunge.drain"
QUEUE: Final = "expunge"
BELL_KEY: Final = "expunge:bell"
# What Celery keeps beside them in the same database.
BROKER_KEYS: Final = frozenset({QUEUE, BELL_KEY, "unacked", "unacked_index", "unacked_mutex"})
BROKER_PREFIX: Final = "_kombu."
BELL_MS: Final = 2_000
# Enough for every child of a large fleet to find a message, and a bound whatever the backlog.
MOST_WAITING: Final = 16
_TLS: Final = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


class BellStore(Protocol):
    """The two Redis commands that ringing takes; redis-py's client has them."""

    def set(self, name: str, value: str, *, nx: bool, px: int) -> object: ...  # noqa: D102
    def llen(self, name: str) -> object: ...  # noqa: D102


def ring(store: BellStore, publish: Callable[[], object]) -> bool:
    """Ring once unless it was rung in the last 2 s or enough messages wait already.

    Args:
        store: A Redis client; its own time-outs bound how long this can take.
        publish: Sends the one message; called at most once.

    Returns:
        True when a message was sent.
    """
    waiting = store.llen(QUEUE)
    if isinstance(waiting, int) and waiting >= MOST_WAITING:
        return False
    if not store.set(BELL_KEY, "1", nx=True, px=BELL_MS):
        return False
    reached("bell.before_publish")
    publish()
    return True


def celery_settings(redis_url: str, *, socket_timeout_s: float = 5.0) -> dict[str, Any]:
    """Give Celery's settings for both sides; `redis_url` as in `redis://host:port/db`.

    Args:
        redis_url: The broker. A database (or server) for this service alone, `noeviction`.
        socket_timeout_s: Producers pass a short one, since kombu would wait for ever by default.
    """
    return {
        "broker_url": redis_url,
        # kombu would take any certificate; what the address says of ssl_cert_reqs wins over this.
        "broker_use_ssl": dict(_TLS) if redis_url.startswith("rediss://") else None,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 10,
        "broker_transport_options": {
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": min(5.0, socket_timeout_s),
            "socket_keepalive": True,
            # A worker drops a connection that nothing comes from after twice this time at most.
            "health_check_interval": 5,
            "max_connections": 20,
            # One list: kombu would keep three more for priorities.
            "priority_steps": [0],
        },
        # The default direct queue survives a flush of Redis; named exchanges do not.
        "task_default_queue": QUEUE,
        "task_create_missing_queues": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_publish_retry": False,
        "task_track_started": False,
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_prefetch_multiplier": 1,
        "worker_eta_task_limit": 1,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
    }
