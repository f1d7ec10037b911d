"""Each of the doctor's checks, when all is well and when it is not."""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as GoneError

from expunge.doctor import Finding, Grade
from expunge.doctor.files import (
    check_disk,
    check_file_system,
    check_keys,
    check_ledger_file,
    check_secret_files,
    secret_files,
)
from expunge.doctor.findings import Late, failed, unexpected, within
from expunge.doctor.ledger_checks import (
    check_clock,
    check_requests,
    check_standstills,
    check_workers,
)
from expunge.doctor.ledger_facts import Beat, LedgerFacts
from expunge.doctor.memos import check_refusal, check_reply
from expunge.doctor.redis_facts import (
    RedisFacts,
    StreamFacts,
    check_redis,
    check_stream,
    read_redis,
    read_stream,
    unreachable,
)
from ledger import Keys
from ledger.errors import SchemaError
from ledger.pauses import Pause
from ledger.probes import ProbeRefused
from ledger.streams import Stream
from memos_api import Answer, Outcome

HERE = "1.2.3"
ALIVE = Beat(role="steward", release=HERE, age_s=3)
GOOD_REDIS = RedisFacts(version="7.4.1", policy="noeviction", appends=True, messages=3, skew_s=0.0)
STREAM = Stream(name="orders", group="expunge")


def grades(found):
    listed = [found] if isinstance(found, Finding) else found
    for one in listed:
        assert one.says
        assert (one.fix is None) == (one.grade is Grade.OK)
    return [one.grade.value for one in listed]


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "keys"
    Keys.create(folder)
    return folder


def test_whole_keys_that_nobody_else_reads_are_fine(keys):
    assert grades(check_keys(keys)) == ["ok"]


def test_keys_that_are_missing_or_cut_off_are_told(keys, tmp_path):
    assert grades(check_keys(tmp_path / "none")) == ["fail"]
    (keys / "order.key").write_text("abc")
    assert grades(check_keys(keys)) == ["fail"]


def test_a_ledger_that_everybody_can_read_is_told(tmp_path):
    tmp_path.chmod(0o755)
    file = tmp_path / "expunge.db"
    assert check_ledger_file(file) == []
    file.touch(0o600)
    assert check_ledger_file(file) == []
    file.chmod(0o644)
    (found,) = check_ledger_file(file)
    assert (grades(found), found.fix) == (["warn"], f"chmod 600 {file}*")


def test_keys_that_everybody_can_read_are_told(keys):
    (keys / "pseudonym.key").chmod(0o644)
    assert grades(check_keys(keys)) == ["ok"]  # nobody else gets into the folder
    keys.chmod(0o755)
    found = check_keys(keys)
    assert grades(found) == ["fail"]
    assert "pseudonym.key" in found[0].says
    (keys / "pseudonym.key").chmod(0o640)
    assert grades(check_keys(keys)) == ["ok"]


@pytest.mark.parametrize(
    ("of_file", "of_folder", "grade", "named"),
    [
        (0o622, 0o777, "fail", "order.key, the folder itself"),
        (0o622, 0o755, "fail", "order.key"),
        (0o622, 0o700, "ok", "All 3 keys"),  # nobody else gets into the folder
        (0o600, 0o777, "fail", "the folder itself"),
        (0o600, 0o1777, "fail", "the folder itself"),  # a key of another epoch can be put there
        (0o620, 0o750, "warn", "order.key"),
        (0o600, 0o770, "warn", "the folder itself"),
        (0o600, 0o755, "ok", "All 3 keys"),
    ],
)
def test_keys_that_others_can_change_or_replace_are_told(keys, of_file, of_folder, grade, named):
    (keys / "order.key").chmod(of_file)
    keys.chmod(of_folder)
    found = check_keys(keys)
    assert (grades(found), named in found[0].says) == ([grade], True)
    if grade != "ok":
        assert found[0].fix == f"chmod go-w {keys} {keys}/*.key"


def test_keys_that_others_can_read_and_change_are_told_of_twice(keys):
    (keys / "subjects.1.key").chmod(0o666)
    keys.chmod(0o755)
    assert [one.says.split(" subjects")[0] for one in check_keys(keys)] == [
        "Every user can read",
        "Every user can change",
    ]


