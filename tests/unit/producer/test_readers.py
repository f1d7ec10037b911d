"""Files into ids: byte for byte, or a reject that tells no secrets."""

import csv
import gzip
import hashlib
import io
import json
import lzma
import math
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.ids import check_memory_id
from ledger.states import Kind, Lane
from producer.files import Format, Reject, Source, guess_format, open_source, parse_map, table
from producer.files.by_user import group_by_user
from producer.files.jsonl import RequestRow, read_requests
from producer.files.layout import Columns
from producer.files.plain import read_plain
from producer.files.rows import TableRow
from producer.files.table import read_table

CANARY = "canary-7d1f"


def source(content):
    raw = content if isinstance(content, bytes) else content.encode()
    return Source(io.BytesIO(raw), name="orders")


def is_id(text):
    try:
        check_memory_id(text, where="x")
    except RequestError:
        return False
    return True


good_ids = st.one_of(
    st.sampled_from(["007", "1e5", " a ", '"', "a,b", "'", "é", "e\u0301", "😀", "NULL", "=1+1"]),
    st.text(min_size=1, max_size=40).filter(is_id),
)


# -- plain lines ----------------------------------------------------------------------------------


@given(st.lists(good_ids, max_size=20), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_plain_ids_come_back_byte_for_byte(ids, end, ends_with_line_end):
    text = end.join(ids) + (end if ends_with_line_end else "")
    assert list(read_plain(source(text))) == ids


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"\n\n\r\n")
def test_whatever_plain_lines_hold_only_true_ids_come_out(raw):
    try:
        found = list(read_plain(source(raw)))
    except RequestError:
        return
    for each in found:
        assert isinstance(each, Reject) or (is_id(each) and each.encode() in raw)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n \nc", [3]),
        ("a\rb\nc", [1]),
        ("a\x00\nb", [1]),
        ("ok\n" + "x" * 257, [2]),
        ("\x85\nok\n\u007f", [1, 3]),
        ("x" * 3_000_000 + "\nok\n", [1]),
    ],
)
def test_a_bad_plain_line_is_rejected_by_its_number(text, lines):
    found = [each for each in read_plain(source(text)) if isinstance(each, Reject)]
    assert [each.line for each in found] == lines


def test_a_line_that_unicode_would_break_is_one_id():
    assert list(read_plain(source("a\u2028b\u2029c\n"))) == ["a\u2028b\u2029c"]


def test_a_byte_order_mark_is_no_part_of_the_first_id():
    assert list(read_plain(source("\ufeffa\n\ufeffb\n"))) == ["a", "\ufeffb"]


# -- whole files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a\nb\n\xff\n", "line 3"),
        (b"a\n" * 600_000 + b"\xe4\n", "line 600001"),
        (b"ok\n\xc3", "line 2"),
        ("a\nb\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_not_utf8_is_refused_as_a_whole(raw, told):
    with pytest.raises(RequestError, match=told):
        source(raw)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (gzip.compress(b"m-1\n", mtime=0), "gzip"),
        (lzma.compress(b"m-1\n"), "xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (b"PK\x03\x04\x14\x00", "workbook"),
        (b"PAR1\x15\x04", "--format parquet"),
        ("m-1\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_another_kind_of_file_handed_in_by_mistake_is_named(raw, told):
    with pytest.raises(RequestError, match=told):
        source(raw)


def test_an_id_that_begins_like_the_name_of_a_format_is_an_id():
    assert list(read_plain(source("PAR1-7\nPK-8\n"))) == ["PAR1-7", "PK-8"]


def test_the_digest_is_that_of_the_whole_content():
    raw = b"a\n" * 600_000
    assert source(raw).digest == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\n", b"a\nc\n"),
        (b"a\nb\n", b"a\n"),
        (b"a\nb\n", b"a\nb\nc\n"),
        (b"a\nb\n", b""),
        (b"a\nb\n", b"a\n\xff\n"),
        (b"a\n" + b"x" * 3_000_000, b"a\n" + b"x" * 2_999_999 + b"y"),
    ],
    ids=["rewritten", "cut", "grown", "emptied", "no text", "far into a long line"],
)
def test_a_file_that_changed_since_it_was_checked_is_not_read_to_its_end(tmp_path, before, after):
    path = tmp_path / "orders"
    path.write_bytes(before)
    with open_source(str(path)) as opened:
        path.write_bytes(after)
        with pytest.raises(RequestError, match="orders changed while it was read"):
            list(opened.lines())
        assert opened.changed


def test_a_file_that_stays_is_read_again_and_again(tmp_path):
    path = tmp_path / "orders"
    path.write_bytes(b"\xef\xbb\xbfa\r\n" + b"x" * 3_000_000)
    with open_source(str(path)) as opened:
        next(opened.lines())
        assert [len(list(opened.lines())) for _ in range(2)] == [2, 2]
        assert not opened.changed


def test_a_file_that_is_not_there_is_refused_by_its_name_alone(tmp_path):
    with (
        pytest.raises(RequestError, match=r"gone\.csv") as caught,
        open_source(str(tmp_path / "gone.csv")),
    ):
        pass
    assert str(tmp_path) not in str(caught.value)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(RequestError), open_source(str(tmp_path)):
        pass


def test_what_comes_through_a_pipe_is_read_like_a_file():
    with open_source("-", stdin=io.BytesIO(b"a\nb\n")) as opened:
        assert list(read_plain(opened)) == ["a", "b"]
        assert list(read_plain(opened)) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ids.csv", Format.CSV),
        ("IDS.CSV", Format.CSV),
        ("a.tsv", Format.TSV),
        ("a.jsonl", Format.JSONL),
        ("a.ndjson", Format.JSONL),
        ("a.txt", Format.PLAIN),
        ("-", Format.PLAIN),
    ],
)
def test_the_suffix_tells_the_format(name, found):
    assert guess_format(name, source("m-1\n")) is found


