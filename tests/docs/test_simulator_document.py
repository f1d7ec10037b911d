"""The document names what the simulator can be told."""

import re
from pathlib import Path

from memos_api.simulator.lies import Lie

DOCUMENT = Path(__file__).parents[2] / "docs/architecture.md"


def test_each_lie_stands_in_the_table_once():
    text = DOCUMENT.read_text(encoding="utf-8")
    table = re.search(r"^\| lies \| names \|\n(.*?)\n\n", text, flags=re.DOTALL | re.MULTILINE)
    assert table is not None
    assert sorted(re.findall(r"`([a-z0-9_]+)`", table[1])) == sorted(lie.value for lie in Lie)
