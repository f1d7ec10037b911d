"""Every fault of the catalogue that this release promises to survive has a test that shows it."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
# First and last of each run of numbers.
PROMISED = [(1, 9), (11, 70), (72, 83), (85, 91), (93, 93), (117, 126)]
NUMBERS = {f"F{n}" for first, last in PROMISED for n in range(first, last + 1)}


def marked(source: str) -> set[str]:
    """The numbers in the marks of a file, wherever they stand in it."""
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.fault")
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_every_promised_fault_has_a_test():
    shown = {number for path in TESTS.rglob("test_*.py") for number in marked(path.read_text())}

    assert sorted(NUMBERS - shown) == []


def test_marks_are_found_on_functions_files_and_parameters():
    source = "pytestmark = pytest.mark.fault('F1')\n@mark.fault('F2', 'F3')\ndef f(): pass\n"
    source += "p = pytest.param(1, marks=pytest.mark.fault('F4'))\nother('F5')\n"

    assert marked(source) == {"F1", "F2", "F3", "F4"}
