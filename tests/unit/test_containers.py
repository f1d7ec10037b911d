"""Image, compose file, units and monitoring agree with the code: no container engine runs here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from expunge.cli import app
from ledger.settings import Settings, environment_name, setting_fields
from tests.support.missing import missing_part

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
SECRETS_SCRIPT = ROOT / "deploy/make-secrets.sh"
HEALTH_PORT = "9090"
UID = "10001"
# What ends a worker in order: its call deadline, then 2 s.
GRACE_S = Settings().call_deadline_seconds + 2

# Read by make-secrets.sh or the images, and no setting of ours.
KNOWN = {*map(environment_name, setting_fields()), "EXPUNGE_SECRETS_DIR"}
OWN = re.compile(r"\b(?:EXPUNGE|MEMOS)_[A-Z][A-Z_]*\b")
OURS = ["migrate", "worker", "bridge", "sealer", "simulator"]
# Of each its own: the sealer's is found under the name of the others' in its container.
ROLES = {"expunge_sealer_ledger_url"}


def yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


COMPOSE = yaml(COMPOSE_FILE)
SERVICES: dict[str, Any] = COMPOSE["services"]


def commands() -> dict[str, set[str]]:
    """All commands with their options."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        below = getattr(command, "commands", None)
        for name, each in (below or {}).items():
            walk(each, (*words, name))
        if below is None:
            found[" ".join(words)] = {option for each in command.params for option in each.opts}

    walk(typer.main.get_command(app), ())
    return found


def assert_runs(words: list[str]) -> None:
    """The words after `expunge` are a command and options that exist."""
    known = commands()
    line = " ".join(words)
    name = max((each for each in known if f"{line} ".startswith(f"{each} ")), key=len, default="")
    assert name, line
    if name == "simulator":  # its options are the simulator's own
        shown = subprocess.run(
            [sys.executable, "-m", "memos_api.simulator", "--help"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        options = set(re.findall(r"--[a-z-]+", shown))
    else:
        options = known[name]
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options, line


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)?", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} +(.+)$", joined, flags=re.MULTILINE)


def secrets_of(service: str) -> set[str]:
    given = SERVICES[service].get("secrets", [])
    return {each if isinstance(each, str) else each["source"] for each in given}


# -- the compose file -----------------------------------------------------------------------------