def test_wide_modes_on_a_mount_that_nobody_can_write_to_are_fine(keys, monkeypatch):
    (keys / "order.key").chmod(0o622)
    keys.chmod(0o777)
    mounted = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr("expunge.doctor.files.os.statvfs", lambda _path: mounted)
    assert grades(check_keys(keys)) == ["ok"]


def test_secret_files_are_found_where_the_settings_name_them(tmp_path):
    tmp_path.chmod(0o755)
    config = tmp_path / "expunge.toml"
    config.write_text(
        '[projects.crm]\napi_key_file = "crm.key"\n[streams.s]\nurl_file = "/else/queue.url"\n'
    )
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "memos_api_key").write_text("k")
    assert [str(path) for path in secret_files(config, folder)] == [
        str(folder / "memos_api_key"),
        str(tmp_path / "crm.key"),
        "/else/queue.url",
    ]
    assert secret_files(None, None) == []


@pytest.mark.parametrize(
    "line",
    [
        'memos_api_key = "k"',
        'redis_url = "redis://:pw@h/0"',
        '[streams.s]\nurl = "redis://u:pw@h/0"',
    ],
)
def test_a_config_file_that_holds_a_secret_is_one(tmp_path, line):
    config = tmp_path / "expunge.toml"
    config.write_text(line)
    assert secret_files(config, None) == [config]
    config.write_text('redis_url = "redis://h/0"')
    assert secret_files(config, None) == []


def test_secret_files_that_everybody_can_read_are_told(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "memos_api_key"
    path.write_text("hush")
    path.chmod(0o600)
    assert grades(check_secret_files([path, tmp_path / "gone"])) == ["ok"]
    path.chmod(0o604)
    (found,) = check_secret_files([path])
    assert grades(found) == ["warn"]
    assert "hush" not in str(found)
    assert check_secret_files([]) == []


@pytest.mark.parametrize(
    ("mebibytes", "grade"), [(5_000, "ok"), (1_024, "ok"), (500, "warn"), (99, "fail"), (0, "fail")]
)
def test_a_disk_is_judged_by_what_is_free(tmp_path, mebibytes, grade):
    assert grades(check_disk(tmp_path, mebibytes << 20)) == [grade]


def test_a_ledger_on_a_network_file_system_is_told(tmp_path):
    local = "/dev/sda1 / ext4 rw 0 0\nhost:/x /mnt/far nfs4 rw 0 0\n"
    assert check_file_system(tmp_path, local) == []
    assert check_file_system(tmp_path, "") == []
    mounted = f"{local}//host/x {tmp_path} cifs rw 0 0\n"
    assert grades(check_file_system(tmp_path / "below", mounted)) == ["fail"]
    of_the_host = f"{local}share {tmp_path} virtiofs rw 0 0\n"
    assert grades(check_file_system(tmp_path, of_the_host)) == ["warn"]
    blank = tmp_path / "a b"
    escaped = str(blank).replace(" ", "\\040")
    assert grades(check_file_system(blank, f"{local}h:/x {escaped} nfs rw 0 0")) == ["fail"]


# -- the ledger -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew_s", "expected"),
    [(None, []), (0.4, ["ok"]), (-1.9, ["ok"]), (5.0, ["warn"]), (-5.0, ["warn"]), (61, ["fail"])],
)
def test_clocks_that_differ_are_told(skew_s, expected):
    found = check_clock("Redis", skew_s)
    assert grades(found) == expected
    if skew_s in (5.0, -5.0):
        assert ("ahead of" if skew_s > 0 else "behind") in found[0].says


@pytest.mark.parametrize(
    ("beats", "unclaimed_s", "expected"),
    [
        ([ALIVE], None, ["ok"]),
        ([ALIVE, replace(ALIVE, age_s=0)], 10.0, ["ok"]),
        ([ALIVE], 100.0, ["ok", "warn"]),
        ([], None, ["warn"]),
        ([], 0.0, ["fail"]),
        ([replace(ALIVE, age_s=31)], 0.0, ["fail"]),
        ([replace(ALIVE, age_s=-500)], 0.0, ["fail"]),  # from before a reboot
        ([replace(ALIVE, role="drain")], 0.0, ["fail"]),
        ([ALIVE, replace(ALIVE, release="0.0.1")], None, ["ok", "warn"]),
        ([ALIVE, replace(ALIVE, release="0.0.1", age_s=99)], None, ["ok"]),
    ],
)
def test_workers_are_those_whose_steward_was_heard_of(beats, unclaimed_s, expected):
    facts = LedgerFacts(beats=beats, unclaimed_s=unclaimed_s)
    assert grades(check_workers(facts, HERE)) == expected


