"""Put the last run into the documents: tables into two of them, plots into `docs/plots/`.

    python -m bench.publish

What stands between `<!-- bench: NAME -->` and `<!-- bench: end -->` is replaced by the tables that
the figure NAME kept. Figures that were not measured stay as they are.
"""

import re
from pathlib import Path
from typing import Final

from bench import plots, scale
from bench.report import Table, kept

_DOCS: Final = Path(__file__).parents[1] / "docs"
DOCUMENTS: Final = (_DOCS / "performance.md", _DOCS / "scale.md")
_BLOCK: Final = re.compile(
    r"(<!-- bench: (?!end)([\w-]+) -->\n).*?(<!-- bench: end -->)", flags=re.DOTALL
)


def main() -> None:
    """Write both."""
    scale.show()
    for document in DOCUMENTS:
        document.write_text(_BLOCK.sub(_block, document.read_text()))
    plots.main()


def _block(found: re.Match[str]) -> str:
    figure = kept(found[2])
    if figure is None:
        return found[0]
    machine = figure["machine"]
    when = f"{machine['measured_at']}, {machine['cores']} cores, load {machine['load']}"
    parts = "\n".join(_markdown(table) for table in figure["tables"])
    return f"{found[1]}\nMeasured {when}, Python {machine['python']}.\n{parts}\n{found[3]}"


def _markdown(table: Table) -> str:
    lines = [
        f"\n{table['title']}\n",
        _line([_escaped(head) for head in table["heads"]]),
        _line(["---:" if numeric else "---" for numeric in table["numeric"]]),
        *(_line([_escaped(cell) for cell in row]) for row in table["cells"]),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
