"""The closed list of events: each type has its versions, and nothing else is recorded."""

import json
from pathlib import Path

import pytest

from ledger.canonical import canonical
from ledger.event_types import BASE_FIELDS, SCHEMAS, EventType, fault_of, newest
from ledger.events import event_rows

JCS = Path(__file__).parents[2] / "vectors" / "jcs" / "testdata"


def test_every_type_has_versions_in_order_and_leaves_the_common_fields_alone():
    assert set(SCHEMAS) == set(EventType)
    for versions in SCHEMAS.values():
        assert [schema.version for schema in versions] == list(range(1, len(versions) + 1))
        for schema in versions:
            assert all(not BASE_FIELDS & form.keys() for form in schema.forms)


@pytest.mark.parametrize(
    ("kind", "payload", "why"),
    [
        (EventType.PROJECT_MENDED, {}, r"other fields than its schema \(none\)"),
        (EventType.PROJECT_MENDED, {"project": "p", "user": "canary"}, r"\(project, user\)"),
        (EventType.PROJECT_MENDED, {"project": 7}, "its field project is not"),
        (EventType.LEASES_LAPSED, {"calls": -1, "given_up": 0}, "its field calls is not"),
        (EventType.LEASES_LAPSED, {"calls": True, "given_up": 0}, "its field calls is not"),
        (EventType.PROJECT_MENDED, {"project": "p" * 513}, "its field project is not"),
    ],
)
def test_a_payload_that_does_not_match_is_refused_and_not_shown(kind, payload, why):
    with pytest.raises(ValueError, match=why) as caught:
        event_rows(kind, payload)
    assert "canary" not in str(caught.value)
    assert "ppp" not in str(caught.value)


def test_a_second_look_is_recorded_in_its_second_version_and_the_first_is_still_known():
    payload = {"result": "absent", "found": 0, "later": 0, "ordered": None}
    head, body = event_rows(EventType.REQUEST_LOOKED_AGAIN, payload | {"not_checked": ["search"]})

    stored = json.loads(body["payload"])
    assert (stored["v"], stored["not_checked"]) == (2, ["search"])
    assert head["type"] == "request.looked_again"
    first = SCHEMAS[EventType.REQUEST_LOOKED_AGAIN][0]
    assert fault_of(first, payload | {"not_checked": '["search"]'}) is None
    assert newest(EventType.REQUEST_LOOKED_AGAIN).version == 2


@pytest.mark.parametrize("name", sorted(path.stem for path in (JCS / "input").iterdir()))
def test_canonical_json_is_that_of_rfc_8785_or_refused_for_its_floats(name):
    value = json.loads((JCS / "input" / f"{name}.json").read_text())
    if name in ("structures", "values"):
        with pytest.raises(ValueError, match="Floats"):
            canonical(value)
        return
    assert canonical(value) == (JCS / "output" / f"{name}.json").read_bytes()