def test_what_stands_still_is_told():
    assert grades(check_standstills([])) == ["ok"]
    found = check_standstills(
        [
            Pause(scope="project", name="crm", reason="code_40132"),
            Pause(scope="account", name="big", reason="freeze-3"),
            Pause(scope="project", name="cms", reason="connect", kind="broken", seconds_left=9.0),
            Pause(scope="account", name="main", reason="http_429", kind="rests", seconds_left=3.2),
        ]
    )
    assert grades(found) == ["fail", "fail", "warn", "warn"]
    assert str(found[0].fix).endswith("expunge resume crm")
    assert str(found[1].fix).endswith("expunge resume --account big")
    assert "9 s" in found[2].says
    assert "3 s" in found[3].says


@pytest.mark.parametrize(
    ("facts", "grade"),
    [
        (LedgerFacts(overdue=1_000), "fail"),
        (LedgerFacts(tampered=1_000), "fail"),
        (LedgerFacts(tampered_ended=1_000), "warn"),
        (LedgerFacts(held=1_000), "warn"),
        (LedgerFacts(stale=1_000), "warn"),
        (LedgerFacts(parked=1_000), "warn"),
        (LedgerFacts(dead=1_000), "warn"),
    ],
)
def test_requests_that_need_a_person_are_told(facts, grade):
    assert grades(check_requests(LedgerFacts())) == ["ok"]
    (found,) = check_requests(facts)
    assert grades(found) == [grade]
    assert "1,000" in found.says


# -- redis ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["ok"]),
        ({"version": "6.0.9"}, ["fail"]),
        ({"version": ""}, ["fail"]),
        ({"policy": "allkeys-lru"}, ["warn"]),
        ({"policy": None}, ["warn"]),
        ({"appends": False}, ["warn"]),
        ({"appends": None}, ["warn"]),
        ({"messages": 101}, ["warn"]),
    ],
)
def test_a_redis_is_judged_by_what_it_says(changed, expected):
    assert grades(check_redis(replace(GOOD_REDIS, **changed), streams=True)) == expected


def test_a_redis_that_only_rings_need_not_keep_anything():
    assert grades(check_redis(replace(GOOD_REDIS, appends=False), streams=False)) == ["ok"]


@pytest.mark.parametrize(
    ("error", "grade"),
    [
        (AuthenticationError("hush"), "fail"),
        (NoPermissionError("hush"), "warn"),
        (GoneError("Error connecting to redis://:hush@h"), "fail"),
    ],
)
def test_a_redis_that_gives_no_answer_is_told_without_its_address(error, grade):
    found = unreachable("EXPUNGE_REDIS_URL", error)
    assert grades(found) == [grade]
    assert "EXPUNGE_REDIS_URL" in found.says
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("facts", "grade"),
    [
        (StreamFacts(known=True, lag=0, readers=1), "ok"),
        (StreamFacts(known=True, lag=None, readers=2), "ok"),
        (StreamFacts(known=True, lag=10_001, readers=1), "warn"),
        (StreamFacts(known=False), "warn"),
        (StreamFacts(known=True, lag=0), "warn"),
        (StreamFacts(known=True, lag=5), "fail"),
        (StreamFacts(known=True, lag=None, pending=2), "fail"),
    ],
)
def test_a_stream_is_judged_by_who_reads_it(facts, grade):
    assert grades(check_stream(STREAM, facts)) == [grade]


class Server:
    """A Redis that says what a test gives it."""

    def __init__(self, info=(), error=None):
        self._info = dict(info)
        self._error = error

    def time(self):
        return (1_000, 0)

    def info(self):
        return self._info

    def llen(self, _name):
        return 2

    def xinfo_groups(self, _name):
        if self._error:
            raise self._error
        return [{"name": "others", "pending": 0}]


def a_server(*args: Any, **named: Any) -> Any:
    return Server(*args, **named)


