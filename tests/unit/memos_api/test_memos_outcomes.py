"""Each documented code, each status and each odd body: one row, one outcome."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.codes import CODES, STATUSES, rule_for_code, rule_for_status
from memos_api.outcomes import Answer, Outcome, classify

JSON = {"Content-Type": "application/json"}


def judged(body, *, status=200, headers=JSON):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(http_status=status, headers=headers, body=raw)


def envelope(code, *, success=None):
    data = None if success is None else {"success": success}
    return {"code": code, "message": "provider text", "data": data}


BY_CODE = [
    (40000, Outcome.REFUSED),
    (40001, Outcome.NOT_FOUND),
    (40002, Outcome.PERMANENT),
    (40003, Outcome.PERMANENT),
    (40006, Outcome.PERMANENT),
    (40007, Outcome.PERMANENT),
    (40008, Outcome.PERMANENT),
    (40009, Outcome.PERMANENT),
    (40010, Outcome.PERMANENT),
    (40011, Outcome.PERMANENT),
    (40020, Outcome.PAUSE_PROJECT),
    (40100, Outcome.PAUSE_PROJECT),
    (40101, Outcome.PAUSE_PROJECT),
    (40103, Outcome.PAUSE_PROJECT),
    (40130, Outcome.PAUSE_PROJECT),
    (40132, Outcome.PAUSE_PROJECT),
    (40300, Outcome.BACK_OFF),
    (40301, Outcome.TOO_LARGE),
    (40302, Outcome.TOO_LARGE),
    (40303, Outcome.TOO_LARGE),
    (40304, Outcome.PAUSE_ACCOUNT),
    (40305, Outcome.TOO_LARGE),
    (40306, Outcome.REFUSED),
    (40307, Outcome.NOT_FOUND),
    (40308, Outcome.NOT_FOUND),
    (40309, Outcome.PAUSE_ACCOUNT),
    (40310, Outcome.BACK_OFF),
    (40399, Outcome.BACK_OFF),
    (40400, Outcome.REFUSED),
    (49999, Outcome.REFUSED),
    (50000, Outcome.UNKNOWN),
    (50002, Outcome.UNKNOWN),
    (50004, Outcome.UNKNOWN),
    (50005, Outcome.UNKNOWN),
    (50103, Outcome.PERMANENT),
    (50107, Outcome.PERMANENT),
    (50120, Outcome.PERMANENT),
    (50123, Outcome.PERMANENT),
    (50131, Outcome.PERMANENT),
    (50143, Outcome.PERMANENT),
    (50145, Outcome.PERMANENT),
    (50999, Outcome.UNKNOWN),
    (60000, Outcome.UNKNOWN),
    (60099, Outcome.UNKNOWN),
    (70000, Outcome.UNKNOWN),
    (1, Outcome.UNKNOWN),
    (400, Outcome.REFUSED),  # self-hosted servers put the HTTP status into the code
    (422, Outcome.REFUSED),
    (429, Outcome.BACK_OFF),
    (500, Outcome.UNKNOWN),
]


@pytest.mark.fault("F67")
@pytest.mark.parametrize("status", [200, 400, 403, 500])
@pytest.mark.parametrize(("code", "outcome"), BY_CODE)
def test_a_failing_code_decides_whatever_the_http_status(code, outcome, status):
    for success in (None, False, "false"):
        answer = judged(envelope(code, success=success), status=status)
        assert (answer.outcome, answer.code) == (outcome, code)
        assert answer.reason == f"code_{code}"
        assert answer.http_status == status


@pytest.mark.fault("F67")
def test_every_documented_code_has_its_row_here():
    assert set(CODES) - {0, 200} <= {code for code, _ in BY_CODE}


@pytest.mark.fault("F67")
@pytest.mark.parametrize("code", [0, 200])
@pytest.mark.parametrize("success", [True, "true"])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_success_is_2xx_and_an_ok_code_and_success_said(code, success, status):
    answer = judged(envelope(code, success=success), status=status)
    assert (answer.outcome, answer.reason) == (Outcome.ACKNOWLEDGED, "ok")


@pytest.mark.fault("F67")
@pytest.mark.parametrize("code", [0, 200])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_an_ok_code_under_a_failing_status_is_unknown(code, status):
    answer = judged(envelope(code, success=True), status=status)
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, "contradiction")


@pytest.mark.fault("F67")
@pytest.mark.parametrize("code", [code for code, _ in BY_CODE])
def test_a_failing_code_with_success_true_is_unknown(code):
    answer = judged(envelope(code, success=True))
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, "contradiction")


BY_STATUS = [
    (301, Outcome.PAUSE_PROJECT),
    (302, Outcome.PAUSE_PROJECT),
    (304, Outcome.PAUSE_PROJECT),
    (307, Outcome.PAUSE_PROJECT),
    (308, Outcome.PAUSE_PROJECT),
    (400, Outcome.REFUSED),
    (401, Outcome.PAUSE_PROJECT),
    (402, Outcome.PAUSE_ACCOUNT),
    (403, Outcome.PAUSE_PROJECT),
    (404, Outcome.PAUSE_PROJECT),
    (405, Outcome.PAUSE_PROJECT),
    (407, Outcome.PAUSE_PROJECT),
    (408, Outcome.UNKNOWN),
    (409, Outcome.REFUSED),
    (410, Outcome.PAUSE_PROJECT),
    (413, Outcome.TOO_LARGE),
    (414, Outcome.REFUSED),
    (422, Outcome.REFUSED),
    (425, Outcome.UNKNOWN),
    (429, Outcome.BACK_OFF),
    (500, Outcome.UNKNOWN),
    (502, Outcome.UNKNOWN),
    (503, Outcome.UNKNOWN),
    (504, Outcome.UNKNOWN),
    (599, Outcome.UNKNOWN),
    (600, Outcome.UNKNOWN),
    (100, Outcome.UNKNOWN),
]


@pytest.mark.fault("F65")
@pytest.mark.parametrize(
    "body", [b"", b"sorry", b'{"detail":"x"}', b'{"code":null}', b"[1]", b'"x"']
)
@pytest.mark.parametrize(("status", "outcome"), BY_STATUS)
def test_without_a_code_the_http_status_decides(status, outcome, body):
    answer = judged(body, status=status)
    assert (answer.outcome, answer.code) == (outcome, None)
    assert answer.reason == ("redirect" if 300 <= status < 400 else f"http_{status}")


def test_every_row_of_statuses_has_its_row_here():
    tried = {status for status, _ in BY_STATUS} | {200}
    assert all(tried & set(statuses) for statuses, _ in STATUSES)


ODD_2XX = [
    (b"", "not_json"),
    (b"ok", "not_json"),
    (b'{"code":0,"data":{"success":true}', "not_json"),
    (b'{"code":0,"data":{"success":true}} x', "not_json"),
    (b"\xef\xbb\xbf" + b'{"code":0,"data":{"success":true}}', "not_json"),
    (b'{"code":' + b"9" * 5000 + b"}", "not_json"),
    (b"[]", "not_object"),
    (b"null", "not_object"),
    (b"true", "not_object"),
    (b"{}", "no_code"),
    (b'{"success":true}', "no_code"),
    (b'{"data":{"success":true}}', "no_code"),
    (b'{"code":null,"data":{"success":true}}', "no_code"),
    (b'{"code":"0","data":{"success":true}}', "code_not_integer"),
    (b'{"code":"40307","data":null}', "code_not_integer"),
    (b'{"code":0.0,"data":{"success":true}}', "code_not_integer"),
    (b'{"code":false,"data":{"success":true}}', "code_not_integer"),
    (b'{"code":[0],"data":{"success":true}}', "code_not_integer"),
    (b'{"code":0}', "success_missing"),
    (b'{"code":0,"data":null}', "success_missing"),
    (b'{"code":0,"data":true}', "success_missing"),
    (b'{"code":0,"data":[true]}', "success_missing"),
    (b'{"code":0,"data":{"success":null}}', "success_missing"),
    (b'{"code":0,"success":true}', "success_missing"),
    (b'{"code":0,"data":{"success":false}}', "success_false"),
    (b'{"code":0,"data":{"success":"false"}}', "success_false"),
    (b'{"code":0,"data":{"success":"True"}}', "success_false"),
    (b'{"code":0,"data":{"success":1}}', "success_false"),
    (b'{"code":0,"data":{"status":"failure","success":false}}', "success_false"),
    (b'{"code":0,"code":0,"data":{"success":true}}', "ambiguous_json"),
    (b'{"code":40307,"code":0,"data":{"success":true}}', "ambiguous_json"),
    (b'{"code":0,"data":{"success":false,"success":true}}', "ambiguous_json"),
    (b'{"code":NaN,"data":{"success":true}}', "ambiguous_json"),
    (b'{"code":0,"data":{"success":true},"x":Infinity}', "ambiguous_json"),
    (b'{"code":0,"data":{"success":true},"x":-Infinity}', "ambiguous_json"),
    (b'{"code":0,"data":{"success":true},"x":"\xff"}', "ambiguous_json"),
    ('{"code":0,"data":{"success":true}}'.encode("utf-16"), "ambiguous_json"),
    (b'{"code":0,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "ambiguous_json"),
    (b"<html>ok</html>", "html"),
    (b"  \n<!doctype html><p>hi", "html"),
    (b"<?xml version='1.0'?><a/>", "html"),
]


@pytest.mark.fault("F67", "F68", "F69")
@pytest.mark.parametrize(("body", "reason"), ODD_2XX, ids=range(len(ODD_2XX)))
def test_a_2xx_that_cannot_be_read_as_success_is_unknown(body, reason):
    answer = judged(body)
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, reason)


@pytest.mark.fault("F68")
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 422, 500, 502, 503])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b"<html><h1>Forbidden</h1></html>"),
        ({"content-type": "Text/HTML; charset=utf-8"}, b"Forbidden"),
        (JSON, b'{"code":40307,"code":40100}'),
        (JSON, b'{"code":NaN}'),
        (JSON, b"\xc3\x28"),
    ],
)
def test_a_proxys_page_or_two_faced_json_stops_no_project(status, headers, body):
    assert judged(body, status=status, headers=headers).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("status", "outcome"), [(413, Outcome.TOO_LARGE), (429, Outcome.BACK_OFF)])
def test_a_proxys_413_and_429_mean_what_they_say(status, outcome):
    answer = judged(b"<html>no</html>", status=status, headers={"Retry-After": "7"})
    assert (answer.outcome, answer.retry_after_s) == (outcome, 7.0)


def test_json_under_a_html_content_type_is_still_read():
    answer = judged(envelope(0, success=True), headers={"Content-Type": "text/html"})
    assert answer.outcome is Outcome.ACKNOWLEDGED


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip", "zstd"])
@pytest.mark.parametrize("status", [200, 404, 429])
def test_an_encoded_body_is_unknown_for_none_was_asked_for(encoding, status):
    answer = judged(
        envelope(0, success=True), status=status, headers={"CONTENT-encoding": encoding}
    )
    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, "content_encoding")


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_identity_is_no_encoding(encoding):
    headers = {"content-encoding": encoding}
    assert judged(envelope(0, success=True), headers=headers).outcome is Outcome.ACKNOWLEDGED


@pytest.mark.fault("F74")
def test_a_redirect_is_a_wrong_address_even_with_a_promising_body():
    answer = judged(envelope(0, success=True), status=307)
    assert (answer.outcome, answer.reason) == (Outcome.PAUSE_PROJECT, "redirect")


def test_retry_after_is_told_with_any_outcome():
    answer = judged(b"", status=503, headers={"retry-after": "12"})
    assert (answer.outcome, answer.retry_after_s) == (Outcome.UNKNOWN, 12.0)


@given(
    st.integers(100, 999),
    st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=5),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["code", "data"]), inner)
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_answer_raises_and_none_but_the_documented_one_is_success(status, headers, body):
    answer = classify(http_status=status, headers=headers, body=body)
    if answer.outcome is Outcome.ACKNOWLEDGED:
        read = json.loads(body)
        assert 200 <= status < 300
        assert read["code"] in {0, 200}
        assert read["data"]["success"] in {True, "true"}


def test_an_answer_carries_nothing_of_the_providers_text():
    body = json.dumps({"code": 40307, "message": "canary", "data": {"x": "canary"}}).encode()
    assert "canary" not in repr(judged(body, headers={"X-Canary": "canary"}))


def test_every_row_explains_itself():
    rules = [*CODES.values(), *(rule for _, rule in STATUSES)]
    assert all(rule.meaning and rule.judgement for rule in rules)
    assert rule_for_code(40307).outcome is Outcome.NOT_FOUND
    assert rule_for_status(999).outcome is Outcome.UNKNOWN


def test_answers_are_values():
    assert judged(b"") == Answer(
        outcome=Outcome.UNKNOWN, code=None, http_status=200, retry_after_s=None, reason="not_json"
    )


@pytest.mark.fault("F67")
@pytest.mark.parametrize("code", [-1, 100_000, 491701234567, 10**30])
def test_a_number_that_cannot_be_a_code_is_unknown_and_not_kept(code):
    answer = judged(envelope(code), status=200)
    assert (answer.outcome, answer.code) == (Outcome.UNKNOWN, None)
    assert str(code) not in answer.reason
