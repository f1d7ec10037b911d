"""What leaves a machine, and what a crash leaves behind."""

import os
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PACKAGES = ("ledger", "memos_api", "producer", "worker", "expunge")
# Ours in a checkout, and setuptools' own.
KNOWN_PTH = {"distutils-precedence.pth"}
IMPORT_ALL = """
import importlib, pkgutil, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"):
        sys.stderr.write(f"reached out: {event}\\n")
sys.addaudithook(watch)
for package in %r:
    for found in pkgutil.walk_packages([package], f"{package}."):
        if "migrations" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
DIE = """
import importlib, os, sys
app = importlib.import_module("expunge.cli.app")
app.app = lambda **_: os.abort()
sys.argv = ["expunge", "list"]
app.main()
"""


@pytest.mark.fault("F119")
def test_importing_everything_reaches_out_to_nothing(tmp_path):
    canary = "canary-key-77a1"
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL % (PACKAGES,)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MEMOS_API_KEY": canary},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "reached out" not in done.stderr
    assert canary not in done.stdout + done.stderr


@pytest.mark.fault("F119")
def test_no_installed_package_runs_code_at_each_start_that_nobody_knows_of():
    folder = Path(sysconfig.get_path("purelib"))
    odd = {
        path.name
        for path in folder.glob("*.pth")
        if path.name not in KNOWN_PTH and not path.name.startswith("__editable__")
        if any(line.startswith(("import ", "import\t")) for line in path.read_text().splitlines())
    }
    assert odd == set()


@pytest.mark.fault("F120")
def test_a_process_that_dies_leaves_no_core_file(tmp_path):
    """Whatever the limit was that it was started under."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    done = subprocess.run(
        [sys.executable, "-c", DIE],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
    )
    assert done.returncode == -6, done.stderr
    assert not list(tmp_path.glob("core*"))
    # Bit 7 of the wait status, which Python's return code leaves out, is what the limit decides.
    code = "import importlib, resource; app = importlib.import_module('expunge.cli.app');"
    code += " app.app = lambda **_: print("
    code += "resource.getrlimit(resource.RLIMIT_CORE)); app.main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )
    assert shown.stdout.strip() == "(0, 0)"


@pytest.mark.fault("F120")
def test_another_user_cannot_read_what_a_process_was_started_with():
    """Keys stand in the environment of workers; the kernel shows that to their owner alone."""
    mine = Path(f"/proc/{os.getpid()}")
    assert (mine / "environ").stat().st_mode & 0o077 == 0
    if os.getuid() == 0:
        # Whoever is root may become somebody else, and look.
        for name, may in (("cmdline", True), ("environ", False), ("mem", False)):
            looked = subprocess.run(
                ["/bin/cat", str(mine / name)],
                user=65_534,
                group=65_534,
                capture_output=True,
                check=False,
            )
            assert (b"Permission denied" in looked.stderr) is not may
