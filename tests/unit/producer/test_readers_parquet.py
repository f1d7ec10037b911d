"""Parquet into ids: text stays as it is, and what is no text is refused."""

import io
import os
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.ids import check_memory_id
from ledger.states import Kind
from producer.files import Columns, Format, Reject, Source, format_by_suffix, open_source
from producer.files.parquet import read_parquet
from producer.files.rows import PurgeRow, TableRow

CANARY = "canary-5b0c"


def is_id(text):
    try:
        check_memory_id(text, where="x")
    except RequestError:
        return False
    return True


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def source(raw):
    return Source(io.BytesIO(raw), name="orders", binary=True)


def ids_of(found):
    taken = ([each.memory_id] if isinstance(each, TableRow) else each for each in found)
    return [each for some in taken if isinstance(some, list) for each in some]


def read(table, kind=Kind.MEMORIES, **columns):
    return [
        (each.memory_id, each.user_id)
        if isinstance(each, TableRow)
        else each.subject
        if isinstance(each, PurgeRow)
        else f"reject {each.line if isinstance(each, Reject) else each}"
        for each in read_parquet(source(written(table)), columns=Columns(**columns), kind=kind)
    ]


ids = st.one_of(
    st.sampled_from(["007", "1e5", " a ", '"', "a,b", "é", "e\u0301", "😀", "NULL", "=1+1"]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(is_id),
)


@given(
    st.lists(ids, max_size=30),
    st.sampled_from(
        [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
    ),
    st.integers(1, 7),
)
def test_parquet_ids_come_back_byte_for_byte(texts, kind, rows):
    column = pa.array(texts, pa.string()).cast(kind)
    raw = written(pa.table({"memory_id": column, "x": [1] * len(texts)}), row_group_size=rows)
    found = list(read_parquet(source(raw), columns=Columns()))
    assert [each.memory_id for each in found if isinstance(each, TableRow)] == texts
    assert [each.line for each in found if not isinstance(each, list)] == list(
        range(1, len(texts) + 1)
    )
    together = read_parquet(source(raw), columns=Columns(), together=True)
    assert ids_of(together) == texts


@pytest.mark.parametrize("bad", [None, " ", "x\x00", "x" * 257])
def test_a_bad_row_among_many_is_the_only_one_rejected(bad):
    ids = [f"m-{number}" for number in range(5_000)]
    raw = written(pa.table({"memory_id": [*ids[:3_000], bad, *ids[3_000:]]}))
    found = list(read_parquet(source(raw), columns=Columns(), together=True))
    assert ids_of(found) == ids
    assert [each.line for each in found if isinstance(each, Reject)] == [3_001]
    assert sum(isinstance(each, list) for each in found) == 4


def test_nulls_and_bad_ids_are_rejects_by_their_row():
    table = pa.table({"memory_id": ["a", None, "", "b\x00", "c", "d"], "u": [*"vwxy", None, "z"]})
    assert read(table) == [
        ("a", None), "reject 2", "reject 3", "reject 4", ("c", None), ("d", None),
    ]  # fmt: skip
    assert read(table, user_id="u")[4:] == ["reject 5", ("d", "z")]
    found = list(read_parquet(source(written(table)), columns=Columns(user_id="u")))
    reasons = [each.reason for each in found if isinstance(each, Reject)]
    assert reasons[0] == "The id is missing (null)."
    assert reasons[-1] == "The user is missing (null)."


def test_text_that_is_not_utf8_is_a_reject_and_its_neighbours_are_taken():
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 2, 3)))
    column = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a\xffc"))
    table = pa.table({"memory_id": column})
    assert read(table) == [("a", None), "reject 2", ("c", None)]
    [_, reject, _] = read_parquet(source(written(table)), columns=Columns())
    assert isinstance(reject, Reject)
    assert "not UTF-8" in reject.reason


