"""Logs show what is on a list and nothing else, whatever comes in whatever way."""

import io
import json
import logging
import re
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger import redaction
from ledger.finish import Ended
from ledger.logs import _hand_over, _Lines, _secrets
from ledger.projects import Project
from ledger.redaction import REDACTED, Redaction
from ledger.settings import Settings
from ledger.states import Certainty, Kind, Result
from ledger.streams import Stream
from ledger.vocabulary import EVENTS

ROOT = Path(__file__).parents[3]
REQUEST = "3f0c8f0e-6d2f-4f4e-9d0b-0a4c7d3e1b2a"
REDACT = Redaction(names=["shop", "crm"], secrets=["k-123456", "pa55word"])
KNOWN_FIELDS = sorted(REDACT._forms)

# As people, memories and keys are called; some look like words, numbers, versions or file names.
CANARIES = st.one_of(
    st.sampled_from(
        ["alice", "user_17", "mem-0001", "Jürgen", "0d8f7a52", "a@b.example", "+491701234567"]
    ),
    st.from_regex(r"(user|mem|mpg|key)[-_:][a-z0-9]{6,20}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{16,24}", fullmatch=True),
    st.text(min_size=5, max_size=40),
)
NAMES = st.one_of(
    st.sampled_from([*KNOWN_FIELDS, "ts", "level", "event", "logger", "exc_info"]),
    st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
)


def wrap(canary, how):
    return {
        "text": canary,
        "list": [canary],
        "dict": {canary: canary},
        "tuple": (1, canary),
        "error": ValueError(canary),
        "bytes": canary.encode("utf-8", "replace"),
        "exc": (ValueError, ValueError(canary), None),
    }[how]


HOWS = st.sampled_from(["text", "list", "dict", "tuple", "error", "bytes", "exc"])


def hidden(canary, shown):
    """Whether a canary is nowhere in a line; what is part of a line without any is no canary."""
    plain = json.dumps(REDACT.ours({"event": "claim_failed", "level": "error", "ts": TS}))
    words = [REDACTED, "redacted_fields", "library_message", "ValueError", "KeyError", "tests"]
    known = plain + " ".join([*words, *KNOWN_FIELDS, *EVENTS])
    assume(canary not in known and json.dumps(canary)[1:-1] not in known)
    line = json.dumps(shown)
    return canary not in line and json.dumps(canary)[1:-1] not in line


TS = "2026-11-22T23:23:00.918256Z"


@given(st.dictionaries(NAMES, st.tuples(CANARIES, HOWS), max_size=5), CANARIES)
def test_no_field_whatever_its_name_shows_an_id(fields, event):
    shown = REDACT.ours({"event": event} | {n: wrap(c, how) for n, (c, how) in fields.items()})

    for canary, _ in [*fields.values(), (event, "text")]:
        assert hidden(canary, shown)


@given(CANARIES, HOWS, st.sampled_from(["msg", "args", "name", "dict", "fstring", "exc"]))
def test_no_record_of_a_library_shows_what_it_is_about(canary, how, where):
    value = wrap(canary, how)
    msg: Any = "broker %s is gone"
    args: tuple[Any, ...] = (value,)
    name, exc = "structlog", None
    if where == "msg":
        msg, args = canary, ()
    elif where == "fstring":
        msg, args = f"broker {canary} is gone", ()
    elif where == "name":
        name = canary
    elif where == "dict":
        msg, args = {"event": canary, "request_id": canary}, ()
    elif where == "exc":
        exc = (ValueError, ValueError(canary), None)
    record = logging.LogRecord(name, logging.ERROR, "/x/connection.py", 7, msg, args, exc)

    assert hidden(canary, REDACT.library(record, ts=TS))


@given(st.text(), st.sampled_from(["k-123456", "pa55word"]), st.text())
def test_a_known_secret_is_nowhere_even_where_text_is_shown(before, secret, after):
    assert secret not in REDACT.text(before + secret + after).replace(REDACTED, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:pw@host:6379/0", f"redis://{REDACTED}@host:6379/0"),
        ("see postgresql://u:p%40w@h/db, please", f"see postgresql://{REDACTED}@h/db, please"),
        ("http://host/a@b", "http://host/a@b"),
        ("mail a@b.example", "mail a@b.example"),
    ],
)
def test_an_address_shows_nobody_who_logs_in_there(text, shown):
    assert REDACT.text(text) == shown


