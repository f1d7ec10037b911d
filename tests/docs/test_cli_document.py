"""docs/cli.md has every command, option and exit code, and the README shows commands that exist."""

import re
from pathlib import Path

import pytest
import typer.main

from expunge import exit_codes
from expunge.cli import app
from ledger import errors

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cli.md").read_text()
README = (ROOT / "README.md").read_text()


def commands():
    """All commands by their words, with their own options."""
    found = {}

    def walk(command, words):
        for name, each in getattr(command, "commands", {}).items():
            walk(each, [*words, name])
        if not hasattr(command, "commands"):
            options = [option for each in command.params for option in each.opts]
            found[" ".join(words)] = [each for each in options if each.startswith("--")]

    walk(typer.main.get_command(app), ["expunge"])
    return found


def section(name):
    _, mark, rest = TEXT.partition(f"\n## {name}\n")
    assert mark, name
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("name", commands())
def test_every_command_has_a_section_that_names_its_options(name):
    own = section(name)
    missing = [
        option for option in commands()[name] if f"`{option}" not in own and option != "--help"
    ]
    assert missing == []


def test_no_section_is_about_a_command_that_does_not_exist():
    assert set(re.findall(r"^## (expunge .+)$", TEXT, re.MULTILINE)) == set(commands())


def test_every_exit_code_has_its_line():
    codes = {getattr(exit_codes, name) for name in exit_codes.__all__}
    codes |= {getattr(errors, name).exit_code for name in errors.__all__}
    documented = set(map(int, re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)))
    assert documented == codes | {0}


def test_the_readme_shows_commands_and_options_that_exist():
    known = commands()
    shown = re.findall(r"^(?:\w+=\S+ )*(expunge [a-z].*?)(?:\s+#.*|\s+&)?$", README, re.MULTILINE)
    assert len(shown) >= 8
    for line in shown:
        name = max((each for each in known if f"{line} ".startswith(f"{each} ")), key=len)
        if name == "expunge simulator":
            continue  # its options are the simulator's own
        for option in re.findall(r"--[a-z-]+", line):
            assert option in known[name], line
