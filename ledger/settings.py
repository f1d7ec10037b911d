"""All settings, read and refused in one place; the only module that reads the environment.

Where a value comes from, the first that has it: environment, secret file, config file, default.

- Secret files: a file named like the setting in lower case (`memos_api_key`) in
  `EXPUNGE_SECRETS_DIR`, systemd's `CREDENTIALS_DIRECTORY` or `/run/secrets`, asked in this order.
- Config file: TOML, named by `EXPUNGE_CONFIG`; keys are the settings' names in lower case without
  `EXPUNGE_`, and the tables `[accounts.NAME]`, `[projects.NAME]` and `[streams.NAME]`.

`docs/settings.md` has the table of them all.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ledger.ceilings import Ceilings
from ledger.crash_points import parse_rules
from ledger.doorbell import BROKER_KEYS, BROKER_PREFIX
from ledger.errors import SettingsError
from ledger.projects import (
    DEFAULT_BASE_URL,
    DEFAULT_NAME,
    Account,
    Project,
    check_base_url,
    check_verify,
)
from ledger.setting_sources import Layers, read_layers
from ledger.streams import Stream

__all__ = [
    "SETTLE_MARGIN_SECONDS",
    "LogLevel",
    "Settings",
    "Traces",
    "environment_for",
    "environment_name",
    "load_settings",
]

# A lease must outlast the call it was taken for and the writing down of its outcome.
SETTLE_MARGIN_SECONDS: Final = 5

_DAY_S: Final = 86_400
_LEDGER_SCHEMES: Final = ("sqlite", "postgresql", "postgresql+psycopg")
_REDIS_SCHEMES: Final = ("redis", "rediss")


def _check_ledger_url(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _LEDGER_SCHEMES:
        hint = " (write postgresql://)" if scheme == "postgres" else ""
        msg = f"must begin with sqlite:/// or postgresql://{hint}"
        raise ValueError(msg)
    if scheme == "sqlite" and (not rest.startswith("/") or rest == "/" or ":memory:" in rest):
        msg = (
            "must name a file, as in sqlite:////var/lib/expunge/expunge.db: all processes share it"
        )
        raise ValueError(msg)
    return url


def _check_redis_url(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _REDIS_SCHEMES or not rest:
        hint = " (Valkey too is reached by redis://)" if scheme.startswith("valkey") else ""
        msg = f"must begin with redis:// or rediss://{hint}"
        raise ValueError(msg)
    return url


def _check_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text or not all("!" <= mark <= "~" for mark in text):
        msg = "must not be empty nor hold a blank, line break or letter that no HTTP header carries"
        raise ValueError(msg)
    return key


def _check_crash_points(rules: str) -> str:
    parse_rules(rules)
    return rules


def _home() -> Path:
    return Path.home() / ".local" / "share" / "expunge"


LedgerUrl = Annotated[str, AfterValidator(_check_ledger_url)]


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Traces(StrEnum):
    """Where spans go."""

    OFF = "off"
    OTLP = "otlp"


class Settings(BaseSettings):
    """Everything that can be set, checked. Made by `load_settings`, or with arguments in tests.

    Fields are named like the environment's names in lower case without `EXPUNGE_`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        # A validation error would otherwise print what was given, keys included.
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    memos_api_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        default=None,
        description="API key of project `default`. Workers need it, those who hand in do not",
    )
    memos_base_url: Annotated[str, AfterValidator(check_base_url)] = Field(
        default=DEFAULT_BASE_URL,
        description="Base URL of project `default`",
    )
    home: Path = Field(
        default_factory=_home, description="Directory of the ledger file and of the keys"
    )
    config: Path | None = Field(
        default=None, description="TOML file with more settings, projects and accounts"
    )
    ledger_url: LedgerUrl = Field(
        default_factory=lambda given: f"sqlite:///{given['home']}/expunge.db",
        description="The ledger: `sqlite:////path/file.db` or `postgresql://user@host/name`",
        repr=False,
    )
    ledger_admin_url: LedgerUrl | None = Field(
        default=None,
        description="The ledger as its owner sees it, for `expunge db upgrade` only",
        repr=False,
    )
    redis_url: Annotated[str, AfterValidator(_check_redis_url)] = Field(
        default="redis://127.0.0.1:6379/0",
        description="The broker, `redis://` or `rediss://`; a database for this service alone",
        repr=False,
    )
    keys_dir: Path = Field(
        default_factory=lambda given: given["home"] / "keys",
        description="Directory of the keys that `expunge keys init` makes",
    )
    audit_dir: Path = Field(
        default_factory=lambda given: given["home"] / "audit",
        description="Directory of the last checkpoint and of the public keys; never restored "
        "together with the ledger",
    )
    rate_per_second: float = Field(
        default=30,
        ge=0.1,
        le=5000,
        description="Calls a second of account `default`, over all workers; fractions allowed",
    )
    chunk_size: int = Field(
        default=100, ge=1, le=1000, description="Memory ids that one call carries"
    )
    verify: Annotated[str, AfterValidator(check_verify)] | None = Field(
        default=None,
        description="Read-back policy of requests that name none: `full`, `sample:N` or `none`. "
        "Unset: full for purges and for ids whose user is named, else `sample:50`",
    )
    max_ids_per_request: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Ids that a request may have of projects that set no ceiling of their own; "
        "more wait on hold for `expunge release`. Unset: any number",
    )
    max_purges_per_hour: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Purges that a project without a ceiling of its own may order in an hour; "
        "more wait on hold for `expunge release`. Unset: any number",
    )
    lease_seconds: float = Field(
        default=60,
        ge=6,
        le=3600,
        description="How long a worker may hold work; more than the call deadline plus 5 s",
    )
    call_deadline_seconds: float = Field(
        # A drain and its last call end well within the broker's visibility timeout of 300 s.
        default=30,
        ge=0.5,
        le=240,
        description="Longest time for one call to MemOS, in all",
    )
    max_attempts: int = Field(
        default=8, ge=1, le=100, description="Tries of a call before a person has to look"
    )
    settle_seconds: float = Field(
        default=2, ge=0, le=3600, description="Pause between a deletion and its read-back"
    )
    second_look_seconds: float = Field(
        default=86400,
        ge=0,
        le=2592000,
        description="Pause between a purge's end and its second look",
    )
    redrive_days: float = Field(
        default=14, ge=0, le=3650, description="Days after its end that a request can be redriven"
    )
    row_days: float = Field(
        default=90,
        ge=0,
        le=3650,
        description="Days after its end that the rows of a request's calls and chunks are kept, "
        "without names; not before it is scrubbed",
    )
    retention_days: float = Field(
        default=1096,
        ge=1,
        le=36500,
        description="Days that the bodies of sealed events are kept; their hashes stay",
    )
    issuer: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Who answers for certificates, such as a company's legal name"
    )
    backup_days: int | None = Field(
        default=None,
        ge=0,
        le=36500,
        description="Days that backups of the memory store are kept, for certificates. "
        "Unset: they say that it is not known",
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Processes that call MemOS. Unset: one a core, or one for every two from 300 "
        "calls/s on",
    )
    in_flight: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Calls that one process has under way at a time. Unset: as the rate asks for",
    )
    health_address: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="Address that a process's health and metrics are served at",
    )
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of `/livez`, `/readyz` and `/metrics`; 0 takes a free one. Unset: none",
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO, description="Least level of the log: `debug` to `error`"
    )
    traces: Traces = Field(
        default=Traces.OFF,
        description="`otlp` sends OpenTelemetry spans where `OTEL_EXPORTER_OTLP_ENDPOINT` says",
    )
    crash_points: Annotated[str, AfterValidator(_check_crash_points)] | None = Field(
        default=None,
        description="For tests of the service only: where a process crashes on purpose",
        repr=False,
    )
    streams: Mapping[str, Stream] = Field(default_factory=dict, exclude=True, repr=False)
    more_projects: Mapping[str, Project] = Field(default_factory=dict, exclude=True, repr=False)
    more_accounts: Mapping[str, Account] = Field(default_factory=dict, exclude=True, repr=False)

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments only: `read_layers` reads the rest, and knows where each value was."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _refuse_yes_and_no(cls, given: dict[str, Any]) -> dict[str, Any]:
        """No setting is a yes or no, and `chunk_size = true` would be taken for 1."""
        for name, value in given.items():
            if isinstance(value, bool):
                msg = f"{name} in the config file is true or false; give a number or text."
                raise ValueError(msg)  # noqa: TRY004 - pydantic turns only this into its own error
        return given

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        least = self.call_deadline_seconds + SETTLE_MARGIN_SECONDS
        if self.lease_seconds <= least:
            msg = (
                f"EXPUNGE_LEASE_SECONDS must be more than EXPUNGE_CALL_DEADLINE_SECONDS plus "
                f"{SETTLE_MARGIN_SECONDS} s, here more than {least:g}; "
                "raise the first or lower the second."
            )
            raise ValueError(msg)
        admin = self.ledger_admin_url
        if admin and admin.partition(":")[0][:6] != self.ledger_url.partition(":")[0][:6]:
            msg = (
                "EXPUNGE_LEDGER_ADMIN_URL and EXPUNGE_LEDGER_URL name different kinds of database; "
                "both must lead to the same one."
            )
            raise ValueError(msg)
        if self.second_look_seconds > self.redrive_days * _DAY_S:
            msg = (
                "EXPUNGE_SECOND_LOOK_SECONDS must not be longer than EXPUNGE_REDRIVE_DAYS: after "
                "these days nobody knows any more whom to look for; lower the first or raise the "
                "second."
            )
            raise ValueError(msg)
        self._refuse_shared_keys()
        for project in self.more_projects.values():
            if project.account not in self.accounts:
                known = ", ".join(sorted(self.accounts))
                msg = (
                    f"[projects.{project.name}] names an account that does not exist; "
                    f"known are: {known}. Add [accounts.NAME] or correct the name."
                )
                raise ValueError(msg)
        for stream in self.streams.values():
            own = stream.url in (None, self.redis_url)
            if own and (stream.name in BROKER_KEYS or stream.name.startswith(BROKER_PREFIX)):
                msg = (
                    f'[streams."{stream.name}"] has the name of a key that the doorbell uses in '
                    "EXPUNGE_REDIS_URL; give the stream another name, or a url of its own."
                )
                raise ValueError(msg)
            if stream.project not in self.projects:
                known = ", ".join(sorted(self.projects))
                msg = (
                    f'[streams."{stream.name}"] names a project that does not exist; known are: '
                    f"{known}. Add [projects.NAME] or correct the name."
                )
                raise ValueError(msg)
        return self

    def _refuse_shared_keys(self) -> None:
        """One key is one account at MemOS: under two limits of ours it would get both together."""
        seen: dict[tuple[str, str], Project] = {}
        for project in self.projects.values():
            if project.api_key is None:
                continue
            key = (project.base_url, project.api_key.get_secret_value())
            other = seen.setdefault(key, project)
            if other.account != project.account:
                msg = (
                    f"Projects {other.name} and {project.name} have the same API key but different "
                    f"accounts ({other.account}, {project.account}), so MemOS would get the calls "
                    "of both limits; give them one account."
                )
                raise ValueError(msg)

    @property
    def projects(self) -> Mapping[str, Project]:
        """All projects by name; `default` is the one of `MEMOS_API_KEY` and `MEMOS_BASE_URL`."""
        default = Project(
            name=DEFAULT_NAME,
            account=DEFAULT_NAME,
            base_url=self.memos_base_url,
            api_key=self.memos_api_key,
        )
        return MappingProxyType({DEFAULT_NAME: default, **self.more_projects})

    @property
    def accounts(self) -> Mapping[str, Account]:
        """All accounts by name; the rate of `default` is `EXPUNGE_RATE_PER_SECOND`."""
        default = Account(name=DEFAULT_NAME, rate_per_second=self.rate_per_second)
        return MappingProxyType({DEFAULT_NAME: default, **self.more_accounts})

    def ceilings_of(self, project: Project) -> Ceilings:
        """Give what a project may order without anybody looking at it."""
        ids, purges = project.max_ids_per_request, project.max_purges_per_hour
        return Ceilings(
            max_ids_per_request=self.max_ids_per_request if ids is None else ids,
            max_purges_per_hour=self.max_purges_per_hour if purges is None else purges,
        )

    def origins(self) -> dict[str, str]:
        """Tell for each field: `environment`, `secret file`, `config file` or `default`."""
        return {name: self._origins.get(name, "default") for name in setting_fields()}