# -- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("request_id", REQUEST, REQUEST),
        ("request_id", REQUEST.upper(), REDACTED),
        ("request_id", "u-17", REDACTED),
        ("project", "shop", "shop"),
        ("project", "alice", REDACTED),
        ("result", Result.PARTIAL, "partial"),
        ("result", "alice", REDACTED),
        ("reason", "http_503", "http_503"),
        ("reason", "code_40132", "code_40132"),
        ("reason", "code_491701234567", REDACTED),
        ("part", "worker.celery_main", "worker.celery_main"),
        ("error", KeyError("alice"), "KeyError"),
        ("error", KeyError, "KeyError"),
        ("error", "LedgerError", "LedgerError"),
        ("error", "alice", REDACTED),
        ("cause", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_WRITE"),
        ("cause", "57P01", "57P01"),
        ("cause", "alice", REDACTED),
        ("cause", None, None),
        ("chunks", 3, 3),
        ("chunks", "3", REDACTED),
        ("seconds", 0.25, 0.25),
        ("seconds", float("nan"), REDACTED),
        ("outcomes", 49_170_123_456_789, REDACTED),
        ("found", "0003", "0003"),
        ("version", "0.1.0", "0.1.0"),
        ("version", "17", REDACTED),
        ("worker", "drain-17-0a1b2c3d", "drain-17-0a1b2c3d"),
    ],
)
def test_a_field_shows_what_has_its_form(name, value, shown):
    assert REDACT.ours({"event": "claim_failed", name: value})[name] == shown


def test_only_an_enumeration_of_ours_is_a_list_of_code_words():
    class Foreign(StrEnum):
        ALICE = "alice"

    assert REDACT.ours({"event": "claim_failed", "kind": Foreign.ALICE})["kind"] == REDACTED


def test_a_field_that_is_not_listed_is_counted_and_not_named():
    shown = REDACT.ours({"event": "claim_failed", "alice": 1, "user_id": 2})

    assert shown["redacted_fields"] == 2
    assert not {"alice", "user_id"} & set(shown)


def test_the_keys_that_every_line_has_come_first_and_in_this_order():
    shown = REDACT.ours({"chunks": 1, "event": "claim_failed", "level": "info", "ts": TS})

    assert list(shown)[:4] == ["ts", "level", "event", "logger"]


@pytest.mark.parametrize(
    ("msg", "args", "event"),
    [
        ("broker %s is gone", ("x",), "broker %s is gone"),
        ("took %(seconds).2f s", ({"seconds": 1},), "took %(seconds).2f s"),
        ("broker x is gone", (), "library_message"),
        ("%s", ("x",), "library_message"),
        ("%s: %r", ("x", "y"), "library_message"),
        (ValueError("x"), (), "library_message"),
    ],
)
def test_of_a_library_the_template_shows_when_it_is_apart_from_its_values(msg, args, event):
    record = logging.LogRecord("structlog", logging.ERROR, "/x/connection.py", 7, msg, args, None)

    shown = REDACT.library(record, ts=TS)

    assert shown["event"] == event
    assert (shown["logger"], shown["module"], shown["line"]) == ("structlog", "connection", 7)


def test_a_logger_is_named_as_far_as_it_is_a_module():
    def shown(name):
        record = logging.LogRecord(name, logging.ERROR, "/x/y.py", 1, "x", (), None)
        return REDACT.library(record, ts=TS)["logger"]

    assert shown("logging.handlers.alice") in ("logging", "logging.handlers")
    assert shown("alice") == REDACTED


# -- through structlog and logging ----------------------------------------------------------------


