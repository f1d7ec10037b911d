"""What load_settings takes, from where, and what it refuses."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ledger.ceilings import NO_CEILINGS, Ceilings
from ledger.errors import SettingsError
from ledger.near_miss import distance, suggest
from ledger.projects import Dialect
from ledger.settings import (
    Settings,
    environment_for,
    environment_name,
    load_settings,
    setting_fields,
)
from ledger.states import Lane

CANARY = "sk-canary-5f2e"
SELF_HOSTED = "[projects.crm]\ndialect = 'self_hosted'\nbase_url = 'http://memos:8000'"
NAMES = [environment_name(field) for field in setting_fields()]
DOCS = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture
def load(tmp_path):
    """Load from nothing but what is given: no /run/secrets of this machine."""

    def loading(**environ):
        return load_settings({"HOME": str(tmp_path), **environ}, run_secrets=tmp_path / "none")

    return loading


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(load, **environ):
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    return str(caught.value)


def test_an_empty_environment_gives_the_documented_defaults(load, tmp_path):
    settings = load()
    assert settings.rate_per_second == 30
    assert settings.chunk_size == 100
    assert settings.home == tmp_path / ".local/share/expunge"
    assert settings.keys_dir == settings.home / "keys"
    assert settings.ledger_url == f"sqlite:///{settings.home}/expunge.db"
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.projects["default"].api_key is None
    assert set(settings.origins().values()) == {"default"}


def test_the_ledger_and_the_keys_follow_the_home(load):
    settings = load(EXPUNGE_HOME="/srv/expunge")
    assert settings.ledger_url == "sqlite:////srv/expunge/expunge.db"
    assert settings.keys_dir == Path("/srv/expunge/keys")


def test_environment_beats_secret_file_beats_config_file_beats_default(load, tmp_path):
    secrets = tmp_path / "secrets"
    toml = write(tmp_path / "e.toml", "chunk_size = 7\nmax_attempts = 3\nrate_per_second = 5.5\n")
    write(secrets / "expunge_chunk_size", "8\n")
    write(secrets / "expunge_max_attempts", "4\n")
    settings = load(EXPUNGE_CONFIG=toml, EXPUNGE_SECRETS_DIR=str(secrets), EXPUNGE_CHUNK_SIZE="9")
    assert (settings.chunk_size, settings.max_attempts) == (9, 4)
    assert settings.rate_per_second == 5.5
    origins = settings.origins()
    assert origins["chunk_size"] == "environment"
    assert origins["max_attempts"] == "secret file"
    assert origins["rate_per_second"] == "config file"
    assert origins["lease_seconds"] == "default"


def test_secrets_are_found_where_containers_and_systemd_put_them(tmp_path):
    run, credentials, own = (tmp_path / name for name in ("run", "credentials", "own"))
    write(run / "memos_api_key", "from-run\n")
    first = load_settings({}, run_secrets=run)
    write(credentials / "memos_api_key", "from-credentials")
    second = load_settings({"CREDENTIALS_DIRECTORY": str(credentials)}, run_secrets=run)
    write(own / "memos_api_key", "from-own")
    third = load_settings(
        {"CREDENTIALS_DIRECTORY": str(credentials), "EXPUNGE_SECRETS_DIR": str(own)},
        run_secrets=run,
    )
    keys = [one.projects["default"].api_key for one in (first, second, third)]
    assert keys == [SecretStr("from-run"), SecretStr("from-credentials"), SecretStr("from-own")]


def test_an_empty_value_counts_as_not_given(load):
    assert load(EXPUNGE_CHUNK_SIZE="", MEMOS_API_KEY=" ").chunk_size == 100


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EXPUNGE_RATE_PER_SECONDS", "EXPUNGE_RATE_PER_SECOND"),
        ("EXPUNGE_RATE", "EXPUNGE_RATE_PER_SECOND"),
        ("EXPUNGE_RATE_PER_MINUTE", "EXPUNGE_RATE_PER_SECOND"),
        ("EXPUNGE_LEASE", "EXPUNGE_LEASE_SECONDS"),
        ("EXPUNGE_LEASE_MS", "EXPUNGE_LEASE_SECONDS"),
        ("EXPUNGE_CALL_DEADLINE", "EXPUNGE_CALL_DEADLINE_SECONDS"),
        ("EXPUNGE_CHUNKSIZE", "EXPUNGE_CHUNK_SIZE"),
        ("EXPUNGE_CHUNK_SIEZ", "EXPUNGE_CHUNK_SIZE"),
        ("expunge_chunk_size", "EXPUNGE_CHUNK_SIZE"),
        ("EXPUNGE-CHUNK-SIZE", "EXPUNGE_CHUNK_SIZE"),
        ("EXPUNG_CHUNK_SIZE", "EXPUNGE_CHUNK_SIZE"),
        ("EXPUNGE_REDIS_URI", "EXPUNGE_REDIS_URL"),
        ("EXPUNGE_LEGDER_URL", "EXPUNGE_LEDGER_URL"),
        ("EXPUNGE_SECRET_DIR", "EXPUNGE_SECRETS_DIR"),
        ("EXPUNGE_KEY_DIR", "EXPUNGE_KEYS_DIR"),
        ("EXPUNGE_VERIFI", "EXPUNGE_VERIFY"),
        ("MEMOS_APIKEY", "MEMOS_API_KEY"),
        ("MEMO_API_KEY", "MEMOS_API_KEY"),
        ("MEMOS_BASEURL", "MEMOS_BASE_URL"),
        ("MEMOS_URL", "MEMOS_BASE_URL"),
        ("MEMOS_TOKEN", "MEMOS_API_KEY"),
    ],
)
def test_a_near_miss_in_the_environment_is_refused_with_a_suggestion(load, name, meant):
    message = refusal(load, **{name: CANARY})
    assert name in message
    assert f"did you mean {meant}?" in message
    assert CANARY not in message


@pytest.mark.parametrize(
    "name",
    [
        "EXPUNGE_PORT",
        "EXPUNGE_PORT_6379_TCP",
        "EXPUNGE_PORT_6379_TCP_ADDR",
        "EXPUNGE_SERVICE_HOST",
        "EXPUNGE_SERVICE_PORT",
        "EXPUNGE_REDIS_PORT",
        "EXPUNGE_REDIS_SERVICE_HOST",
        "EXPUNGE_WORKER_IMAGE",
        "EXPUNGE_HOST",
        "EXPUNGE_VERSION",
        "MEMOS_USER_ID",
        "MEMOS_CHANNEL",
        "HOME",
        "REDIS_URL",
    ],
)
def test_names_that_an_orchestrator_sets_are_left_alone(load, name, tmp_path):
    assert load(**{name: str(tmp_path)}).chunk_size == 100


def test_another_programs_name_for_the_key_is_no_fault_once_ours_is_set(load):
    settings = load(MEMOS_TOKEN="other", MEMOS_API_KEY="ours")
    assert settings.projects["default"].api_key == SecretStr("ours")


def test_no_known_name_is_a_near_miss_of_another():
    for name in NAMES:
        assert suggest(name, [other for other in NAMES if other != name]) is None


@given(st.text("ABCD", max_size=7), st.text("ABCD", max_size=7))
def test_distance_counts_alike_from_both_sides(left, right):
    assert distance(left, right, most=9) == distance(right, left, most=9)
    assert (distance(left, right, most=0) == 0) == (left == right)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPUNGE_RATE_PER_SECOND", "0"),
        ("EXPUNGE_RATE_PER_SECOND", "0.09"),
        ("EXPUNGE_RATE_PER_SECOND", "5000.1"),
        ("EXPUNGE_RATE_PER_SECOND", "nan"),
        ("EXPUNGE_RATE_PER_SECOND", "inf"),
        ("EXPUNGE_RATE_PER_SECOND", "many"),
        ("EXPUNGE_CHUNK_SIZE", "0"),
        ("EXPUNGE_CHUNK_SIZE", "1001"),
        ("EXPUNGE_CHUNK_SIZE", "2.5"),
        ("EXPUNGE_MAX_ATTEMPTS", "0"),
        ("EXPUNGE_PROCESSES", "0"),
        ("EXPUNGE_IN_FLIGHT", "-1"),
        ("EXPUNGE_VERIFY", "sample"),
        ("EXPUNGE_VERIFY", "sample:0"),
        ("EXPUNGE_VERIFY", "Full"),
        ("EXPUNGE_LEDGER_URL", "postgres://u:canary@h/d"),
        ("EXPUNGE_LEDGER_URL", "mysql://u:canary@h/d"),
        ("EXPUNGE_LEDGER_URL", "expunge.db"),
        ("EXPUNGE_LEDGER_URL", "sqlite://"),
        ("EXPUNGE_LEDGER_URL", "sqlite:///:memory:"),
        ("EXPUNGE_REDIS_URL", "valkey://:canary@h/0"),
        ("EXPUNGE_REDIS_URL", "localhost:6379"),
        ("MEMOS_BASE_URL", "memos.example/api"),
        ("MEMOS_BASE_URL", "ftp://memos.example/api"),
        ("MEMOS_BASE_URL", "https://u:canary@memos.example/api"),
        ("MEMOS_BASE_URL", "https://memos.example:port/api"),
        ("MEMOS_API_KEY", "canary key"),
        ("MEMOS_API_KEY", "canary\nX-Header: 1"),
        ("MEMOS_API_KEY", "canäry"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name_and_never_shown(load, name, value):
    message = refusal(load, **{name: value})
    assert name in message
    assert "canary" not in message
    assert "canäry" not in message


def test_a_lease_that_ends_before_the_call_can_is_refused(load):
    assert "more than 35" in refusal(load, EXPUNGE_LEASE_SECONDS="35")
    assert load(EXPUNGE_LEASE_SECONDS="35.5").lease_seconds == 35.5
    assert "more than 95" in refusal(load, EXPUNGE_CALL_DEADLINE_SECONDS="90")


def test_an_owners_url_to_another_kind_of_database_is_refused(load):
    message = refusal(load, EXPUNGE_LEDGER_ADMIN_URL="postgresql://owner@db/x")
    assert "EXPUNGE_LEDGER_ADMIN_URL" in message
    assert load(
        EXPUNGE_LEDGER_URL="postgresql+psycopg://app@db/x",
        EXPUNGE_LEDGER_ADMIN_URL="postgresql://owner@db/x",
    ).ledger_admin_url


def test_a_second_look_after_everybody_forgot_whom_to_look_for_is_refused(load):
    message = refusal(load, EXPUNGE_REDRIVE_DAYS="1", EXPUNGE_SECOND_LOOK_SECONDS="86401")
    assert "EXPUNGE_SECOND_LOOK_SECONDS" in message
    assert "EXPUNGE_REDRIVE_DAYS" in message
    assert load(EXPUNGE_REDRIVE_DAYS="1", EXPUNGE_SECOND_LOOK_SECONDS="86400")
    assert load(EXPUNGE_REDRIVE_DAYS="0", EXPUNGE_SECOND_LOOK_SECONDS="0")


@pytest.mark.parametrize(
    ("account", "base_url", "refused"),
    [
        ("beta", "https://memos.example/v1", True),
        ("beta", "https://elsewhere.example/v1", False),
        ("default", "https://memos.example/v1", False),
    ],
)
def test_one_api_key_under_two_limits_is_refused(load, tmp_path, account, base_url, refused):
    (tmp_path / "crm.key").write_text("canary-key")
    config = tmp_path / "expunge.toml"
    write(
        config,
        "[accounts.beta]\nrate_per_second = 1\n[projects.crm]\n"
        f'account = "{account}"\nbase_url = "{base_url}"\napi_key_file = "crm.key"\n',
    )
    environ = {
        "EXPUNGE_CONFIG": str(config),
        "MEMOS_API_KEY": "canary-key",
        "MEMOS_BASE_URL": "https://memos.example/v1",
    }
    if refused:
        message = refusal(load, **environ)
        assert "same API key" in message
        assert "canary" not in message
    else:
        assert load(**environ).projects["crm"].account == account


@pytest.mark.parametrize("name", ["expunge", "expunge:bell", "unacked", "_kombu.binding.x"])
def test_a_stream_named_like_a_key_of_the_doorbell_is_refused(load, tmp_path, name):
    config = tmp_path / "expunge.toml"
    write(config, f'[streams."{name}"]\n')
    assert "the doorbell uses" in refusal(load, EXPUNGE_CONFIG=str(config))
    write(config, f'[streams."{name}"]\nurl = "redis://elsewhere/0"\n')
    assert name in load(EXPUNGE_CONFIG=str(config)).streams


TWO_PROJECTS = """
rate_per_second = 12

