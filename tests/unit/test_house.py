"""The house rules that no linter knows."""

import __future__

import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ["ledger", "memos_api", "producer", "worker", "expunge"]
LOCKS = ["requirements/run.txt", "requirements/dev.txt"]
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MOST_LINES = 500

UNFINISHED = re.compile(r"TODO|FIXME|XXX|NotImplemented")
ADDRESSES = re.compile(
    # An index of packages, whoever's it is.
    r"https?://[^\s\"']+/simple\b|--(?:extra-)?index-url|--find-links \S*/"
    # Folders of one machine; not the same words inside an address or a relative path.
    r"|(?m:^|[\s\"'=:(`])/(?:root|home|Users)/[\w.]"
)
LEFT_BEHIND = re.compile(
    r"^(\.git|\.venv|build|dist)/|_cache/|__pycache__|\.egg-info|\.hypothesis/"
)
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project_files() -> list[Path]:
    """Every file of the project, without what is ignored; also where there is no git checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [str(path) for path in paths if not LEFT_BEHIND.search(str(path))]
    else:
        names = listed.stdout.split("\0")[:-1]
    return [path for path in map(ROOT.joinpath, names) if path.is_file()]


def pins(lock: str) -> dict[str, str]:
    """Versions by name; every line of a lock file is understood, or the test fails."""
    found: dict[str, str] = {}
    hashes: dict[str, int] = {}
    name = ""
    for line in (ROOT / lock).read_text().splitlines():
        if requirement := REQUIREMENT.match(line):
            name = requirement[1]
            found[name] = requirement[2]
            hashes[name] = 0
        elif HASH.match(line):
            hashes[name] += 1
        else:
            assert not line or line.lstrip().startswith("#"), f"{lock}: {line!r}"
    assert min(hashes.values()) > 0
    return found


def clean_environment() -> dict[str, str]:
    """The environment without what an outer `make` hands down."""
    return {name: value for name, value in os.environ.items() if not name.startswith("M")}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_modules_and_says_it_is_typed(package):
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_is_short_enough_to_be_one_idea(module):
    assert len(module.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_is_finished(module):
    assert UNFINISHED.findall(module.read_text()) == []


def test_no_file_names_a_registry_or_a_folder_of_one_machine():
    found = []
    for path in project_files():
        if path == Path(__file__):  # holds what it looks for
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # test vectors and the like
        found += [f"{name_of(path)}: {hit.group()}" for hit in ADDRESSES.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["cd /home/me/main", 'Path("/home/me/x")', "see https://host.example/simple", "x=/root/.cache"],
)
def test_the_search_for_addresses_finds_them(line):
    assert ADDRESSES.search(line)


@pytest.mark.parametrize("line", ["https://example.org/home/page", "a /work- b", "src/home/x"])
def test_the_search_for_addresses_leaves_others_alone(line):
    assert not ADDRESSES.search(line)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_package_is_what_it_shows(package):
    module = importlib.import_module(package)
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, __future__._Feature))
    }
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert shown == set(module.__all__) - {"__version__"}


def test_make_lists_every_target():
    rules = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", rules, flags=re.MULTILINE)
    assert phony is not None
    listed = subprocess.run(
        ["make", "--no-print-directory"],  # noqa: S607 -- whichever make there is
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    # A line each: "make name", then its help.
    assert re.findall(r"^make ([a-z0-9]+) +\S", listed, flags=re.MULTILINE) == phony[1].split()
    assert set(re.findall(r"^([a-z0-9]+):", rules, flags=re.MULTILINE)) == set(phony[1].split())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_everything_with_hashes_and_names_no_address(lock):
    assert pins(lock)["celery"] == "5.7.0"
    comments = re.findall(r"#.*", (ROOT / lock).read_text())
    assert [line for line in comments if re.search(r"://| /|--", line)] == []


def test_what_runs_is_what_was_tested():
    """Each pin of the run lock is the same in the lock that the tests run with."""
    run, dev = map(pins, LOCKS)
    assert run.items() <= dev.items()


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = project["project"]["dependencies"] + project["build-system"]["requires"]
    extras = project["project"]["optional-dependencies"]
    names = lambda specs: {  # noqa: E731
        re.split(r"[\[<>=;~! ]", spec)[0].lower() for spec in specs
    }
    run, dev = map(pins, LOCKS)
    assert names(asked + extras["embedded"] + extras["postgres"]) <= set(run)
    assert names(extras["dev"]) <= set(dev)


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", ["3.11.0", "3.11.14", "3.12.0", "3.13.0"])
def test_the_lock_is_complete_on_every_python_and_system(python, system):
    """What a package needs there only is left out by a lock made elsewhere, unless we name it."""
    machine = {"python_full_version": python, "python_version": python.rsplit(".", 1)[0]}
    machine |= {"sys_platform": system, "platform_system": system.capitalize(), "extra": ""}
    locked = set(pins("requirements/dev.txt"))
    missing = []
    for name in locked:
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(machine):
                found = canonicalize_name(needed.name) in locked
                missing += [] if found else [f"{name} needs {line}"]
    assert missing == []


def test_a_wheel_holds_every_file_of_the_packages(tmp_path):
    """Migrations, SQL and py.typed get lost easily: setuptools takes only what it is told of."""
    copy = tmp_path / "source"
    wanted = set()
    for path in project_files():
        target = copy / name_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        if path.relative_to(ROOT).parts[0] in PACKAGES:
            wanted.add(name_of(path))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path), str(copy)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert wanted <= held
    assert {name.split("/")[0] for name in held} - set(PACKAGES) == {"expunge-0.1.0.dist-info"}