def check_compose(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


def test_the_compose_file_is_one():
    done = check_compose(COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_in_a_compose_file_would_be_found(tmp_path):
    broken = tmp_path / "compose.yml"
    broken.write_text(COMPOSE_FILE.read_text().replace("stop_grace_period", "stop_grace_perod"))
    assert check_compose(broken).returncode != 0


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_a_service_exists(name):
    service = SERVICES[name]
    for words in (service["command"], service.get("healthcheck", {}).get("test", [])):
        listed = [str(word) for word in words]
        if listed and listed[0] == "CMD":
            listed = listed[1:]
            if listed[0] != "expunge":
                assert listed[0] == "python"
                continue
            listed = listed[1:]
        for line in listed if service.get("entrypoint") else [shlex.join(listed)]:
            for each in re.findall(r"expunge ([a-z].*)|^([a-z]+(?: .*)?)$", line, re.MULTILINE):
                spelt = next(filter(None, each))
                if not spelt.startswith("test "):
                    assert_runs(shlex.split(spelt))


def test_the_migration_upgrades_and_makes_keys_only_once():
    (script,) = SERVICES["migrate"]["command"]
    assert re.findall(r"expunge (\w+ \w+)", script) == ["db upgrade", "keys init"]
    assert 'test -e "$$EXPUNGE_KEYS_DIR/order.key" || expunge keys init' in script
    assert SERVICES["migrate"]["restart"] == "no"


@pytest.mark.parametrize("file", ["docker-compose.yml", "Dockerfile", *map(str, UNITS)])
def test_every_variable_of_ours_is_a_setting(file):
    named = set(OWN.findall((ROOT / file).read_text()))
    assert named
    assert named <= KNOWN


def test_every_secret_is_made_by_the_script_and_is_a_setting_or_the_databases():
    made = set(re.findall(r'> "\$folder/(\w+)"', SECRETS_SCRIPT.read_text()))
    for name, secret in COMPOSE["secrets"].items():
        assert secret["file"] == f"./deploy/secrets/{name}"
        assert name in made
        assert name.upper() in KNOWN or name in {"postgres_password", *ROLES}
    used = {name for each in SERVICES for name in secrets_of(each)}
    assert used == set(COMPOSE["secrets"])
    assert set(SERVICES["worker"]["secrets"]) == {"expunge_ledger_url", "memos_api_key"}
    assert SERVICES["sealer"]["secrets"] == [
        {"source": "expunge_sealer_ledger_url", "target": "expunge_ledger_url"}
    ]
    # The owner's is for the migration alone.
    owners = {name for name in SERVICES if "expunge_ledger_admin_url" in secrets_of(name)}
    assert owners == {"migrate"}
    # Who does not call MemOS has no key to do so.
    assert "memos_api_key" not in SERVICES["bridge"]["secrets"]


def test_no_secret_gets_into_git_or_into_the_image():
    assert "secrets/" in (ROOT / "deploy/.gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not [line for line in ignored if line.startswith("!deploy") or line == "!."]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert ("build" in service) == (name in OURS)
    if name in OURS:
        assert service["user"] == f"{UID}:{UID}"
        assert "cap_add" not in service
        assert any(each.startswith("/tmp") for each in service["tmpfs"])  # noqa: S108 - a mount


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_by_a_tag_that_does_not_move_by_itself(name):
    _, mark, tag = SERVICES[name]["image"].partition(":")
    tag = re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", tag)
    assert mark
    assert tag != "latest"
    assert re.search(r"\d", tag)


@pytest.mark.parametrize("name", ["worker", "bridge"])
def test_a_worker_may_run_any_number_of_times(name):
    assert "container_name" not in SERVICES[name]
    assert "ports" not in SERVICES[name]
    assert SERVICES[name]["depends_on"]["migrate"] == {
        "condition": "service_completed_successfully"
    }
    for store in ("redis", "postgres"):
        assert SERVICES[name]["depends_on"][store] == {"condition": "service_healthy"}
        assert SERVICES[store]["healthcheck"]["test"]


def test_ending_waits_longer_than_a_call_may_take():
    for name in OURS:
        assert seconds(SERVICES[name]["stop_grace_period"]) > GRACE_S
    for unit in UNITS:
        (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert float(stop) > GRACE_S


def test_the_documents_say_which_deadline_the_given_time_is_enough_for():
    said = re.search(
        r"give (\d+) s, for a\s+deadline of up to (\d+) s",
        (ROOT / "docs/operations.md").read_text(),
    )
    assert said is not None
    given, deadline = map(float, said.groups())
    assert deadline == given - 2
    (preset,) = re.findall(
        r":-([\d.]+)\}", COMPOSE["x-environment"]["EXPUNGE_CALL_DEADLINE_SECONDS"]
    )
    assert float(preset) == Settings().call_deadline_seconds <= deadline
    for name in ("worker", "bridge"):
        assert seconds(SERVICES[name]["stop_grace_period"]) == given
    for unit in UNITS:
        assert f"\nTimeoutStopSec={given:g}\n" in unit.read_text()


def test_a_service_manager_tells_the_supervisor_alone_to_end_and_kills_all_that_stays():
    """Calls under way end in order; a TERM to Celery's children would be ignored anyway."""
    for unit in UNITS:
        assert "\nKillMode=mixed\n" in unit.read_text()
        assert "SendSIGKILL" not in unit.read_text()
    for name in OURS:
        # The container's first process hands the signal on to its one child.
        assert SERVICES[name]["init"] is True
        assert SERVICES[name].get("stop_signal", "SIGTERM") == "SIGTERM"


def test_stores_cannot_be_reached_from_outside():
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    for store in ("redis", "postgres"):
        assert SERVICES[store]["networks"] == ["stores"]
        assert "ports" not in SERVICES[store]
    published = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_redis_keeps_what_it_took_and_evicts_nothing():
    line = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in line
    assert "--maxmemory-policy noeviction" in line


@pytest.mark.parametrize("name", SERVICES)
def test_every_mount_is_a_file_of_the_project_or_a_volume_that_is_named(name):
    for mount in SERVICES[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_keys_are_written_by_the_migration_alone():
    keys = {
        name: mount
        for name, service in SERVICES.items()
        for mount in service.get("volumes", [])
        if mount.startswith("keys:")
    }
    assert set(keys) == {"migrate", "worker", "bridge"}
    assert [name for name, mount in keys.items() if not mount.endswith(":ro")] == ["migrate"]
    folder = COMPOSE["x-environment"]["EXPUNGE_KEYS_DIR"]
    assert all(mount.split(":")[1] == folder for mount in keys.values())
    # A fresh volume takes over the owner of the folder that is in the image.
    made = f"install -d -o {UID} -g {UID} -m 0700 /var/lib/expunge {folder}"
    assert f"{made} /var/lib/expunge/signing /var/lib/expunge/audit" in " ".join(
        DOCKERFILE.replace("\\\n", " ").split()
    )


def test_the_signing_key_is_the_sealers_alone():
    having = {
        name
        for name, service in SERVICES.items()
        for mount in service.get("volumes", [])
        if mount.startswith("signing:")
    }
    assert having == {"migrate", "sealer"}
    (script,) = SERVICES["migrate"]["command"]
    assert "keys init --signing-dir /var/lib/expunge/signing" in script
    assert SERVICES["sealer"]["environment"]["EXPUNGE_KEYS_DIR"] == "/var/lib/expunge/signing"
    writers = [
        name
        for name, service in SERVICES.items()
        if any(re.fullmatch(r"audit:[^:]+", mount) for mount in service.get("volumes", []))
    ]
    assert writers == ["sealer"]
    for unit in UNITS:
        assert ("signing" in unit.read_text()) == (unit.stem == "expunge-sealer")


def test_health_is_asked_where_it_is_served():
    environment = COMPOSE["x-environment"]
    assert environment["EXPUNGE_HEALTH_PORT"] == HEALTH_PORT
    assert environment["EXPUNGE_HEALTH_ADDRESS"] == "0.0.0.0"  # noqa: S104 - inside
    assert instructions("EXPOSE") == [HEALTH_PORT]
    assert f"EXPUNGE_HEALTH_PORT={HEALTH_PORT}" in DOCKERFILE
    assert SERVICES["bridge"]["healthcheck"]["test"] == ["CMD", "expunge", "healthcheck", "bridge"]
    scraped = yaml(ROOT / "deploy/prometheus.yml")["scrape_configs"]
    for job in scraped:
        (found,) = job["dns_sd_configs"]
        assert set(found["names"]) <= set(SERVICES)
        assert str(found["port"]) == HEALTH_PORT


# -- the image ------------------------------------------------------------------------------------


def test_the_image_starts_commands_that_exist():
    (entry,), (command,) = map(instructions, ("ENTRYPOINT", "CMD"))
    assert json.loads(entry) == ["expunge"]
    assert_runs(json.loads(command))
    (health,) = instructions("HEALTHCHECK")
    words = json.loads(health.partition("CMD ")[2])
    assert words[0] == "expunge"
    assert_runs(words[1:])


def test_the_image_is_built_from_the_lock_and_without_root():
    froms = instructions("FROM")
    assert len(froms) == 2
    assert len({each.split()[0] for each in froms}) == 1
    assert re.fullmatch(r"python:3\.13-slim-\w+", froms[1])
    assert "--require-hashes -r requirements/run.txt" in DOCKERFILE
    assert "compileall" in DOCKERFILE
    assert instructions("USER") == [f"{UID}:{UID}"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    for line in instructions("COPY"):
        if "--from" not in line:
            *sources, _ = line.split()
            assert all((ROOT / source).exists() for source in sources)


def test_the_image_gets_everything_that_it_copies():
    """What the build's context leaves out cannot be copied."""
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        source
        for line in instructions("COPY")
        if "--from" not in line
        for source in line.split()[:-1]
    }
    assert copied == allowed


def test_the_image_says_the_version_that_it_holds():
    project = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    assert f'image.version="{version}"' in DOCKERFILE
    assert SERVICES["worker"]["image"] == f"expunge:${{IMAGE_TAG:-{version}}}"


# -- systemd --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_exists(unit):
    (line,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
    program, *words = line.split()
    assert Path(program).name == "expunge"
    assert_runs(words)
    for wanted in ("DynamicUser=yes", "ProtectSystem=strict", "KillMode=mixed"):
        assert f"\n{wanted}\n" in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit(unit, tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        missing_part("systemd-analyze is missing (Debian: apt install systemd).")
    copy = tmp_path / unit.name
    copy.write_text(
        unit.read_text().replace("/opt/expunge/bin/expunge", os.path.realpath(sys.executable))
    )
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_unit_is_given_the_keys_and_secrets_under_their_names():
    for unit in UNITS:
        given = re.findall(r"^LoadCredential=([\w.]+):(\S+)$", unit.read_text(), re.MULTILINE)
        names = {name for name, _ in given}
        if unit.stem == "expunge-sealer":
            assert names == {"expunge_ledger_url"}
        else:
            assert {"order.key", "pseudonym.key", "expunge_ledger_url"} <= names
        assert all(path.endswith(f"/{name}") for name, path in given)
        assert ("memos_api_key" in names) == (unit.stem == "expunge-worker")


# -- monitoring -----------------------------------------------------------------------------------


def metrics() -> set[str]:
    """Names that the code gives metrics, as Prometheus sees them."""
    texts = [
        path.read_text()
        for package in ("expunge", "ledger", "producer", "worker")
        for path in (ROOT / package).rglob("*.py")
    ]
    found: set[str] = set()
    for text in texts:
        for kind, name in re.findall(
            r"(Counter|Histogram|Gauge|GaugeMetricFamily|CounterMetricFamily|_plain)"
            r"\(\s*\"(expunge_\w+)\"",
            text,
        ):
            if kind.startswith("Counter"):
                found.add(f"{name.removesuffix('_total')}_total")
            elif kind == "Histogram":
                found |= {f"{name}_{end}" for end in ("bucket", "sum", "count")}
            else:
                found.add(name)
    return found


def rules() -> list[Any]:
    return [rule for group in yaml(ROOT / "deploy/rules.yml")["groups"] for rule in group["rules"]]


def test_every_metric_that_is_watched_is_made():
    known = metrics()
    watched = {rule["alert"]: rule["expr"] for rule in rules()}
    board = json.loads((ROOT / "deploy/grafana/dashboards/expunge.json").read_text())
    watched |= {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }
    assert len(watched) > 20
    for where, expression in watched.items():
        named = set(re.findall(r"\bexpunge_\w+", expression))
        assert named, where
        assert named <= known, where


def test_every_alert_says_what_it_is_and_what_to_do():
    operations = (ROOT / "docs/operations.md").read_text()
    headings = re.findall(r"^#+ (.+)$", operations, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 7
    documented = (ROOT / "docs/containers.md").read_text()
    for rule in rules():
        notes = rule["annotations"]
        assert notes["summary"]
        file, _, anchor = notes["runbook"].partition("#")
        assert (file, anchor in anchors) == ("docs/operations.md", True), rule["alert"]
        assert f"`{rule['alert']}`" in documented
        for shown in re.findall(r"`expunge ([^`]+)`", notes["action"]):
            assert_runs(shlex.split(re.sub(r"\{\{.*?\}\}", "x", shown)))


def test_a_rule_file_and_a_dashboard_are_mounted_where_they_are_looked_for():
    prometheus = yaml(ROOT / "deploy/prometheus.yml")
    mounted = [mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]]
    assert set(prometheus["rule_files"]) <= set(mounted)
    assert f"--config.file={mounted[0]}" in SERVICES["prometheus"]["command"]
    (provider,) = yaml(ROOT / "deploy/grafana/provisioning/dashboards/expunge.yml")["providers"]
    folders = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in folders
    (source,) = yaml(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    board = json.loads((ROOT / "deploy/grafana/dashboards/expunge.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


# -- the script that makes the secrets ------------------------------------------------------------


@pytest.fixture
def make_secrets(tmp_path):
    script = tmp_path / "deploy" / SECRETS_SCRIPT.name
    script.parent.mkdir()
    shutil.copy(SECRETS_SCRIPT, script)

    def run(key):
        return subprocess.run(
            ["sh", script],  # noqa: S607 - whichever there is
            input=key,
            capture_output=True,
            text=True,
            check=False,
        )

    run.folder = script.parent / "secrets"  # type: ignore[attr-defined]
    return run


def test_secrets_are_made_once_and_never_shown(make_secrets):
    done = make_secrets("made-up-key\n")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_text().strip() for path in make_secrets.folder.iterdir()}
    assert set(files) == set(COMPOSE["secrets"])
    assert files["memos_api_key"] == "made-up-key"
    password = files["postgres_password"]
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    admin = f"postgresql://expunge:{password}@postgres:5432/expunge"
    assert files["expunge_ledger_admin_url"] == admin
    for role, name in (("app", "expunge_ledger_url"), ("sealer", "expunge_sealer_ledger_url")):
        own = rf"postgresql://expunge_{role}:[0-9a-f]{{48}}@postgres:5432/expunge"
        assert re.fullmatch(own, files[name])
    assert not any(secret in done.stdout + done.stderr for secret in files.values())
    assert make_secrets.folder.stat().st_mode & 0o777 == 0o700
    again = make_secrets("another-key\n")
    assert again.returncode == 0
    assert files == {path.name: path.read_text().strip() for path in make_secrets.folder.iterdir()}


def test_no_secret_is_made_without_a_key(make_secrets):
    assert make_secrets("\n").returncode == 2
    assert list(make_secrets.folder.iterdir()) == []


def test_secrets_belong_to_the_images_user_or_stand_in_a_closed_folder(make_secrets):
    make_secrets("made-up-key\n")
    for path in make_secrets.folder.iterdir():
        found = path.stat()
        expected = (int(UID), 0o600) if os.getuid() == 0 else (os.getuid(), 0o644)
        assert (found.st_uid, found.st_mode & 0o777) == expected
