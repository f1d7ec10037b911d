"""The documents say what is so."""

import importlib
import re
from pathlib import Path

import pytest

from ledger import states

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
RECORDS = sorted(ROOT.glob("docs/adr/*.md"))

COUNTS = [
    *("pending", "acknowledged", "verified_absent", "already_absent"),
    *("still_present", "refused", "unknown", "cancelled"),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Headings as the anchors that Markdown viewers make of them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def glossary() -> dict[str, list[str]]:
    """The terms of docs/glossary.md by section."""
    sections = (ROOT / "docs/glossary.md").read_text().split("\n## ")[1:]
    return {
        section.split("\n", 1)[0]: re.findall(r"^- \*\*(.+?)\*\*: ", section, flags=re.MULTILINE)
        for section in sections
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_link_leads_to_a_file_and_a_heading_that_exist(document):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_that_is_named_exists(document):
    named = re.findall(r"`((?:docs|tests|bench|deploy)/[\w./-]+\.\w+)`", document.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_make_target_that_is_named_exists(document):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z0-9]+)", document.read_text(), flags=re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("States of a request", list(states.RequestState)),
        ("States of a chunk", list(states.ChunkState)),
        ("Certainty", list(states.Certainty)),
        ("Result", list(states.Result)),
        ("Counts", COUNTS),
    ],
)
def test_the_glossary_explains_each_word_of_a_closed_list_once(section, words):
    assert glossary()[section] == [str(word) for word in words]


def test_the_glossary_explains_each_word_once():
    words = glossary()["Words"]
    assert sorted(set(words)) == sorted(words)
    assert {*states.Kind, *states.Lane} <= set(
        re.findall(r"`(\w+)`", (ROOT / "docs/glossary.md").read_text())
    )


def test_decision_records_are_numbered_without_a_gap():
    numbers = [int(record.name[:4]) for record in RECORDS]
    assert numbers == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_decision_record_has_its_parts(record):
    text = record.read_text()
    assert text.startswith(f"# {int(record.name[:4])}. ")
    parts = ["Status: ", "## Context", "## Decision", "## Consequences"]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_the_changelog_begins_with_what_is_not_released():
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[0] == "Unreleased"


def test_every_arrow_of_the_architecture_is_a_function_that_exists():
    text = (ROOT / "docs/architecture.md").read_text()
    drawn = set(re.findall(r"\|([A-Z])\b", text.split("```mermaid")[1].split("```")[0]))
    rows = re.findall(r"^\| ([A-Z]) \| .+ \| (.+) \|$", text, flags=re.MULTILINE)
    assert {letter for letter, _ in rows} == drawn
    for _, functions in rows:
        for dotted in re.findall(r"`([\w.]+)`", functions):
            module, _, attribute = dotted.rpartition(".")
            try:
                holder = importlib.import_module(module)
            except ModuleNotFoundError:
                module, _, name = module.rpartition(".")
                holder = getattr(importlib.import_module(module), name)
            assert callable(getattr(holder, attribute)), dotted


def test_each_event_that_a_worker_logs_has_a_line_for_the_operator():
    logged = {
        name
        for path in ROOT.glob("worker/*.py")
        for name in re.findall(r"_log\.\w+\(\s*\"(\w+)\"", path.read_text())
    }
    documented = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/operations.md").read_text(), flags=re.MULTILINE)
    )
    assert logged
    assert logged <= documented
