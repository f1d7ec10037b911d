"""What a log line may show: fields of a closed list, each in its own form, and nothing else.

An id may be any text, so nothing is found out by looking for ids. It is the other way round: each
field has a form that no id has (a member of one of our enumerations, a number, the class of an
error, the name of a configured project), and whatever has no form becomes `[redacted]`. Logs of
libraries show their place in the code, and their template when it is apart from the values.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from logging import LogRecord
from typing import Any, Final

from ledger.vocabulary import EVENTS, WORDS

__all__ = ["REDACTED", "Redaction"]

REDACTED: Final = "[redacted]"

_OURS: Final = frozenset({"expunge", "producer", "worker", "ledger", "memos_api"})
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})
_MOST: Final = 10**10
_LONGEST_TEMPLATE: Final = 300
_SHORTEST_SECRET: Final = 4

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ANSWER: Final = re.compile(r"http_[1-9]\d{2}|code_\d{1,5}")
_VERSION: Final = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}((a|b|rc|\.post|\.dev)\d{1,3})?")
_REVISION: Final = re.compile(r"\d{4}")
_CAUSE: Final = re.compile(r"SQLITE_[A-Z]{2,20}(_[A-Z]{1,20}){0,3}|\d[0-9A-Z]{4}|(HV|P0|XX)\d{3}")
_PROCESS: Final = re.compile(r"(drain|steward|bridge|sealer)-\d{1,8}-[0-9a-f]{8}")
_POSITION: Final = re.compile(r"\d{1,16}-\d{1,19}")
_LOGGER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_CONVERSION: Final = re.compile(r"%(\([A-Za-z_]\w*\))?[-#0 +]*[\d*]*(\.[\d*]+)?[a-zA-Z]")
_USERINFO: Final = re.compile(r"(://)[^/\s\"'@]*@")

_NUMBERS: Final = frozenset(
    {
        *("accepted", "accounts", "ahead", "attempt", "attempts", "backlog", "calls", "chunks"),
        *("code", "dead", "deliveries", "duplicates", "exit_code", "http_status", "invalid", "lag"),
        *("lapsed", "limit", "line", "messages", "milliseconds", "outcomes", "parked", "part_pid"),
        *("pending", "pid", "port", "processes", "projects", "rate_per_second", "rejected"),
        *("requests", "restart_in_s", "retry_in_s", "rows", "seconds", "silent_s", "size"),
        *("streams", "tries", "unique", "waited_s"),
    }
)
_NAMES: Final = frozenset({"account", "group", "project", "stream"})
_ENUMERATED: Final = frozenset(
    {
        *("broker", "certainty", "check", "health", "kind", "lane", "log_level", "outcome"),
        *("part", "process", "reason", "result", "role", "scope", "state", "traces", "why"),
    }
)
_SHAPED: Final[Mapping[str, re.Pattern[str]]] = {
    "cause": _CAUSE,
    "found": _REVISION,
    "message_position": _POSITION,
    "needed": _REVISION,
    "parked_id": _UUID,
    "position": _POSITION,
    "release": _VERSION,
    "request_id": _UUID,
    "version": _VERSION,
    "worker": _PROCESS,
}


class Redaction:
    """The one place that every record passes on its way out.

    Args:
        names: Of projects, accounts, streams and groups, as the settings have them.
        secrets: Texts that must never appear, whatever they came in.
    """

    def __init__(self, *, names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        """Keep the two lists."""
        self._names = frozenset(names)
        # Longest first: one may be a part of another.
        self._secrets = sorted(
            {one for one in secrets if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True
        )
        self._forms = self._make_forms()

    def ours(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Give what may be shown of an event that our code logged."""
        event = fields.get("event")
        shown: dict[str, Any] = {
            "ts": _matching(_TIME, fields.get("ts")),
            "level": _level(fields.get("level")),
            "event": event if isinstance(event, str) and event in EVENTS else REDACTED,
            "logger": _logger(fields.get("logger")),
        }
        for name, value in fields.items():
            if name in shown or name == "exc_info":
                continue
            form = self._forms.get(name)
            if form is None:
                # The name itself may have been made of what was being deleted.
                shown["redacted_fields"] = shown.get("redacted_fields", 0) + 1
            else:
                shown[name] = None if value is None else form(value)
        error = _raised(fields.get("exc_info"))
        if error is not None and "error" not in shown:
            shown["error"] = type(error).__name__
        return shown

    def library(self, record: LogRecord, *, ts: str) -> dict[str, Any]:
        """Give what may be shown of a record that a library logged; never its formatted text."""
        shown: dict[str, Any] = {
            "ts": ts,
            "level": _level(record.levelname.lower()),
            "event": self.text(_template(record)),
            "logger": _logger(record.name),
            "module": _matching(_MODULE, record.module),
            "line": record.lineno,
        }
        error = _raised(record.exc_info)
        if error is not None:
            shown["error"] = type(error).__name__
        return shown

    def text(self, text: str) -> str:
        """Take out known secrets and what stands before the `@` of an address."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return _USERINFO.sub(rf"\1{REDACTED}@", text) if "://" in text else text

    def _make_forms(self) -> dict[str, Callable[[Any], Any]]:
        forms: dict[str, Callable[[Any], Any]] = {"error": _error}
        forms |= dict.fromkeys(_NUMBERS, _number)
        forms |= dict.fromkeys(_NAMES, self._name)
        for name in _ENUMERATED:
            forms[name] = _word_of(WORDS.get(name, frozenset()))
        for name, pattern in _SHAPED.items():
            forms[name] = _shape_of(pattern)
        return forms

    def _name(self, value: object) -> str:
        return value if isinstance(value, str) and value in self._names else REDACTED


def _number(value: object) -> object:
    if isinstance(value, bool | int):
        return value if abs(value) < _MOST else REDACTED
    if isinstance(value, float):
        return value if math.isfinite(value) and abs(value) < _MOST else REDACTED
    return REDACTED


def _word_of(words: frozenset[str]) -> Callable[[Any], str]:
    """Make the form of a code word: one of *words*, of an enumeration of ours, or an answer's."""

    def word(value: object) -> str:
        if isinstance(value, Enum):
            ours = type(value).__module__.partition(".")[0] in _OURS
            return str(value.value) if ours and isinstance(value.value, str) else REDACTED
        if isinstance(value, str) and (value in words or _ANSWER.fullmatch(value)):
            return value
        return REDACTED

    return word