def lines_of(say, *, for_people=False):
    """Run *say* with a logger of ours and with one of a library; gives the lines."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Lines(REDACT, for_people=for_people))
    inner = logging.Logger("ledger.x", logging.DEBUG)  # noqa: LOG001 - apart from pytest's
    inner.addHandler(handler)
    ours = structlog.wrap_logger(
        inner,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _hand_over,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    say(ours, inner)
    return out.getvalue().splitlines()


@given(CANARIES)
def test_bound_variables_and_positional_values_are_redacted_too(canary):
    def say(ours, _inner):
        with structlog.contextvars.bound_contextvars(user=canary, reason=canary):
            ours.bind(project=canary, memory=canary).warning("claim_failed", outcomes=canary)
            ours.warning("claim_failed %s", canary)

    lines = lines_of(say)
    assert all(hidden(canary, json.loads(line)) for line in lines)
    assert len(lines) == 2


def test_for_people_a_line_is_no_json_and_hides_as_much():
    def say(ours, inner):
        ours.warning("claim_failed", outcomes=3, user="alice")
        inner.error("said alice")

    first, second = lines_of(say, for_people=True)
    assert "claim_failed" in first
    assert "alice" not in first + second
    assert not first.startswith("{")


def test_the_texts_of_all_keys_and_passwords_are_known(tmp_path):
    settings = Settings(
        home=tmp_path,
        memos_api_key="key-of-default",
        ledger_url="postgresql://me:p%40ss-1@h/db",
        redis_url="redis://:pass-2@h/0",
        streams={"s": Stream(name="s", url="redis://u:pass-3@h/0")},
        more_projects={
            "b": Project(name="b", account="default", base_url="http://h/v1", api_key=None)
        },
    )

    assert set(_secrets(settings)) == {
        "key-of-default",
        "p%40ss-1",
        "p@ss-1",
        "pass-2",
        "pass-3",
    }


LOGS = """
import logging, sys, threading, warnings
import structlog
from ledger.logs import configure_logs
from ledger.settings import LogLevel, Settings
configure_logs()
configure_logs(Settings(log_level=LogLevel(sys.argv[1])))
log = structlog.get_logger()
log.debug("claim_failed", chunks=1)
log.info("claim_failed", chunks=2)
log.warning("claim_failed", chunks=3)
logging.getLogger("celery").info("broker %s", "there")
logging.getLogger("celery").error("broker %s", "gone")
logging.getLogger("celery").error("%d", "secret-id-16")
apart = logging.getLogger("billiard")
apart.propagate = False
apart.error("%s of secret-id-14" % "text")
warnings.warn("secret-id-15")
try:
    {"secret-id-17": 1}["x-secret-id"]
except KeyError:
    logging.getLogger("celery").exception("a task failed")
    log.exception("claim_failed")
class Bad:
    def __del__(self):
        raise LookupError("secret-id-20")
Bad()
def fail():
    raise ValueError("secret-id-18")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise RuntimeError("secret-id-19")
"""


def run_logs(level):
    done = subprocess.run(
        [sys.executable, "-c", LOGS, level], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "secret-id" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_and_no_exception_shows_what_it_was_about():
    lines = run_logs("warning")

    assert [line.get("error") for line in lines] == [
        *(None, None, None, None, None),
        *("KeyError", "KeyError", "LookupError", "ValueError", "RuntimeError"),
    ]
    assert lines[0]["chunks"] == 3
    assert lines[1]["event"] == "broker %s"
    assert [line["level"] for line in lines[-3:]] == ["error", "critical", "critical"]
    assert all(line["ts"].endswith("Z") for line in lines)


def test_the_level_is_that_of_our_own_events_and_of_the_libraries_only_at_debug():
    chunks = {
        level: [line.get("chunks") for line in run_logs(level)] for level in ("info", "debug")
    }

    assert chunks["info"][:2] == [2, 3]
    assert chunks["debug"][:3] == [1, 2, 3]
    assert len(chunks["debug"]) == len(chunks["info"]) + 2  # the level below, and Celery's info


# -- the lists ------------------------------------------------------------------------------------


def said():
    """Events and fields of all our log statements: name of the event, and the fields' names."""
    for package in ("expunge", "ledger", "memos_api", "producer", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            statements = re.findall(
                r"_log\.\w+\(\s*\"(\w+)\"((?:[^()]|\([^()]*\))*)\)", path.read_text()
            )
            for event, rest in statements:
                yield event, re.findall(r"(\w+)=", rest)


def test_each_event_and_field_that_we_log_is_on_the_list():
    statements = list(said())

    assert len(statements) > 10
    assert {event for event, _ in statements} <= EVENTS
    fields = {name for _, names in statements for name in names}
    assert fields - {"exc_info"} <= set(KNOWN_FIELDS)


def test_what_a_request_came_to_can_all_be_shown():
    ended = Ended(
        request_id=REQUEST,
        kind=Kind.USER,
        result=Result.COMPLETE,
        certainty=Certainty.VERIFIED,
        attempts=2,
        unique=1,
        seconds=1.5,
    )
    shown = REDACT.ours({"event": "request_finished"} | vars(ended))

    assert REDACTED not in {k: v for k, v in shown.items() if k not in ("ts", "logger")}.values()


def test_no_form_takes_any_text():
    for name, form in REDACT._forms.items():
        assert form("some text of somebody") == redaction.REDACTED, name
