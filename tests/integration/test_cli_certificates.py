"""Certificates and their openings, as people type them, and the second verifier beside."""

import json
import os
from types import SimpleNamespace

import pytest

from tests import verify_certificate

# The last one holds what some programs, and not we, take for a line's end.
IDS = ["b1", "b2 ", "b\u20283"]


def test_a_certificate_is_issued_once_it_is_sealed_and_verifies(expunge, erased, tmp_path):
    early = expunge("certificate", "issue", erased)
    assert (early.exit_code, "No public key" in early.stderr) == (9, True)
    assert expunge("seal", "--once").exit_code == 0
    key = expunge("keys", "show").stdout.strip()
    paper, opening, name = (tmp_path / each for each in ("c.json", "o.json", "name.txt"))
    made = expunge("certificate", "issue", erased, "--to", str(paper), "--opening", str(opening))
    assert made.exit_code == 0, made.stderr
    assert opening.stat().st_mode & 0o077 == 0
    name.write_text("alice")
    good = expunge(
        *("certificate", "verify", str(paper), "--public-key", key, "-o", "json"),
        *("--opening", str(opening), "--subject", f"@{name}"),
    )
    assert (good.exit_code, json.loads(good.stdout)["statement"]["result"]) == (0, "complete")
    name.write_text("bob")
    other = expunge(
        *("certificate", "verify", str(paper), "--public-key", key),
        *("--opening", str(opening), "--subject", f"@{name}"),
    )
    assert (other.exit_code, "somebody else" in other.stdout) == (9, True)
    assert expunge("certificate", "verify", str(paper)).exit_code == 2
    assert expunge("certificate", "issue", erased, "--to", str(paper)).exit_code == 2
    assert expunge("certificate", "issue", "nobody").exit_code == 5
    paper.write_text(paper.read_text().replace('"generation":1', '"generation":2', 1))
    forged = expunge("certificate", "verify", str(paper), "--public-key", key)
    assert (forged.exit_code, "statement.generation" in forged.stdout) == (9, True)


@pytest.fixture
def issued(expunge, carry_out, tmp_path):
    """Have two batches and a purge carried out; gives certificates, openings and the key."""
    carried_out = {}
    for name, ids in (("one", IDS), ("two", ["x1"])):
        made = expunge("submit", "--memory-id", "-", "-o", "id", stdin="\n".join(ids))
        carried_out[name] = made.stdout.strip()
    made = expunge("submit", "--user-id", "-", "-o", "id", stdin="alice\n")
    carried_out["purge"] = made.stdout.strip()
    carry_out()
    assert expunge("seal", "--once").exit_code == 0
    for name, request_id in carried_out.items():
        files = ("--to", tmp_path / f"{name}.cert", "--opening", tmp_path / f"{name}.open")
        assert expunge("certificate", "issue", request_id, *files).exit_code == 0
    (tmp_path / "ids.txt").write_bytes("\r\n".join(["", *IDS, IDS[0]]).encode())
    (tmp_path / "fewer.txt").write_text("b1\n")
    key = expunge("keys", "show").stdout.strip()
    return SimpleNamespace(folder=tmp_path, key=key, **carried_out)


@pytest.fixture
def verify(expunge, issued):
    def run(name, *more, opening):
        folder = issued.folder
        given = ("--public-key", issued.key, "--opening", folder / opening, *more)
        return expunge("certificate", "verify", folder / f"{name}.cert", *given)

    return run


@pytest.fixture
def second(issued, capsys):
    def run(name, *more, key=None):
        paths = [one if one.startswith("--") else str(issued.folder / one) for one in more]
        arguments = [str(issued.folder / name), issued.key if key is None else key, *paths]
        try:
            code: object = verify_certificate.main(arguments)
        except SystemExit as ended:
            code = ended.code
        return code, "".join(capsys.readouterr())

    return run


def test_a_certificate_of_what_was_ordered_here_names_no_login(issued):
    said = json.loads((issued.folder / "one.cert").read_text())["statement"]
    assert said["instruction"]["by"] == "local"


def test_the_opening_of_another_certificate_is_refused_by_itself(verify):
    good = verify("one", opening="one.open")
    assert (good.exit_code, "opening that you gave is its own" in good.stdout) == (0, True)
    for wrong in ("two.open", "purge.open"):
        bad = verify("one", opening=wrong)
        assert (bad.exit_code, "opening: It is of another certificate." in bad.stdout) == (9, True)
        # It is not the certificate that is wrong.
        assert "The certificate itself holds." in bad.stdout
        assert "Good" not in bad.stdout
        shown = json.loads(verify("one", "-o", "json", opening=wrong).stdout)
        assert (shown["good"], len(shown["faults"])) == (False, 1)


def test_an_opening_that_names_the_certificate_has_to_have_its_salt_too(verify, issued):
    path = issued.folder / "bent.open"
    other = json.loads((issued.folder / "two.open").read_text())
    own = json.loads((issued.folder / "one.open").read_text())
    path.write_text(json.dumps({**own, "salt": other["salt"]}))
    assert "salt is not that of this" in verify("one", opening="bent.open").stdout
    del own["salt"]
    path.write_text(json.dumps(own))
    bare = verify("one", opening="bent.open")
    assert (bare.exit_code, "only with --subject" in bare.stdout) == (9, True)


def test_a_purges_opening_without_its_salt_is_shown_by_the_name(verify, issued):
    path = issued.folder / "bent.open"
    own = json.loads((issued.folder / "purge.open").read_text())
    del own["salt"]
    path.write_text(json.dumps(own))
    (issued.folder / "name").write_text("alice")
    named = verify("purge", "--subject", f"@{issued.folder / 'name'}", opening="bent.open")
    assert (named.exit_code, "about the name that you gave" in named.stdout) == (0, True)


