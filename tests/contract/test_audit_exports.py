"""An export that says other than the log, or cannot say it, is found by who has only the file."""

import json

import pytest

from ledger.audit.pruning import prune_bodies
from ledger.errors import AuditError
from tests.support.audit_log import AuditLog

# The first leaf says that the log was opened; checkpoints at 301, 311 and 341.
GROWTH = (300, 10, 30)
SIZE = 341


@pytest.fixture
def log(world, tmp_path):
    log = AuditLog(world.database, tmp_path)
    log.grow(*GROWTH)
    return log


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[:40] + lines[41:],
        lambda lines: [*lines[:40], lines[41], lines[40], *lines[42:]],
        lambda lines: [line for line in lines if "checkpoint" not in line[:15]],
        lambda lines: [line.replace('p7\\"', 'p8\\"', 1) for line in lines],
        lambda lines: [
            line.replace('"salt":"', '"salt":"00', 1).replace('00",', '",') for line in lines
        ],
        lambda lines: [line.replace("\\n311\\n", "\\n310\\n") for line in lines],
        lambda lines: [*lines[:-2], json.dumps({"leaves": 300, "checkpoints": 2})],
        lambda lines: ["{}", *lines],
        lambda lines: [*lines[:40], lines[40][:30]],
        lambda lines: [*lines[:40], "[]", *lines[41:]],
        lambda lines: [line.replace('"hash":"', '"hash":"x', 1) for line in lines],
        lambda lines: [line.replace('"hash"', '"hush"', 1) for line in lines],
        lambda lines: [lines[0].replace('"origins"', '"o"'), *lines[1:]],
        lambda lines: [lines[0].replace('"pruned_below":0', '"pruned_below":"0"'), *lines[1:]],
        lambda lines: [],
    ],
)
def test_both_verifiers_agree_on_an_export_and_the_second_finds_what_was_changed(log, change):
    lines = log.export()

    assert log.foreign_faults(lines, *log.kept) == []
    assert log.foreign_faults(change(lines), *log.kept) != []


def test_an_export_of_a_cut_log_is_found_by_a_checkpoint_that_was_kept(log):
    lines = log.export()
    cut = next(n for n, line in enumerate(lines) if "\\n311\\n" in line)
    head = lines[0].replace('"size":341', '"size":311')
    short = [head, *lines[1 : cut + 1], json.dumps({"leaves": 311, "checkpoints": 2})]

    assert log.foreign_faults(short) == []
    assert any("and 341 were signed" in one for one in log.foreign_faults(short, log.note()))


def without_payloads(line):
    return line[: line.index(',"salt"')] + "}" if '"salt"' in line else line


@pytest.mark.fault("F123")
def test_an_export_without_its_payloads_is_found(log):
    """By what says that they were pruned, which is an event that has to be there itself."""
    prune_bodies(log.database, below=30, principal="op", reason="retention")
    log.grow(5)
    lines = log.export()
    assert log.foreign_faults(lines, *log.kept) == []

    for below in (29, 31, SIZE + 6):
        head = lines[0].replace('"pruned_below":30', f'"pruned_below":{below}')
        assert head != lines[0]
        assert log.foreign_faults([head, *lines[1:]], *log.kept) != []
        stripped = [head, *map(without_payloads, lines[1:])]
        assert log.foreign_faults(stripped, *log.kept) != []


def test_a_pruning_that_is_not_signed_yet_is_good_and_not_exported(log):
    prune_bodies(log.database, below=30, principal="op", reason="retention")

    verdict = log.verify(*log.kept)
    assert (verdict.good, verdict.pruned) == (True, 30)
    with pytest.raises(AuditError, match="expunge seal --once"):
        log.export()
    log.seal()
    assert log.foreign_faults(log.export(), *log.kept) == []


def test_a_pruning_whose_event_a_later_one_took_is_good(log):
    act = {"principal": "op", "reason": "retention"}
    for below in (10, 20):
        prune_bodies(log.database, below=below, **act)
        log.grow(5)
    prune_bodies(log.database, below=SIZE + 6, **act)
    log.grow(5)

    verdict = log.verify(*log.kept)
    assert (verdict.good, verdict.pruned) == (True, SIZE + 6)
    assert log.foreign_faults(log.export(), *log.kept) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE leaf SET hash = 'x' WHERE idx = 60",
        "UPDATE event_body SET payload = 'x' WHERE event = (SELECT event FROM leaf WHERE idx=9)",
        "UPDATE event_body SET salt = 'x' WHERE event = (SELECT event FROM leaf WHERE idx = 9)",
        "UPDATE checkpoint SET size = 'x' WHERE size = 341",
    ],
)
@pytest.mark.parametrize("worlds", ["sqlite"], indirect=True)
def test_text_where_bytes_belong_is_not_exported(world, log, change):
    world.tamper(change)

    with pytest.raises(AuditError, match="expunge audit verify"):
        log.export()


def test_an_export_in_which_nothing_is_signed_is_not_good(log):
    lines = log.export()
    empty = lines[0].replace('"size":341', '"size":0')

    assert log.foreign_faults([empty, '{"leaves":0,"checkpoints":0}']) != []
