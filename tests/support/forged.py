"""Messages in the doorbell's list that nobody of ours would send, each by its name."""

import base64
import json
import pickle
from typing import Any

from ledger.doorbell import TASK

__all__ = ["LIVELY", "POISON", "ring_with"]


def ring_with(
    *, body: Any = ([], {}, {}), headers: dict[str, Any] | None = None, **properties: Any
) -> str:
    """Make a ring as kombu sends it, with other headers and properties."""
    return _envelope(_base64(json.dumps(body)), {"task": TASK, **(headers or {})}, **properties)


def _base64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _envelope(body: Any, headers: Any, **properties: Any) -> str:
    number = "00000000-0000-4000-8000-000000000001"
    if isinstance(headers, dict):
        headers = {"id": number, "lang": "py", "root_id": number, **headers}
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "body_encoding": "base64",
                "correlation_id": number,
                "delivery_info": {"exchange": "", "routing_key": "expunge"},
                "delivery_mode": 2,
                "delivery_tag": number,
                "priority": 0,
            }
            | properties,
        }
    )


_SIGNATURE: dict[str, Any] = {
    "task": TASK,
    "args": [1],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
}
_EMBEDDED = {"callbacks": [_SIGNATURE], "errbacks": [_SIGNATURE], "chain": [_SIGNATURE]}

# None of these may do anything but be counted.
POISON: dict[str, str | bytes] = {
    "garbage": "garbage",
    "nothing": "",
    "bytes": b"\xff\xfe\x00\x80",
    "a number": "1",
    "a list": "[]",
    "null": "null",
    "100,000 nested brackets": "[" * 100_000,
    "8,000 nested brackets": "[" * 8_000 + "]" * 8_000,
    "2,500 nested objects": '{"a":' * 2_500,
    "an object": "{}",
    "null headers": _envelope(_base64("[[], {}, {}]"), None),
    "a list for headers": _envelope(_base64("[[], {}, {}]"), ["task"]),
    "a task that is no text": ring_with(headers={"task": [TASK]}),
    "no task": _envelope(_base64("[[], {}, {}]"), {}),
    "an unknown task": ring_with(headers={"task": "os.system"}),
    "celery.map": ring_with(
        body=([], {"task": _SIGNATURE, "it": [[1]]}, {}), headers={"task": "celery.map"}
    ),
    "celery.chord": ring_with(headers={"task": "celery.chord"}),
    "an old protocol": json.dumps({"task": TASK, "id": "1", "args": [], "kwargs": {}}),
    "an object for a body": ring_with(body={"a": 1}),
    "a number for a body": ring_with(body=1),
    "two parts": ring_with(body=([], {})),
    "no body": _envelope(None, {"task": TASK}),
    "an empty body": _envelope("", {"task": TASK}),
    "bad base64": _envelope("%%%not base64%%%", {"task": TASK}),
    "a pickle": _envelope(_base64(pickle.dumps(([], {}, {}))), {"task": TASK}),
    "a nested body": _envelope(_base64("[" * 5_000), {"task": TASK}),
    "an argument": ring_with(body=(["someone"], {}, {})),
    "a named argument": ring_with(body=([], {"user": "someone"}, {})),
    "5 MB of an id": ring_with(headers={"id": "x" * 5_000_000}),
    "a huge number": '{"headers": ' + "9" * 10_000 + "}",
}

# These are rings, and nothing of what else they say may have any effect.
LIVELY: dict[str, str] = {
    "callbacks and a chain": ring_with(body=([], {}, _EMBEDDED)),
    "a chord and a group": ring_with(
        body=([], {}, {"chord": _SIGNATURE}), headers={"group": "g", "group_index": 0}
    ),
    "a time limit": ring_with(headers={"timelimit": [1, 1]}),
    "a time limit that is none": ring_with(headers={"timelimit": "soon"}),
    "due in the year 9999": ring_with(headers={"eta": "9999-12-31T23:59:59+00:00"}),
    "due at no time": ring_with(headers={"eta": {"a": 1}}),
    "expired": ring_with(headers={"expires": "1999-01-01T00:00:00+00:00"}),
    "a shadow": ring_with(headers={"shadow": 'x\n{"event": "worker_ended"}'}),
    "retries": ring_with(headers={"retries": 10**9, "argsrepr": "('someone',)"}),
    "no id": ring_with(headers={"id": None}),
    "an id that is none": ring_with(headers={"id": {"a": [1]}}),
    "another content": ring_with(delivery_tag=None, body_encoding="rot13"),
    "a priority": ring_with(priority="high", delivery_info={"priority": 9}),
    "an answer elsewhere": ring_with(reply_to="somewhere", headers={"stamped_headers": ["a"]}),
    "compressed": ring_with(headers={"compression": "application/x-bz2"}),
}
