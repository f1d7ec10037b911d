"""Tables look the same everywhere."""

from expunge.tables import cell, table


def test_columns_of_numbers_are_set_to_the_right():
    assert table(["name", "count"], [["a", "7"], ["bcd", "1,234"]]) == [
        "name  count",
        "a         7",
        "bcd   1,234",
    ]


def test_an_empty_table_is_its_headings():
    assert table(["a", "b"], []) == ["a  b"]


def test_nothing_is_a_dash_and_numbers_have_commas():
    assert [cell(each) for each in (None, "", 0, 1234567, True, False, 0.5, "x")] == [
        *("-", "-", "0", "1,234,567", "yes", "no", "0.5", "x")
    ]