def test_a_valkey_is_known_by_its_own_version():
    facts = read_redis(a_server({"redis_version": "7.2.4", "valkey_version": "9.1.2"}))
    assert (facts.version, facts.policy, facts.appends, facts.messages) == ("9.1.2", None, None, 2)
    assert facts.skew_s < -1_000_000


def test_a_stream_without_our_group_was_never_read():
    assert read_stream(a_server(), STREAM) == StreamFacts(known=False)
    assert read_stream(a_server(error=ResponseError("no such key")), STREAM).known is False
    with pytest.raises(NoPermissionError):
        read_stream(a_server(error=NoPermissionError("no")), STREAM)


# -- MemOS ----------------------------------------------------------------------------------------


def an_answer(outcome, reason):
    return Answer(outcome=outcome, code=None, http_status=None, retry_after_s=None, reason=reason)


@pytest.mark.parametrize(
    ("outcome", "reason", "grade", "word"),
    [
        (Outcome.ACKNOWLEDGED, "ok", "ok", "answers"),
        (Outcome.NOT_FOUND, "code_40308", "ok", "answers"),
        (Outcome.PAUSE_PROJECT, "code_40132", "fail", "refuses the key"),
        (Outcome.PAUSE_PROJECT, "http_401", "fail", "refuses the key"),
        (Outcome.PAUSE_PROJECT, "http_404", "fail", "else than MemOS"),
        (Outcome.PAUSE_PROJECT, "redirect", "fail", "else than MemOS"),
        (Outcome.PAUSE_PROJECT, "http_410", "fail", "else than MemOS"),
        (Outcome.UNKNOWN, "html", "fail", "else than MemOS"),
        (Outcome.UNKNOWN, "malformed", "fail", "else than MemOS"),
        (Outcome.NOT_APPLIED, "connect", "fail", "cannot be reached"),
        (Outcome.NOT_APPLIED, "slot_missed", "warn", "too late for the call"),
        (Outcome.UNKNOWN, "deadline", "fail", "cannot be reached"),
        (Outcome.BACK_OFF, "http_429", "warn", "over its rate"),
        (Outcome.PAUSE_ACCOUNT, "code_40304", "fail", "quota"),
        (Outcome.UNKNOWN, "http_503", "warn", "no usable answer"),
        (Outcome.UNKNOWN, "code_50000", "warn", "no usable answer"),
    ],
)
def test_an_answer_of_memos_is_told_in_words(outcome, reason, grade, word):
    found = check_reply("default", an_answer(outcome, reason))
    assert grades(found) == [grade]
    assert word in found.says


def test_the_setting_to_mend_is_that_of_the_project():
    for name, setting in (("default", "MEMOS_API_KEY"), ("crm", "projects.crm.")):
        assert setting in str(check_reply(name, an_answer(Outcome.PAUSE_PROJECT, "x")).fix)


@pytest.mark.parametrize(
    ("refused", "grade"),
    [
        (ProbeRefused(reason="project_paused", why="http_401"), "fail"),
        (ProbeRefused(reason="project_rests", wait_s=3), "warn"),
        (ProbeRefused(reason="account_rests", why="http_429", wait_s=3), "warn"),
        (ProbeRefused(reason="unknown_project"), "warn"),
        (ProbeRefused(reason="no_slot", wait_s=9), "warn"),
    ],
)
def test_a_call_that_may_not_be_made_is_told(refused, grade):
    found = check_refusal("default", refused)
    assert grades(found) == [grade]
    assert found.says.startswith("Not asked")


# -- patience -------------------------------------------------------------------------------------


def test_what_hangs_is_not_waited_for():
    never = threading.Event()
    with pytest.raises(Late):
        within(0.01, never.wait)
    never.set()


def test_what_answers_in_time_is_given_and_what_it_raises_is_raised():
    assert within(10, lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)


def test_an_error_of_ours_says_what_to_do_and_any_other_keeps_its_text():
    found = failed("ledger", SchemaError("It has no tables yet; run `expunge db upgrade`."))
    assert (found.says, found.fix) == ("It has no tables yet.", "Run `expunge db upgrade`.")
    assert "user-17" not in str(unexpected("ledger", ValueError("user-17")))
    plain = failed("ledger", SchemaError("Broken."))
    assert plain.says == "Broken."
    assert plain.fix
