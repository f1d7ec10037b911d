"""`expunge dev`: everything is up, another shell finds it, and nothing is left when it ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from redis import Redis

from expunge.dev.folder import claimed_folder
from expunge.dev.samples import MEMORIES_PER_USER, USERS, write_samples
from expunge.dev.shell import write_shell_files
from ledger import Keys, Ledger
from ledger.errors import SettingsError
from ledger.settings import Settings, load_settings
from memos_api.simulator.process import SimulatorProcess
from memos_api.simulator.state import generate
from tests.support.children import all_gone, descendants

SECONDS = 60.0


class Dev:
    """One `expunge dev` in a process of its own."""

    def __init__(self, home, *options, **environment):
        self.home = home
        self._environment = {**os.environ, "EXPUNGE_HOME": str(home), **environment}
        self.log = home.parent / f"{home.name}.log"
        with self.log.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "expunge", "dev", *options],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
                text=True,
            )

    def __enter__(self):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.ready = json.loads(line)
        # The guard outlives a killed stack: it is who ends the others.
        started = descendants(self.process.pid)
        self.parts = [pid for pid in started if "expunge.guard" not in command_of(pid)]
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert all_gone(self.parts, within_s=SECONDS)

    def shell(self, command):
        """Type a command into another shell that was told where this stack is."""
        python = f"'{sys.executable}' -m expunge"
        done = subprocess.run(
            ["sh", "-ec", f'. "$0"\nexpunge() {{ {python} "$@"; }}\n{command}', self.ready["env"]],  # noqa: S607
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def home(tmp_path):
    made = tmp_path / "it's a home"
    made.mkdir()
    return made


def until(true):
    end = time.monotonic() + SECONDS
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


# -- the whole of it ------------------------------------------------------------------------------


def test_another_shell_finds_it_and_a_foreign_client_orders_through_its_stream(home):
    with Dev(home) as dev:
        ready = dev.ready
        assert ready["stream"] == "expunge-requests"
        user, queued = ready["users"]["submit"][0], ready["users"]["free"][0]
        assert user == "user-0-000001"
        event = {
            "specversion": "1.0",
            "type": "expunge.deletion.requested.v1",
            "source": "/test",
            "id": "1",
            "data": {"user_id": queued},
        }
        with Redis.from_url(ready["redis_url"]) as client:
            client.xadd(ready["stream"], {"event": json.dumps(event)})
        dev.shell('expunge import "${0%env}erase.jsonl" -o id')
        view = json.loads(dev.shell(f"expunge submit --user-id {user} --wait=30 -o json"))
        assert (view["state"], view["certainty"]) == ("complete", "verified")
        with Ledger.open(ready["ledger_url"], keys=Keys.load(home / "dev" / "keys")) as ledger:

            def ended():
                views = ledger.list_requests()
                return len(views) == 5 and all(one.finished_at for one in views) and views

            for one in until(ended):
                assert (one.state, one.certainty) == ("complete", "verified")
        checks = json.loads(dev.shell("expunge doctor -o json"))
        # All of a dev stack lies in one folder.
        odd = {one["check"]: one["grade"] for one in checks["findings"] if one["grade"] != "ok"}
        assert odd == {"keys apart": "warn"}
        second = Dev(home)
        assert second.process.communicate(timeout=SECONDS)[0] == ""
        assert second.process.returncode == 2
        assert f"process {dev.process.pid}" in second.log.read_text()
        with pytest.raises(AssertionError, match="was told to use the stack"):
            dev.shell("expunge dev")
        assert dev.end(signal.SIGTERM) == 0
        assert all_gone(dev.parts, within_s=1)
    assert list(home.iterdir()) == []


def test_a_kept_folder_outlives_a_kill_and_the_death_of_a_part_ends_it_all(home, tmp_path):
    folder = tmp_path / "kept"
    with SimulatorProcess() as memos:
        one, other = memos.control.seed(users=2, memories=3).by_user
        options = ("--memos", "env", "--dir", str(folder), "--rate", "80")
        environment = {
            "MEMOS_BASE_URL": memos.base_url,
            "MEMOS_API_KEY": memos.api_key,
            "EXPUNGE_SETTLE_SECONDS": "0.2",
            "EXPUNGE_CALL_DEADLINE_SECONDS": "5",
        }
        with Dev(home, *options, **environment) as dev:
            # Orders for a real MemOS are taken from those who may read its folder only.
            assert dev.ready["redis_url"] is None
            assert Redis.from_url(dev.shell('printf %s "$EXPUNGE_REDIS_URL"')).ping()
            dev.shell(f"expunge submit --user-id {one} --wait=30")
            assert memos.control.remaining().users == {other: 3}
            dev.end(signal.SIGKILL)
            assert all_gone(dev.parts, within_s=SECONDS)
        with Dev(home, *options, **environment) as dev:
            with Ledger.open(dev.ready["ledger_url"], keys=Keys.load(folder / "keys")) as ledger:
                assert [view.state for view in ledger.list_requests()] == ["complete"]
            (worker,) = [pid for pid in dev.parts if command_of(pid).endswith(" expunge worker")]
            os.kill(worker, signal.SIGKILL)
            assert dev.process.wait(SECONDS) == 1
            assert "The worker ended with exit code -9" in dev.log.read_text()
        texts = [path.read_bytes() for path in folder.glob("*") if path.is_file()]
        assert not any(memos.api_key.encode() in text for text in texts)


def test_a_real_memos_needs_a_folder_that_is_kept(home):
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "dev", "--memos", "env"],
        env={**os.environ, "EXPUNGE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--dir" in done.stderr
    assert list(home.iterdir()) == []


def command_of(pid):
    listed = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.strip()


# -- its folder -----------------------------------------------------------------------------------


def test_a_folder_is_had_by_one_at_a_time(tmp_path):
    folder = tmp_path / "dev"
    with (
        claimed_folder(folder, memos="simulator", kept=False),
        pytest.raises(SettingsError, match=f"process {os.getpid()}"),
        claimed_folder(folder, memos="simulator", kept=False),
    ):
        pass
    assert not folder.exists()


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(SettingsError, match="other things"),
        claimed_folder(tmp_path, memos="simulator", kept=False),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_work_of_one_memos_never_goes_to_another(tmp_path):
    folder = tmp_path / "dev"
    with claimed_folder(folder, memos="simulator", kept=True):
        (folder / "expunge.db").touch()
    with (
        pytest.raises(SettingsError, match="another MemOS"),
        claimed_folder(folder, memos="env https://memos.example", kept=True),
    ):
        pass
    assert (folder / "expunge.db").exists()


def test_what_a_killed_one_left_is_taken_away(tmp_path):
    folder = tmp_path / "dev"
    with claimed_folder(folder, memos="simulator", kept=False):
        (folder / "keys").mkdir()
        left = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "keys").mkdir(parents=True)
    for name, text in left.items():
        (folder / name).write_bytes(text)
    with claimed_folder(folder, memos="simulator", kept=False):
        assert {path.name for path in folder.iterdir()} == {"lock", "memos"}


def test_a_folder_that_was_kept_is_never_emptied(tmp_path):
    folder = tmp_path / "dev"
    with claimed_folder(folder, memos="simulator", kept=True):
        (folder / "expunge.db").touch()
    with (
        pytest.raises(SettingsError, match="would be emptied"),
        claimed_folder(folder, memos="simulator", kept=False),
    ):
        pass
    with claimed_folder(folder, memos="simulator", kept=True):
        assert (folder / "expunge.db").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match="cannot be used"),
        claimed_folder(tmp_path / "file" / "dev", memos="simulator", kept=False),
    ):
        pass


# -- its files ------------------------------------------------------------------------------------


def stack_settings(folder):
    return Settings(
        home=folder,
        config=folder / "expunge.toml",
        ledger_url=f"sqlite:///{folder}/expunge.db",
        keys_dir=folder / "keys",
        redis_url="redis://:pw@127.0.0.1:7001/0",
        memos_base_url="http://127.0.0.1:7002/v1",
        memos_api_key="hush-key",
        rate_per_second=7.5,
        verify="sample:9",
        settle_seconds=1,
    )


@pytest.mark.parametrize("name", ["plain", "a b", "it's", '"$HOME" `id` \\', "ü\nline"])
def test_a_shell_that_sources_the_file_finds_the_stack_whatever_it_had_before(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    settings = stack_settings(folder)
    env = write_shell_files(settings)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    foreign = {
        "EXPUNGE_LEDGER_URL": "sqlite:////elsewhere.db",
        "MEMOS_API_KEY": "a-real-one",
        "EXPUNGE_HOME": str(tmp_path),
    }
    shown = subprocess.run(
        ["sh", "-euc", '. "$0"; exec "$1" -c "$2"', env, sys.executable, code],  # noqa: S607
        env={**os.environ, **foreign},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    found = load_settings(json.loads(shown), run_secrets=tmp_path / "none")
    assert found.model_dump() == settings.model_dump()
    assert list(found.streams) == ["expunge-requests"]
    for path in (env, folder / "expunge.toml"):
        assert "hush-key" not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / "secrets" / "memos_api_key").stat().st_mode & 0o777 == 0o600
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700


def test_the_samples_order_what_is_there_and_each_file_what_is_its_own(tmp_path):
    by_user = dict(generate(users=USERS, memories=MEMORIES_PER_USER, seed=0))
    users = write_samples(tmp_path, by_user)
    names = [name for listed in users.values() for name in listed]
    assert sorted(names) == sorted(set(names)) == list(by_user)[1:]
    (whose,) = users["ids.txt"]
    assert (tmp_path / "ids.txt").read_text().split() == by_user[whose]
    head, *rows = (tmp_path / "export.csv").read_text().splitlines()
    assert head == "mem,owner"
    assert rows == [f"{each},{name}" for name in users["export.csv"] for each in by_user[name]]
    orders = [json.loads(line) for line in (tmp_path / "erase.jsonl").read_text().splitlines()]
    assert [one.get("user_id") or one["user"] for one in orders] == users["erase.jsonl"]
    assert orders[-1]["memory_ids"] == by_user[users["erase.jsonl"][-1]]
