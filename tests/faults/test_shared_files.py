"""A SQLite file that several hosts can reach: refused at the start, or as soon as it shows."""

import pytest

from ledger import Keys, Kind, Ledger, Order, ReadbackPolicy
from ledger import host as ledger_host
from ledger.engine import Database
from ledger.errors import LedgerError, OtherHostError
from ledger.migrate import upgrade
from ledger.sweep import follow_clock

pytestmark = pytest.mark.fault("F45")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)


@pytest.fixture
def url(tmp_path):
    made = f"sqlite:///{tmp_path / 'ledger.db'}"
    upgrade(made)
    return made


def mount(monkeypatch, tmp_path, kind):
    """Let the kernel say that the test's folder is on another file system."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nfar:/x {tmp_path.resolve()} {kind} rw 0 0\n")
    monkeypatch.setattr(ledger_host, "_MOUNTS", mounts)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_ledger_on_a_network_file_system_is_neither_made_nor_opened(
    url, tmp_path, monkeypatch, kind
):
    mount(monkeypatch, tmp_path, kind)
    for act in (lambda: upgrade(url), lambda: Ledger.open(url, keys=KEYS)):
        with pytest.raises(LedgerError, match="network file system") as caught:
            act()
        assert caught.value.cause == "network_file_system"


def test_a_local_one_is_opened_and_its_locks_are_found_to_hold(url, tmp_path, monkeypatch):
    mount(monkeypatch, tmp_path, "xfs")
    with Ledger.open(url, keys=KEYS) as ledger:
        ledger.require_locks()


def test_where_another_process_is_not_kept_out_no_worker_starts(url, monkeypatch):
    monkeypatch.setattr(ledger_host, "_TRY", "'it got in, and says nothing'")
    with Ledger.open(url, keys=KEYS) as ledger, pytest.raises(LedgerError, match="at once"):
        ledger.require_locks()


class OtherBoot:
    """The clock of another host: another boot, and other seconds."""

    source = "boot:another"

    def now_ns(self, conn):
        return 5


def test_when_a_second_host_opens_the_file_the_first_one_makes_no_further_claim(url):
    with Ledger.open(url, keys=KEYS) as here, Ledger.open(url, keys=KEYS) as there:
        here.register(projects={"default": "default"}, rates={"default": 10})
        intake = here.begin(Order(project="default", kind=Kind.MEMORIES), chunk_size=1)
        intake.add(["a", "b", "c"])
        intake.finish()
        there._database.clock = OtherBoot()
        follow_clock(there._database)
        for act in (
            lambda: here.claim(worker="w", capacity=1, lead_s=0, lease_s=60),
            lambda: here.sweep(max_attempts=8, policy=ReadbackPolicy()),
        ):
            with pytest.raises(OtherHostError, match="Another host"):
                act()
        # And it does not set its own clock again, or the two would take turns.
        assert there.sweep(max_attempts=8, policy=ReadbackPolicy()).due
        assert here.count_requests() == 1


def test_a_restart_of_the_own_host_is_no_other_host(url):
    database = Database(url)
    follow_clock(database)
    database.clock = OtherBoot()
    follow_clock(database)
    follow_clock(database)
    database.close()
