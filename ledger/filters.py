r"""The filter language: which requests a command is about, in words such as `state:open,verifying`.

```
filter  = word, { blank, word } ;                    all words must hold; none: every request
word    = [ "-" ], key, ":", value, { ",", value } ; "-": not; several values: one of them
value   = text | '"', text, '"' ;                    in quotes \ stands before a quote and itself
```

Keys: `state project kind lane result certainty reason id` are compared exactly; `held cancelling
overdue at_risk final dead tampered` are `true` or `false`; `dead_reason` is what one of its dead
letters was given up for; `created submitted due finished` take a comparison and a moment:
`created:<-7d`, `due:>=2026-12-01`, `finished:>2026-11-20T10:00:00Z`. What a request does not have
(no reason, no due date) matches no value, and so it matches each negated word.

Messages name a word by its number and never repeat it: somebody may have typed an id.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, not_, or_, select, true

from ledger.clock import to_wall
from ledger.dead import is_dead_letter
from ledger.errors import RequestError
from ledger.near_miss import distance
from ledger.risk import at_risk_rows, overdue_rows
from ledger.schema import chunk, request
from ledger.states import Certainty, Kind, Lane, RequestState, Result

__all__ = ["KEYS", "Bound", "Filter", "Word", "parse_filter"]

# Far more than anybody types; an expression must not become deeper than SQLite takes.
MOST_CHARACTERS: Final = 20_000
MOST_WORDS: Final = 50
MOST_VALUES: Final = 200

_CHOICES: Final[Mapping[str, type[StrEnum]]] = {
    "state": RequestState,
    "kind": Kind,
    "lane": Lane,
    "result": Result,
    "certainty": Certainty,
}
_TEXTS: Final = ("project", "reason", "id", "dead_reason")
_FLAGS: Final[Mapping[str, Callable[[int], ColumnElement[bool]]]] = {
    "held": lambda _now: request.c.held == 1,
    "cancelling": lambda _now: request.c.cancelling == 1,
    "overdue": overdue_rows,
    "at_risk": at_risk_rows,
    "final": lambda _now: request.c.finished_at.is_not(None),
    "dead": lambda _now: _has_dead(),
    "tampered": lambda _now: request.c.tampered == 1,
}
_MOMENTS: Final = ("created", "submitted", "due", "finished")
KEYS: Final = (*_CHOICES, *_TEXTS, *_FLAGS, *_MOMENTS)

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_BOUND: Final = re.compile(r"(<=|>=|<|>)(.*)", re.DOTALL)
_RELATIVE: Final = re.compile(r"([+-])([0-9]{1,6})([smhdw])")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_MICROSECOND: Final = timedelta(microseconds=1)
# One character, and whether it stood in quotes and so means itself.
_Marks = list[tuple[str, bool]]


@dataclass(frozen=True)
class Bound:
    """A comparison with a moment; a difference counts from the time of asking."""

    operator: str
    moment: datetime | timedelta

    def at(self, now_us: int) -> int:
        """Give the moment in microseconds since 1970, asked at `now_us`."""
        if isinstance(self.moment, timedelta):
            return now_us + self.moment // _MICROSECOND
        return to_wall(self.moment)

    def __str__(self) -> str:
        if isinstance(self.moment, datetime):
            return f"{self.operator}{self.moment.isoformat()}"
        if not self.moment:
            return f"{self.operator}now"
        size = abs(self.moment)
        unit = next(unit for unit, length in _UNITS.items() if not size % length)
        sign = "-" if self.moment < timedelta() else "+"
        return f"{self.operator}{sign}{size // _UNITS[unit]}{unit}"


@dataclass(frozen=True)
class Word:
    """One word: a key, the values of which one must hold, and whether it is turned round."""

    key: str
    values: tuple[str | bool | Bound, ...]
    negated: bool = False

    def condition(self, now_us: int) -> ColumnElement[bool]:
        """Give the condition on the request table; never NULL, so that NOT is its opposite."""
        found = self._plain(now_us)
        return not_(found) if self.negated else found

    def _plain(self, now_us: int) -> ColumnElement[bool]:
        if self.key in _FLAGS:
            flag = _FLAGS[self.key](now_us)
            return or_(*(flag if value else not_(flag) for value in self.values))
        if self.key in _MOMENTS:
            column = request.c[f"{self.key}_at"]
            bounds = [value for value in self.values if isinstance(value, Bound)]
            compared = (_OPERATORS[one.operator](column, one.at(now_us)) for one in bounds)
            return and_(column.is_not(None), or_(*compared))
        if self.key == "dead_reason":
            return _has_dead(chunk.c.last_reason.in_(self.values))
        column = request.c[self.key]
        return and_(column.is_not(None), column.in_(self.values))

    def __str__(self) -> str:
        values = ",".join(_spelt(value) for value in self.values)
        return f"{'-' if self.negated else ''}{self.key}:{values}"


@dataclass(frozen=True)
class Filter:
    """A parsed filter; `str` gives the words back. Without words it matches every request."""

    words: tuple[Word, ...] = ()

    def condition(self, now_us: int) -> ColumnElement[bool]:
        """Give the SQL condition on the request table.

        Args:
            now_us: The time of asking, in microseconds since 1970.
        """
        return and_(true(), *(word.condition(now_us) for word in self.words))

    def __str__(self) -> str:
        return " ".join(map(str, self.words))


def _has_dead(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Condition on a request: it has a dead letter, of which these hold."""
    # From the few that are dead, not for each request anew.
    return request.c.id.in_(select(chunk.c.request_id).where(is_dead_letter(), *conditions))