def _shape_of(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    return lambda value: _matching(pattern, value)


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else REDACTED


def _level(value: object) -> str:
    return value if isinstance(value, str) and value in _LEVELS else "info"


def _logger(name: object) -> str:
    """Show of a logger's name what names a module: some programs name loggers after users."""
    if name == "py.warnings":
        return name
    text = name if isinstance(name, str) and _LOGGER.fullmatch(name) else ""
    while text and text not in sys.modules:
        text = text.rpartition(".")[0]
    return text or REDACTED


def _error(value: object) -> str:
    """Name an error by its class; as text it must be the name of a class that exists."""
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, type) and issubclass(value, BaseException):
        return value.__name__
    return value if isinstance(value, str) and value in _error_names() else REDACTED


def _error_names() -> set[str]:
    names: set[str] = set()
    some: list[type[BaseException]] = [BaseException]
    while some:
        each = some.pop()
        if each.__name__ not in names:
            names.add(each.__name__)
            some += each.__subclasses__()
    return names


def _raised(caught: object) -> BaseException | None:
    if caught is True:
        caught = sys.exc_info()
    error = caught[1] if isinstance(caught, tuple) else caught
    return error if isinstance(error, BaseException) else None


def _template(record: LogRecord) -> str:
    """Give the text that the library's author wrote, when the values stand apart from it."""
    text = record.msg
    if not isinstance(text, str) or not record.args or len(text) > _LONGEST_TEMPLATE:
        return "library_message"
    words = _CONVERSION.sub("", text)
    return text if words != text and any(mark.isalpha() for mark in words) else "library_message"