def setting_fields() -> list[str]:
    """Give the names of the fields that can be set one by one, in the order of the docs."""
    return [
        name for name in Settings.model_fields if name != "streams" and not name.startswith("more_")
    ]


def environment_name(field: str) -> str:
    """Give the name in the environment, as `MEMOS_API_KEY` or `EXPUNGE_CHUNK_SIZE`."""
    return field.upper() if field.startswith("memos_") else f"EXPUNGE_{field.upper()}"


def load_settings(
    environ: Mapping[str, str] | None = None, *, run_secrets: Path = Path("/run/secrets")
) -> Settings:
    """Read all settings and refuse what cannot be meant.

    Args:
        environ: Stands in for the process's environment; None takes that one.
        run_secrets: Where containers find their secrets; read when it exists.

    Raises:
        SettingsError: A setting is out of bounds, misspelt, or contradicts another one; a named
            file cannot be read. The message names the setting and never its value.
    """
    given = os.environ if environ is None else environ
    names = {environment_name(field): field for field in setting_fields()}
    layers = read_layers(given, names=names, run_secrets=run_secrets)
    values = dict(layers.values)
    home = Path(str(values["home"])) if "home" in values else _home_of(given)
    values["home"] = home.expanduser().absolute()
    for field in ("keys_dir", "audit_dir", "config"):
        if field in values:
            values[field] = Path(str(values[field])).expanduser().absolute()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, layers)) from None
    settings._origins.update(layers.origins)  # noqa: SLF001 - its only writer, before anyone sees it
    return settings


def environment_for(settings: Settings) -> dict[str, str]:
    """Give the environment of a child process that shall run with exactly these settings.

    What else this process inherited is passed on, except other values of our names, and Celery's
    own, which would lead it to another broker.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EXPUNGE_", "MEMOS_", "CELERY_"))
    }
    for field in setting_fields():
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            passed[environment_name(field)] = str(value)
    return passed


def _home_of(environ: Mapping[str, str]) -> Path:
    if environ.get("HOME"):
        return Path(environ["HOME"]) / ".local" / "share" / "expunge"
    return _home()


def _explain(error: ValidationError, layers: Layers) -> str:
    """Say per setting what is wrong and what it may be; pydantic was told to leave values out."""
    lines = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        if fault["type"] == "default_factory_not_called":
            continue  # follows from another fault that is listed
        what = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            lines.append(what)
            continue
        field = str(fault["loc"][0])
        origin = layers.origins.get(field, "default")
        meant: Any = Settings.model_fields[field].description
        what = what.removeprefix("Input ")
        lines.append(f"{environment_name(field)} (from: {origin}) {what}. It is: {meant}.")
    return "\n".join(lines)