@pytest.mark.parametrize("first", ['{"user_id": "u"}', "memory_id,user", '"m-1"', "a;b", "a\tb"])
def test_lines_that_do_not_look_like_ids_are_not_guessed_to_be_ids(first):
    with pytest.raises(RequestError, match="--format"):
        guess_format("export.txt", source(f"\n{first}\nm-2\n"))


# -- CSV ------------------------------------------------------------------------------------------

one_line_texts = st.text(max_size=20)


@given(
    st.lists(st.tuples(good_ids, one_line_texts), max_size=15),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv_ids_come_back_byte_for_byte(rows, end, delimiter, quoting):
    """Whatever stands beside them, line ends within quotes included."""
    # Before Python 3.13 the writer forgets to quote a lone carriage return.
    unwritable = "\x00" if quoting == csv.QUOTE_ALL else "\x00\r"
    clean = str.maketrans("", "", unwritable)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, delimiter=delimiter, quoting=quoting)
    writer.writerow(["id", "note"])
    try:
        writer.writerows([[each, note.translate(clean)] for each, note in rows])
        raw = out.getvalue().encode()
    except UnicodeEncodeError:
        return
    found = list(read_table(source(raw), columns=Columns(memory_id="id"), delimiter=delimiter))
    assert [each.memory_id for each in found if isinstance(each, TableRow)] == [
        each for each, _ in rows
    ]
    assert len(found) == len(rows)


@given(st.binary(max_size=200))
@example(b'"\n"a"b\n')
def test_whatever_a_csv_holds_only_true_ids_come_out(raw):
    try:
        found = list(read_table(source(b"memory_id,user\n" + raw), columns=Columns()))
    except RequestError:
        return
    for each in found:
        assert isinstance(each, Reject) or (isinstance(each, TableRow) and is_id(each.memory_id))


def read(text, **columns):
    found = read_table(source(text), columns=Columns(**columns))
    return [
        (each.memory_id, each.user_id)
        if isinstance(each, TableRow)
        else f"reject {each.line if isinstance(each, Reject) else each}"
        for each in found
    ]


def until_it_breaks(found):
    """Everything that comes, ids as if they came one by one, and whether the file broke."""
    got: list[str | Reject] = []
    try:
        for each in found:
            if isinstance(each, TableRow):
                got.append(each.memory_id)
            elif isinstance(each, list):
                got += each
            else:
                got.append(each)
    except RequestError as error:
        return got, str(error)
    return got, None


@given(
    rows=st.lists(
        st.sampled_from(
            [
                "a,1",
                "b,1",
                " ,1",
                '"c",1',
                '"d""",1',
                "e",
                "",
                "f\x00,1",
                '"g\n",1',
                '"h,1',
                'i"j,1',
                '"k"l,1',
            ]
        ),
        max_size=12,
    ),
    at_once=st.integers(1, 4),
)
def test_ids_of_a_csv_that_come_together_are_those_that_come_one_by_one(rows, at_once):
    raw = "memory_id,user\n" + "\n".join(rows)
    with patch.object(table, "_ROWS_AT_ONCE", at_once):
        together = until_it_breaks(read_table(source(raw), columns=Columns(), together=True))
    assert together == until_it_breaks(read_table(source(raw), columns=Columns()))


