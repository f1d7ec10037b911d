"""After a request's end its names are nowhere: not in its proof, and not in the ledger's files."""

import json
import subprocess
import sys

import pytest

from tests import verify_certificate
from tests.support.health import page
from tests.support.other_eyes import bytes_of
from tests.support.ports import free_port
from tests.support.stack import Stack, until

TOKEN = "5be1f0"
USER = f"canary-user-{TOKEN}"
MEMORIES = [f"canary-mem-{TOKEN}-{n}" for n in range(40)]


@pytest.fixture
def stack(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Stack(tmp_path, url, rate=200, latency_ms=2) as made:
        yield made


def run(stack, *command, given="", code=0, **changed):
    done = subprocess.run(
        [sys.executable, "-m", "expunge", *command],
        env=stack.environment(**changed),
        input=given,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.fault("F121")
def test_names_are_gone_from_the_files_and_the_proof_holds_without_them(stack, tmp_path):
    settings = {
        "EXPUNGE_REDRIVE_DAYS": "0",
        "EXPUNGE_SECOND_LOOK_SECONDS": "0",
        "EXPUNGE_KEYS_DIR": str(tmp_path / "keys"),
        "EXPUNGE_AUDIT_DIR": str(tmp_path / "audit"),
    }
    port = free_port()
    worker = stack.start_worker(EXPUNGE_HEALTH_PORT=str(port), **settings)
    until(lambda: page(port, "/readyz")[0] == 200, seconds=20, why="the worker to be ready")
    stack.control.seed_ids(MEMORIES, user_id=USER)
    batch = stack.submit(MEMORIES, chunk_size=7, verify="full", subject=USER)
    # Not later: on a busy machine the steward may come by once more, and forget at once.
    assert TOKEN.encode() in bytes_of(tmp_path / "ledger.db") + wal(tmp_path)
    stack.wait_for_end(seconds=30)
    until(lambda: looked_at(stack), seconds=30, why="every second look to be over")
    seen = {"metrics": page(port, "/metrics")[1]}
    stop(worker)

    # A steward forgets at its start, and once a minute.
    worker = stack.start_worker(**settings)
    until(
        lambda: stack.scalar("SELECT count(*) FROM request WHERE scrub = 'done'"),
        seconds=20,
        why="the names to be taken out",
    )
    stop(worker)
    worker = stack.start_worker(**settings)
    until(
        lambda: not wal(tmp_path) or TOKEN.encode() not in wal(tmp_path),
        seconds=20,
        why="the write-ahead log to be emptied",
    )
    stop(worker)

    run(stack, "seal", "--once", **settings)
    seen["export"] = run(stack, "audit", "export", **settings)
    seen["verify"] = run(stack, "audit", "verify", **settings)
    seen["status"] = run(stack, "status", batch, "-o", "json", **settings)
    seen["find"] = run(stack, "find", "--user", "-", given=f"{USER}\nnobody\n", **settings)
    assert "named" in seen["find"]
    assert "not_known" in seen["find"]
    keys = run(stack, "keys", "show", **settings).splitlines()
    paper, opening = tmp_path / "paper.json", tmp_path / "opening.json"
    seen["issue"] = run(
        stack,
        "certificate",
        "issue",
        batch,
        "--to",
        str(paper),
        "--opening",
        str(opening),
        **settings,
    )
    said = verify_certificate.check(paper.read_bytes(), keys)
    verify_certificate.check_list(said, json.loads(opening.read_text()), MEMORIES)
    (tmp_path / "list.txt").write_text("\n".join(MEMORIES))
    (tmp_path / "user.txt").write_text(USER)
    seen["verified"] = run(
        stack,
        "certificate",
        "verify",
        str(paper),
        "--public-key",
        keys[0],
        "--opening",
        str(opening),
        "--items",
        f"@{tmp_path / 'list.txt'}",
        "--subject",
        f"@{tmp_path / 'user.txt'}",
        # Offline: neither a ledger nor keys nor an audit directory are there.
        EXPUNGE_LEDGER_URL="postgresql://nobody@127.0.0.1:1/none",
        EXPUNGE_HOME=str(tmp_path / "x"),
    )
    assert "It is about the ids and the name that you gave." in seen["verified"]
    paper_text = paper.read_text()
    paper.write_text(paper_text.replace('"certainty":"verified"', '"certainty":"sampled"', 1))
    seen["forged"] = run(
        stack, "certificate", "verify", str(paper), "--public-key", keys[0], code=9
    )
    assert "statement.certainty" in seen["forged"]
    for path in [*tmp_path.glob("*.log"), *(tmp_path / "audit").iterdir()]:
        seen[path.name] = path.read_text()
    assert [name for name, text in seen.items() if TOKEN in text] == []
    assert TOKEN not in paper_text + opening.read_text()
    for path in tmp_path.glob("ledger.db*"):
        assert TOKEN.encode() not in bytes_of(path), path.name


def stop(worker):
    worker.terminate()
    worker.wait(40)


def looked_at(stack):
    query = "SELECT count(*) FROM request WHERE second_look = 'looking'"
    return not stack.scalar(query)


def wal(folder):
    return bytes_of(folder / "ledger.db-wal")