[accounts.beta]
rate_per_second = 0.5

[projects.crm]
account = "beta"
base_url = "https://memos.example/api/openmem/v1/"
api_key_file = "crm.key"
lane = "bulk"
verify = "sample:9"

[projects.shop]
"""


def test_the_config_file_brings_more_projects_and_accounts(load, tmp_path):
    write(tmp_path / "conf" / "crm.key", CANARY + "\n")
    settings = load(EXPUNGE_CONFIG=write(tmp_path / "conf" / "e.toml", TWO_PROJECTS))
    crm = settings.projects["crm"]
    assert (crm.account, crm.lane, crm.verify) == ("beta", Lane.BULK, "sample:9")
    assert crm.base_url == "https://memos.example/api/openmem/v1"
    assert crm.api_key == SecretStr(CANARY)
    assert settings.projects["shop"].account == "default"
    assert {name: one.rate_per_second for name, one in settings.accounts.items()} == {
        "default": 12,
        "beta": 0.5,
    }
    assert CANARY not in repr(settings)
    assert CANARY not in repr(settings.projects)


def test_a_project_without_ceilings_of_its_own_has_those_of_all(load, tmp_path):
    toml = "[projects.crm]\nmax_ids_per_request = 7\n[projects.shop]\nmax_purges_per_hour = 0\n"
    settings = load(
        EXPUNGE_CONFIG=write(tmp_path / "e.toml", toml),
        EXPUNGE_MAX_IDS_PER_REQUEST="100",
        EXPUNGE_MAX_PURGES_PER_HOUR="9",
    )
    assert {name: settings.ceilings_of(one) for name, one in settings.projects.items()} == {
        "default": Ceilings(max_ids_per_request=100, max_purges_per_hour=9),
        "crm": Ceilings(max_ids_per_request=7, max_purges_per_hour=9),
        "shop": Ceilings(max_ids_per_request=100, max_purges_per_hour=0),
    }
    plain = load()
    assert plain.ceilings_of(plain.projects["default"]) == NO_CEILINGS


def test_a_project_says_which_contract_its_memos_speaks(load, tmp_path):
    toml = f"{SELF_HOSTED}\ncubes = ['one', 'two']\nsearch = false\nmissing_categories = 'empty'\n"
    toml += "[projects.shop]\ndialect = 'cloud'\nsearch = true\nmissing_categories = 'unknown'\n"
    toml += "[projects.plain]"
    projects = load(EXPUNGE_CONFIG=write(tmp_path / "e.toml", toml)).projects
    said = {
        name: (one.dialect, one.cubes, one.search, one.missing_is_empty)
        for name, one in projects.items()
    }
    assert said == {
        "crm": (Dialect.SELF_HOSTED, ("one", "two"), False, True),
        "shop": (Dialect.CLOUD, (), True, False),
        "plain": (Dialect.CLOUD, (), None, False),
        "default": (Dialect.CLOUD, (), None, False),
    }
    assert projects["crm"].base_url == "http://memos:8000"


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("rate_per_secnd = 3", "did you mean rate_per_second?"),
        ("flavour = 3", "flavour"),
        ("config = 'x'", "config"),
        ("chunk_size = true", "chunk_size"),
        ("chunk_size = 5000", "EXPUNGE_CHUNK_SIZE (from: config file)"),
        ("chunk_size = ", "valid TOML"),
        ("accounts = 3", "[accounts.NAME]"),
        ("[accounts.beta]", "accounts.beta.rate_per_second"),
        ("[accounts.beta]\nrate_per_second = true", "accounts.beta.rate_per_second"),
        ("[accounts.beta]\nrate_per_second = 0.01", "accounts.beta.rate_per_second"),
        ("[accounts.beta]\nrate_per_second = nan", "accounts.beta.rate_per_second"),
        ("[accounts.beta]\nrate = 3", "accounts.beta.rate;"),
        ("[accounts.default]\nrate_per_second = 3", "EXPUNGE_RATE_PER_SECOND"),
        ("[projects.default]", "MEMOS_API_KEY"),
        ("[projects.'a b']", "[projects.NAME]"),
        ("[projects.crm]\naccount = 'gamma'", "[projects.crm]"),
        ("[projects.crm]\nacount = 'default'", "projects.crm.acount"),
        ("[projects.crm]\nbase_url = 'nowhere'", "projects.crm.base_url"),
        ("[projects.crm]\nlane = 'fast'", "projects.crm.lane"),
        ("[projects.crm]\nverify = 'yes'", "projects.crm.verify"),
        ("[projects.crm]\nverify = 3", "projects.crm.verify"),
        ("[projects.crm]\nmax_ids_per_request = 0", "projects.crm.max_ids_per_request"),
        ("[projects.crm]\nmax_ids_per_request = '9'", "projects.crm.max_ids_per_request"),
        ("[projects.crm]\nmax_purges_per_hour = -1", "projects.crm.max_purges_per_hour"),
        ("[projects.crm]\nmax_purges_per_hour = true", "projects.crm.max_purges_per_hour"),
        ("[projects.crm]\nmax_purges_per_hour = 1.5", "projects.crm.max_purges_per_hour"),
        ("[projects.crm]\nmax_purges = 1", "projects.crm.max_purges;"),
        ("[projects.crm]\ndialect = 'Cloud'", "projects.crm.dialect"),
        ("[projects.crm]\ndialect = 'self-hosted'", "projects.crm.dialect"),
        ("[projects.crm]\ndialect = ''", "projects.crm.dialect"),
        ("[projects.crm]\ndialect = 3", "projects.crm.dialect"),
        ("[projects.crm]\ndialect = ['cloud']", "projects.crm.dialect"),
        ("[projects.crm]\ndialect = {cloud = 1}", "projects.crm.dialect"),
        ("[projects.crm]\ncubes = []", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = 'one'", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = ['']", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = ['one', 2]", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = [['one']]", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = {one = 1}", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = true", "projects.crm.cubes"),
        ("[projects.crm]\nsearch = 'yes'", "projects.crm.search"),
        ("[projects.crm]\nsearch = 1", "projects.crm.search"),
        ("[projects.crm]\nsearch = []", "projects.crm.search"),
        ("[projects.crm]\nmissing_categories = 'gone'", "projects.crm.missing_categories"),
        ("[projects.crm]\nmissing_categories = true", "projects.crm.missing_categories"),
        ("[projects.crm]\nmissing_categories = ['empty']", "projects.crm.missing_categories"),
        ("[projects.crm]\nmising_categories = 'empty'", "projects.crm.mising_categories"),
        # Which cubes, is asked of a self-hosted MemOS and of no other.
        (f"{SELF_HOSTED}\n", "projects.crm.cubes"),
        ("[projects.crm]\ncubes = ['one']", "projects.crm.cubes"),
        ("[projects.crm]\ndialect = 'cloud'\ncubes = ['one']", "projects.crm.cubes"),
        # The Cloud's address is no place for the key of another MemOS.
        (
            "[projects.crm]\ndialect = 'self_hosted'\ncubes = ['one']",
            "projects.crm.base_url",
        ),
        ("[streams.s]\nproject = 'gone'", '[streams."s"]'),
        ("[streams.s]\nkinds = []", 'streams."s".kinds'),
        ("[streams.s]\nkinds = ['everything']", 'streams."s".kinds'),
        ("[streams.s]\nkinds = 'user'", 'streams."s".kinds'),
        ("[streams.s]\nprincipal = 'a b'", 'streams."s".principal'),
        ("[streams.s]\ngroup = ''", 'streams."s".group'),
        ("[streams.s]\nurl = 'http://h'", 'streams."s".url'),
        ("[streams.s]\nurl = 'redis://h'\nurl_file = 'u'", 'streams."s".url_file'),
        ("[streams.s]\nurl_file = 'gone'", 'streams."s".url_file'),
        ("[streams.s]\nprojct = 'default'", 'streams."s".projct'),
        ("[streams]\ns = 3", "[streams.NAME]"),
        ("[streams.'']", "[streams.NAME]"),
    ],
)
def test_a_config_file_with_a_fault_is_refused_by_its_place(load, tmp_path, toml, named):
    assert named in refusal(load, EXPUNGE_CONFIG=write(tmp_path / "e.toml", toml))


def test_a_broken_config_file_is_not_quoted_but_its_place_is_told(load, tmp_path):
    path = write(tmp_path / "e.toml", f"chunk_size = 5\nmemos_api_key = {CANARY}")
    said = refusal(load, EXPUNGE_CONFIG=path)
    assert CANARY not in said
    assert "line 2, column" in said


def test_a_key_file_that_cannot_be_read_is_a_fault_for_those_who_call_memos_only(load, tmp_path):
    path = write(tmp_path / "e.toml", "[projects.crm]\napi_key_file = 'gone.key'")
    project = load(EXPUNGE_CONFIG=path).projects["crm"]
    assert project.api_key is None
    assert "projects.crm.api_key_file" in project.key_fault


@pytest.mark.parametrize("name", ["EXPUNGE_CONFIG", "EXPUNGE_SECRETS_DIR"])
def test_a_named_file_or_directory_that_is_not_there_is_refused(load, tmp_path, name):
    assert name in refusal(load, **{name: str(tmp_path / "gone")})


def test_a_project_without_address_next_to_a_changed_one_is_refused(load, tmp_path):
    """Else the key of one MemOS could be sent to another one."""
    toml = write(tmp_path / "e.toml", "[projects.crm]")
    message = refusal(load, EXPUNGE_CONFIG=toml, MEMOS_BASE_URL="https://memos.example/v1")
    assert "projects.crm.base_url" in message


def test_settings_cannot_be_changed_and_show_no_secret(load):
    settings = load(
        MEMOS_API_KEY=CANARY,
        EXPUNGE_REDIS_URL=f"redis://:{CANARY}@h/0",
        EXPUNGE_LEDGER_URL=f"postgresql://u:{CANARY}@h/d",
    )
    with pytest.raises(ValueError, match="frozen"):
        settings.chunk_size = 3
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)


def test_not_even_a_validation_error_shows_what_was_given():
    for wrong in ({"memos_api_key": f"{CANARY} x"}, {"chunk_size": CANARY}, {"redis_url": CANARY}):
        with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
            Settings.model_validate(wrong)
        assert CANARY not in str(caught.value)


def test_a_child_process_reads_exactly_the_settings_it_was_given(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_CHUNK_SIZE", "11")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/0")
    settings = Settings(home=tmp_path, memos_api_key=SecretStr("k"), processes=3, lease_seconds=61)
    environ = environment_for(settings)
    child = load_settings(environ, run_secrets=tmp_path / "none")
    assert child.model_dump() == settings.model_dump()
    assert "CELERY_BROKER_URL" not in environ
    assert environ["PATH"]


def documented_row(field):
    info = Settings.model_fields[field]
    bounds = [
        f"{word} {limit}"
        for word, mark in (("from", "ge"), ("to", "le"))
        if (limit := next((getattr(m, mark) for m in info.metadata if hasattr(m, mark)), None))
        is not None
    ]
    default = info.default if info.default_factory is None else "see below"
    shown = "none" if default is None else str(default)
    return (
        f"| `{environment_name(field)}` | {shown} | {' '.join(bounds) or 'any'} "
        f"| {info.description} |"
    )


@pytest.mark.parametrize("field", setting_fields())
def test_every_setting_has_its_true_line_in_the_documents(field):
    assert documented_row(field) in DOCS.read_text().splitlines()


def test_the_documents_name_no_setting_that_does_not_exist():
    rows = re.findall(r"^\| `((?:EXPUNGE|MEMOS)_[A-Z_]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted([*NAMES, "EXPUNGE_SECRETS_DIR"])