def test_ids_that_look_like_numbers_stay_text():
    assert read("memory_id\n007\n1e5\n1.0\n") == [("007", None), ("1e5", None), ("1.0", None)]


def test_bad_rows_are_rejected_by_their_line_and_the_others_are_taken():
    text = 'memory_id,user\nm-1,u\n,u\nm-2\nm-3,u,x\n\n"a""b",u\n"x"y,u\nm-4,\n"m\n5",u\nm-6,u\n'
    assert read(text, user_id="user") == [
        ("m-1", "u"),
        "reject 3",
        "reject 4",
        "reject 5",
        ('a"b', "u"),
        "reject 8",
        "reject 9",
        "reject 10",
        ("m-6", "u"),
    ]


def test_a_field_over_the_bound_is_a_reject_that_says_so():
    raw = "memory_id\nm-1\n" + "x" * 200_000 + "\nm-2\n"
    [_, reject, _] = read_table(source(raw), columns=Columns())
    assert isinstance(reject, Reject)
    assert (reject.line, "128 KiB" in reject.reason) == (3, True)


def test_a_quote_that_swallows_lines_refuses_the_whole_file():
    with pytest.raises(RequestError, match="line 3"):
        read('memory_id,note\nm-1,x\nm-2,"x\nm-3,x\nm-4,"y"\n')
    with pytest.raises(RequestError, match="line 3"):
        read('memory_id,note\nm-1,x\nm-2,"x\nm-3,x\n')


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (f"{CANARY}", {}),
        ("", {}),
        ("id,memory_id,memory_id", {}),
        ("memory_id", {"user_id": "user"}),
        (" memory_id", {}),
    ],
)
def test_a_csv_without_the_mapped_column_is_refused_and_not_quoted(header, columns):
    with pytest.raises(RequestError, match=r"memory_id|user") as caught:
        read_table(source(f"{header}\nm-1\n"), columns=Columns(**columns))
    assert CANARY not in str(caught.value)


def test_a_column_that_differs_in_case_only_is_suggested():
    with pytest.raises(RequestError, match="'Memory_ID'"):
        read_table(source("Memory_ID\nm-1\n"), columns=Columns())


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_that_is_none_is_refused(delimiter):
    with pytest.raises(RequestError, match="delimiter"):
        read_table(source("memory_id\n"), columns=Columns(), delimiter=delimiter)


@pytest.mark.parametrize("pairs", [["id"], ["=x"], ["name=x"], ["user_id=a", "user_id=b"]])
def test_a_mapping_that_is_none_is_refused(pairs):
    with pytest.raises(RequestError, match="mapping"):
        parse_map(pairs)


@given(st.lists(st.tuples(st.sampled_from("uvw"), good_ids), max_size=30))
def test_mixed_rows_become_one_group_a_user_in_the_order_of_the_file(pairs):
    rows = [
        TableRow(line=line, memory_id=each, user_id=user)
        for line, (user, each) in enumerate(pairs, start=2)
    ]
    found = [(user, list(ids)) for user, ids in group_by_user(rows)]
    assert dict(found) == {
        user: [each for other, each in pairs if other == user] for user in {u for u, _ in pairs}
    }
    assert len(found) == len(dict(found))


# -- JSONL ----------------------------------------------------------------------------------------


def rejects_of(text):
    return [each.line for each in read_requests(source(text)) if isinstance(each, Reject)]


@given(st.lists(good_ids, min_size=1, max_size=10), st.booleans())
def test_jsonl_ids_come_back_byte_for_byte(ids, ascii_only):
    line = json.dumps({"memory_ids": ids}, ensure_ascii=ascii_only)
    [row] = read_requests(source(line + "\n"))
    assert isinstance(row, RequestRow)
    assert list(row.memory_ids) == ids
    assert (row.kind, row.subject) == (Kind.MEMORIES, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ["memory_ids", "user_id", "agent_id", "user", "reason", "lane", "x"]


@given(st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4))
@example({"memory_ids": [], "user_id": "u"})
@example({"memory_ids": [], "user": "u"})
@example({"memory_ids": [""]})
@example({"memory_ids": "abc"})
@example({"memory_ids": None, "user_id": "u"})
def test_no_json_object_becomes_an_order_that_it_does_not_spell_out(members):
    for row in read_requests(source(json.dumps(members))):
        if isinstance(row, Reject):
            continue
        if row.kind is Kind.MEMORIES:
            assert list(row.memory_ids) == members["memory_ids"]
            assert row.memory_ids
            assert not {"user_id", "agent_id"} & set(members)
        else:
            assert row.subject == members[f"{row.kind.value}_id"]
            assert row.memory_ids == ()
            assert not {"memory_ids", "user"} & set(members)