def test_another_list_says_that_the_certificate_itself_holds(verify, issued):
    ids, fewer = (f"@{issued.folder / name}" for name in ("ids.txt", "fewer.txt"))
    assert verify("one", "--items", ids, opening="one.open").exit_code == 0
    bad = verify("one", "--items", fewer, opening="one.open")
    assert (bad.exit_code, "The certificate itself holds." in bad.stdout) == (9, True)
    assert "NOT a certificate" not in bad.stdout


def test_an_id_in_the_place_of_a_list_is_bad_input(verify):
    plain = verify("one", "--items", "b3", opening="one.open")
    assert (plain.exit_code, "--items takes the list as a file" in plain.stderr) == (2, True)
    assert "NOT" not in plain.output


def test_a_list_with_a_line_that_is_no_id_says_what_to_do_about_that(verify, issued):
    (issued.folder / "bad.txt").write_text("b1\nb\t2\n")
    bad = verify("one", "--items", f"@{issued.folder / 'bad.txt'}", opening="one.open")
    assert (bad.exit_code, "Line 2 of bad.txt" in bad.stderr) == (2, True)
    assert "Nothing was compared" in bad.stderr
    assert "import" not in bad.stderr


def test_a_request_that_has_not_ended_is_a_conflict_and_no_unknown_one(expunge, issued):
    made = expunge("submit", "--memory-id", "y1", "-o", "id").stdout.strip()
    early = expunge("certificate", "issue", made)
    assert (early.exit_code, "has not ended yet" in early.stderr) == (6, True)
    assert expunge("certificate", "issue", "nobody").exit_code == 5
    assert expunge("certificate", "issue", issued.one, "--generation", "2").exit_code == 5


@pytest.mark.parametrize("there", ["--to", "--opening"])
def test_a_certificate_and_its_opening_are_written_both_or_neither(expunge, issued, ledger, there):
    files = {"--to": issued.folder / "new.cert", "--opening": issued.folder / "new.open"}
    files[there].write_text("mine")
    opened = events(ledger)
    options = [each for pair in files.items() for each in pair]
    made = expunge("certificate", "issue", issued.one, *options)
    assert (made.exit_code, "not there yet" in made.stderr) == (2, True)
    assert files.pop(there).read_text() == "mine"
    assert not any(path.exists() for path in files.values())
    # Nobody got it, so nobody is said to have.
    assert events(ledger) == opened


def test_what_breaks_off_leaves_no_half_of_it(expunge, issued, monkeypatch):
    paper, opening = issued.folder / "new.cert", issued.folder / "new.open"
    assert expunge("certificate", "issue", "nobody", "--to", paper).exit_code == 5
    assert not paper.exists()
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(issued.folder / "nowhere"))
    made = expunge("certificate", "issue", issued.one, "--to", paper, "--opening", opening)
    assert made.exit_code == 2
    assert not paper.exists()
    assert not opening.exists()


def test_both_files_are_as_private_as_they_have_to_be(issued):
    mask = os.umask(0)
    os.umask(mask)
    assert (issued.folder / "one.open").stat().st_mode & 0o777 == 0o600 & ~mask
    assert (issued.folder / "one.cert").stat().st_mode & 0o777 == 0o644 & ~mask


def events(ledger):
    with ledger._database.engine.connect() as conn:
        query = "SELECT count(*) FROM event WHERE type = 'certificate.opened'"
        return conn.exec_driver_sql(query).scalar_one()


# -- the second verifier --------------------------------------------------------------------------


def test_the_second_verifier_takes_the_same_lines_for_ids(second):
    assert second("one.cert", "--opening", "one.open", "--items", "ids.txt") == (0, "good\n")
    code, says = second("one.cert", "--opening", "one.open", "--items", "fewer.txt")
    assert (code, says) == (1, "another list\nNOT good\n")


def test_the_second_verifier_refuses_the_opening_of_another_certificate(second, issued):
    assert second("one.cert", "--opening", "one.open")[0] == 0
    code, says = second("one.cert", "--opening", "two.open")
    assert (code, "opening is of another certificate" in says) == (1, True)
    own = json.loads((issued.folder / "one.open").read_text())
    (issued.folder / "bent.open").write_text(json.dumps({**own, "generation": 2}))
    assert second("one.cert", "--opening", "bent.open")[0] == 1


@pytest.mark.parametrize(
    ("name", "more", "word"),
    [
        ("purge.cert", ("--opening", "purge.open", "--items", "ids.txt"), "has no list of ids"),
        ("one.cert", ("--opening", "ids.txt"), "opening is none"),
        ("one.cert", ("--opening", "one.open", "--items", "latin.txt"), "no UTF-8"),
        ("one.cert", ("--opening", "saltless.open"), "has no salt"),
        ("one.cert", ("--items", "ids.txt"), "--opening is needed"),
    ],
)
def test_what_the_second_verifier_cannot_compare_is_2_and_not_wrong(
    second, issued, name, more, word
):
    (issued.folder / "latin.txt").write_bytes(b"b1\n\xe4\n")
    own = json.loads((issued.folder / "one.open").read_text())
    del own["salt"]
    (issued.folder / "saltless.open").write_text(json.dumps(own))
    code, says = second(name, *more)
    assert (code, word in says, "NOT good" in says) == (2, True, False)


def test_a_public_key_that_is_none_is_2_for_the_second_verifier(second, issued):
    name, key_id, data = issued.key.split("+", 2)
    for key in ("rubbish", f"{name}+{key_id}+{data[:-4]}", f"{name}x+{key_id}+{data}", "a+b+*"):
        code, says = second("one.cert", key=key)
        assert (code, "a public key" in says) == (2, True), key