@pytest.mark.parametrize(("kind", "whom"), [(Kind.USER, "u"), (Kind.AGENT, "a")])
def test_rows_of_users_or_agents_are_purges_of_them(kind, whom):
    table = pa.table({"memory_id": ["m"], "user_id": ["u"], "agent_id": ["a"]})
    assert read(table, kind) == [whom]
    assert read(pa.table({"who": ["u", None]}), kind, **{f"{kind.value}_id": "who"}) == [
        "u",
        "reject 2",
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7]),
        pa.array([7.0]),
        pa.array([b"m-1"]),
        pa.array([True]),
        pa.array([None]),
        pa.array([["m-1"]]),
        pa.array([{"x": "m-1"}]),
        pa.array([7]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_a_column_that_is_no_text_is_refused_as_a_whole(column):
    with pytest.raises(RequestError, match="Cast it to string"):
        read(pa.table({"memory_id": column}))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({CANARY: ["a"]}), "no column 'memory_id'"),
        (pa.table({"Memory_ID": ["a"]}), "'Memory_ID'"),
        (pa.table([["a"], ["b"]], names=["memory_id", "memory_id"]), "2 times"),
        (pa.table({"memory_id": ["a"], "memory_id.x": ["b"]}), "dot"),
    ],
)
def test_a_column_that_is_not_plainly_one_is_refused(table, told):
    with pytest.raises(RequestError, match=told) as caught:
        read(table)
    assert CANARY not in str(caught.value)


GOOD = written(pa.table({"memory_id": [f"{CANARY}-{number}" for number in range(5_000)]}))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "empty"),
        (b"memory_id\na\n", "no Parquet file"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1", "cannot|can be read"),
        (GOOD[:-100], "can be read"),
        (GOOD[:100] + bytes(2_000) + GOOD[2_100:], "can be read"),
    ],
)
def test_what_is_no_whole_parquet_file_is_refused_without_its_content(raw, told):
    with pytest.raises(RequestError, match=told) as caught:
        list(read_parquet(source(raw), columns=Columns()))
    assert CANARY not in str(caught.value)


def test_without_pyarrow_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"pip install 'expunge\[parquet\]'"):
        read_parquet(source(GOOD), columns=Columns())


def test_parquet_comes_through_a_pipe_too():
    with open_source("-", stdin=io.BytesIO(GOOD), binary=True) as opened:
        assert len(list(read_parquet(opened, columns=Columns()))) == 5_000
        assert len(list(read_parquet(opened, columns=Columns()))) == 5_000


def test_parquet_handed_in_as_text_is_named():
    with pytest.raises(RequestError, match="--format parquet"):
        Source(io.BytesIO(GOOD), name="orders")


@pytest.mark.parametrize("name", ["ids.parquet", "IDS.PQ"])
def test_the_suffix_tells_parquet(name):
    assert format_by_suffix(name) is Format.PARQUET


def test_a_row_group_is_not_read_at_once():
    """One row group of 4 MB; Arrow's memory and Python's stay far below it."""
    count = 100_000
    raw = written(
        pa.table({"memory_id": [f"memory-{number:030d}" for number in range(count)]}),
        row_group_size=count,
        use_dictionary=False,
        compression="none",
        data_page_size=64 << 10,
    )
    opened = source(raw)
    assert len(raw) > 4_000_000
    tracemalloc.start()
    try:
        most = 0
        for _ in read_parquet(opened, columns=Columns()):
            most = max(most, pa.total_allocated_bytes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1_500_000
    assert peak < 2_500_000


def test_a_file_that_changed_since_it_was_checked_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "ids.parquet"
    first, second = (written(pa.table({"memory_id": [each]})) for each in ("a", "b"))
    assert len(first) == len(second)
    path.write_bytes(first)
    with open_source(str(path), binary=True) as opened:
        assert len(list(read_parquet(opened, columns=Columns()))) == 1
        path.write_bytes(second)
        then = path.stat().st_mtime_ns + 1_000_000_000
        os.utime(path, ns=(then, then))
        with pytest.raises(RequestError, match="changed while it was read"):
            list(read_parquet(opened, columns=Columns()))
        assert opened.changed