@given(st.binary(max_size=100))
def test_whatever_a_jsonl_file_holds_it_is_taken_or_rejected(raw):
    try:
        rows = list(read_requests(source(raw)))
    except RequestError:
        return
    assert all(isinstance(row, Reject) or row.memory_ids or row.subject for row in rows)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '"u"',
        "7",
        "null",
        "{}",
        '{"reason": "x"}',
        '{"user_id": "u", "agent_id": "a"}',
        '{"user_id": "u", "memory_ids": ["m"]}',
        '{"user_id": "u", "memory_ids": []}',
        '{"user_id": "u", "memory_ids": null}',
        '{"user_id": "u", "user_id": "v"}',
        '{"user_id": "u", "user": "v"}',
        '{"user_id": "u", "colour": "red"}',
        '{"user_id": "u", "reason": NaN}',
        '{"user_id": "u", "reason": null}',
        '{"user_id": "u", "reason": ""}',
        '{"user_id": "u", "idempotency_key": 7}',
        '{"user_id": "u", "lane": "fast"}',
        '{"user_id": "u", "submitted_at": "2026-11-20"}',
        '{"user_id": "u", "submitted_at": "2026-11-20T09:00:00"}',
        '{"user_id": "u", "due_at": 1763629200}',
        '{"user_id": 7}',
        '{"user_id": ""}',
        '{"user_id": "\\ud800"}',
        '{"user_id": "' + "u" * 101 + '"}',
        '{"memory_ids": "m"}',
        '{"memory_ids": {"m": 1}}',
        '{"memory_ids": ["m", 7]}',
        '{"memory_ids": ["m", ""]}',
        '{"memory_ids": ["m", "a\\u0000"]}',
        "[" * 100_000,
        '{"user_id": ' + "9" * 5_000 + "}",
        '{"user_id": "u"} {"user_id": "v"}',
        '{"user_id": "' + "u" * 11_000_000 + '"}',
    ],
    ids=lambda line: line[:40],
)
def test_a_jsonl_line_that_is_not_understood_in_full_is_rejected(line):
    assert rejects_of(f'{{"user_id": "a"}}\n{line}\n{{"user_id": "b"}}\n') == [2]


def test_a_jsonl_line_may_say_all_about_its_request():
    line = {
        "memory_ids": ["m"],
        "user": "u",
        "project": "crm",
        "lane": "erasure",
        "verify": "full",
        "reason": "gdpr-17",
        "idempotency_key": "k",
        "submitted_at": "2026-11-20T09:00:00Z",
        "due_at": "2026-12-20 09:00:00+01:00",
        "not_before": "2026-11-21T00:00:00+00:00",
    }
    [row] = read_requests(source("\r\n  \n" + json.dumps(line) + "\r\n"))
    assert isinstance(row, RequestRow)
    assert (row.line, row.subject) == (3, "u")
    assert row.terms["lane"] is Lane.ERASURE
    assert row.terms["due_at"].isoformat() == "2026-12-20T09:00:00+01:00"
    assert set(row.terms) == set(line) - {"memory_ids", "user"}


def test_no_reject_holds_what_the_line_holds():
    bad = [
        f"{CANARY}\x00",
        json.dumps({"user_id": CANARY, CANARY: 1}),
        json.dumps({"memory_ids": [CANARY, CANARY + "\x01"]}),
        json.dumps({"user_id": CANARY, "reason": math.inf}),
        CANARY,
    ]
    text = "\n".join(bad)
    found = [
        *read_plain(source(bad[0])),
        *read_table(source(f"memory_id,user\n{bad[0]},u\n{CANARY}\n"), columns=Columns()),
        *read_requests(source(text)),
    ]
    assert len(found) == 8
    assert all(isinstance(each, Reject) for each in found)
    assert CANARY not in repr(found)