def parse_filter(text: str) -> Filter:
    """Read a filter.

    Raises:
        RequestError: A word is none; the message names its number and what may stand there.
    """
    if len(text) > MOST_CHARACTERS:
        msg = f"The filter has over {MOST_CHARACTERS:,} characters; give ids as arguments instead."
        raise RequestError(msg)
    words = _split(text)
    if len(words) > MOST_WORDS:
        msg = f"The filter has over {MOST_WORDS} words; join values with commas."
        raise RequestError(msg)
    return Filter(tuple(_word(number, marks) for number, marks in enumerate(words, start=1)))


def _split(text: str) -> list[_Marks]:
    """Split at blanks outside of quotes."""
    words: list[_Marks] = [[]]
    quoted = escaped = False
    for mark in text:
        if escaped:
            words[-1].append((mark, True))
            escaped = False
        elif quoted and mark == "\\":
            escaped = True
        elif mark == '"':
            quoted = not quoted
        elif mark.isspace() and not quoted:
            words.append([])
        else:
            words[-1].append((mark, quoted))
    if quoted:
        msg = 'The filter has a quote (") that is not closed.'
        raise RequestError(msg)
    return [word for word in words if word]


def _word(number: int, marks: _Marks) -> Word:
    negated = marks[0] == ("-", False)
    key_marks, *rest = _parts(marks[negated:], ":", most=1)
    key = _text(key_marks)
    if key not in KEYS or not rest:
        msg = f"Word {number} of the filter is not KEY:VALUE{_meant(key, KEYS)}"
        raise RequestError(f"{msg} Keys are: {', '.join(KEYS)}.")
    values = _parts(rest[0], ",")
    if len(values) > MOST_VALUES:
        msg = f"Word {number} of the filter has over {MOST_VALUES} values."
        raise RequestError(msg)
    where = f"Word {number} of the filter (`{key}`)"
    read = [_value(key, _text(value), where) for value in values]
    return Word(key, tuple(dict.fromkeys(read)), negated=negated)


def _parts(marks: _Marks, at: str, most: int = -1) -> list[_Marks]:
    """Split at a character outside of quotes, at most so many times."""
    parts: list[_Marks] = [[]]
    for mark in marks:
        if mark == (at, False) and most != 0:
            parts.append([])
            most -= 1
        else:
            parts[-1].append(mark)
    return parts


def _text(marks: _Marks) -> str:
    return "".join(mark for mark, _ in marks)


def _value(key: str, text: str, where: str) -> str | bool | Bound:
    if not text:
        msg = f"{where} has an empty value; write {key}:VALUE."
        raise RequestError(msg)
    if not text.isprintable():
        msg = f"{where} holds a character that cannot be printed."
        raise RequestError(msg)
    if key in _MOMENTS:
        return _bound(text, where)
    choices: list[str] = []
    if key in _CHOICES:
        choices = list(_CHOICES[key])
    elif key in _FLAGS:
        choices = ["true", "false"]
    if choices and text not in choices:
        msg = f"{where} has a value that it cannot have{_meant(text, choices)}"
        raise RequestError(f"{msg} Values are: {', '.join(choices)}.")
    return text == "true" if key in _FLAGS else text


def _bound(text: str, where: str) -> Bound:
    found = _BOUND.fullmatch(text)
    if found is None:
        msg = f"{where} needs a comparison before its moment: <, <=, > or >=, as in <-7d."
        raise RequestError(msg)
    return Bound(found[1], _moment(found[2], where))


def _moment(text: str, where: str) -> datetime | timedelta:
    if text == "now":
        return timedelta()
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        size = int(relative[2]) * _UNITS[relative[3]]
        return -size if relative[1] == "-" else size
    try:
        moment = datetime.fromisoformat(text)
        if _DAY.fullmatch(text):
            moment = moment.replace(tzinfo=UTC)
        if moment.tzinfo is not None:
            return moment
    except ValueError:
        pass
    msg = (
        f"{where} has no moment that can be read. Write a day (2026-12-01, in UTC), a time with "
        "its zone (2026-12-01T10:00:00Z), `now`, or a distance from now (-7d, +12h; s, m, h, d, w)."
    )
    raise RequestError(msg)


def _meant(text: str, known: Iterable[str]) -> str:
    """Give the end of a sentence that suggests a known word, when there is one like the text."""
    slips = {one: distance(text.casefold(), one, most=2) for one in known}
    near = [one for one, count in slips.items() if count is not None and count < len(one) - 1]
    if not near:
        return "."
    best = min(near, key=lambda one: slips[one] or 0)
    return f"; did you mean `{best}`?"


def _spelt(value: str | bool | Bound) -> str:  # noqa: FBT001 - one of the three kinds of value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Bound):
        return str(value)
    if not any(mark.isspace() or mark in ',"\\' for mark in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
