"""The README's ways in, typed as written into two shells; each ends in a verified deletion."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash") or "bash"
MOST_COMMANDS = 5
READY_S = 60
BLOCK_S = 90
pytestmark = pytest.mark.timeout(300)


def section_of(heading: str) -> str:
    _, found, rest = (ROOT / "README.md").read_text().partition(f"# {heading}\n")
    assert found, heading
    return re.split(r"^#{2,3} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(heading: str) -> list[tuple[str, str]]:
    """The fenced blocks of one section, with their language, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", section_of(heading), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stands for the checkout after `make install`: the same `.venv`, and a home of its own."""
    made = tmp_path_factory.mktemp("newcomer")
    (made / ".venv").mkdir()
    (made / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    return made


@pytest.fixture(scope="module")
def environment(folder):
    foreign = ("EXPUNGE_", "MEMOS_", "CELERY_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "HOME": str(folder)}


@pytest.fixture(scope="module")
def service(folder, environment):
    """The first shell: `expunge dev`, which is ready, and leaves nothing when it is ended."""
    (_, first), _ = blocks("Try the ways in")
    install, dev = first.splitlines()
    assert install == "make install"
    with (folder / "dev.log").open("wb") as log:
        shell = subprocess.Popen(
            [BASH, "-c", f"exec {dev}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert shell.stdout is not None
    try:
        line = shell.stdout.readline()
        assert line, (folder / "dev.log").read_text()
        said = json.loads(line)
        assert said["ready"] is True
        yield
        shell.send_signal(signal.SIGINT)
        assert shell.wait(READY_S) == 0
        assert not Path(said["folder"]).exists()
    finally:
        shell.kill()
        shell.wait()
        shell.stdout.close()


@pytest.fixture
def second_shell(folder, environment, service):
    _, (_, preparing) = blocks("Try the ways in")

    def type_in(*commands: str) -> str:
        """Give what stands on stdout; every command must end well."""
        ended = subprocess.run(
            [BASH, "-e", "-o", "pipefail", "-c", "\n".join([preparing, *commands])],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return type_in


@pytest.fixture
def follow(folder, second_shell):
    def run(heading):
        """Save and type what a section says; gives what stands on stdout."""
        names = iter(re.findall(r"Save this as `([\w.]+)`", section_of(heading)))
        commands = []
        for language, text in blocks(heading):
            if language == "sh":
                commands += text.splitlines()
            else:
                (folder / next(names)).write_text(text)
        assert 1 <= len(commands) <= MOST_COMMANDS
        return second_shell(*commands)

    return run


def test_the_command_line_way_ends_in_a_verified_purge(follow):
    shown = follow("By command line")
    assert re.search(r"^state +complete$", shown, flags=re.MULTILINE)
    assert re.search(r"^certainty +verified$", shown, flags=re.MULTILINE)


def test_the_python_way_ends_in_a_verified_purge(follow):
    assert follow("By Python") == "complete verified\n"


def test_the_file_way_ends_in_requests_that_all_found_and_deleted_something(follow, second_shell):
    follow("By file")
    second_shell("for id in $(expunge list -o id); do expunge watch $id; done")
    found = json.loads(second_shell("expunge list -o json"))
    assert len(found) > MOST_COMMANDS
    assert {view["state"] for view in found} == {"complete"}
    assert {view["certainty"] for view in found} <= {"verified", "sampled"}
    assert all(view["counts"]["verified_absent"] for view in found)


def test_the_queue_way_ends_in_a_verified_purge(follow, second_shell):
    follow("By queue")
    (view,) = json.loads(second_shell("expunge list reason:gdpr-19 -o json"))
    assert (view["state"], view["certainty"]) == ("complete", "verified")
    assert view["counts"]["verified_absent"] == 1
