"""The layers that settings come from: environment, secret files, config file."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from ledger.errors import SettingsError
from ledger.near_miss import SYNONYMS, suggest
from ledger.projects import (
    DEFAULT_BASE_URL,
    DEFAULT_NAME,
    Account,
    Dialect,
    Project,
    check_base_url,
    check_name,
    check_verify,
)
from ledger.states import Kind, Lane
from ledger.streams import Stream, check_stream_url

__all__ = ["Layers", "read_layers"]

SECRETS_DIR: Final = "EXPUNGE_SECRETS_DIR"
CONFIG: Final = "EXPUNGE_CONFIG"
_LARGEST_SECRET: Final = 65_536
_TABLES: Final = ("accounts", "projects", "streams")
_LONGEST_STREAM: Final = 200
_PLACE: Final = re.compile(r"\(at (line \d+, column \d+)\)$")
_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_LEAST_RATE: Final = 0.1
_MOST_RATE: Final = 5000
# Least value of each; what goes beyond it waits on hold.
_CEILINGS: Final = {"max_ids_per_request": 1, "max_purges_per_hour": 0}
_MOST_CEILING: Final = 1_000_000_000
_OF_DIALECT: Final = ("dialect", "cubes", "search", "missing_categories")
_MISSING: Final = ("unknown", "empty")


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What was given, the strongest layer on top, and for each field which layer that was."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


def read_layers(
    environ: Mapping[str, str], *, names: Mapping[str, str], run_secrets: Path
) -> Layers:
    """Read environment, secret files and config file.

    Args:
        environ: The environment.
        names: Each setting's name in the environment, and its field.
        run_secrets: The secrets directory that is looked into when it exists.

    Raises:
        SettingsError: A name is nearly a known one, a file cannot be read, a TOML key is unknown.
    """
    _refuse_near_misses(environ, [*names, SECRETS_DIR])
    in_environment = {
        # An empty value is how compose files and unit files say "not given".
        field: environ[name].strip()
        for name, field in names.items()
        if environ.get(name, "").strip()
    }
    secret = _read_secret_files(environ, names=names, run_secrets=run_secrets)
    config = _read_config(in_environment.get("config"), fields=set(names.values()))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in (
        ("config file", config),
        ("secret file", secret),
        ("environment", in_environment),
    ):
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    sections = {name: values.pop(name, {}) for name in _TABLES}
    where = Path(in_environment["config"]) if "config" in in_environment else Path()
    folder = where.expanduser().absolute().parent
    values["more_accounts"] = _accounts(sections["accounts"])
    values["more_projects"] = _projects(sections["projects"], folder=folder, values=values)
    values["streams"] = _streams(sections["streams"], folder=folder)
    return Layers(values=values, origins=origins)


def _refuse_near_misses(environ: Mapping[str, str], known: Iterable[str]) -> None:
    ours = list(known)
    faults = []
    for name in sorted(environ):
        if name in ours:
            continue
        meant = SYNONYMS.get(name)
        if meant and environ.get(meant):
            continue
        meant = meant or suggest(name, ours)
        if meant:
            faults.append(f"{name} in the environment is no setting; did you mean {meant}?")
    if faults:
        raise SettingsError("\n".join(faults) + " Rename or unset it.")


def _read_secret_files(
    environ: Mapping[str, str], *, names: Mapping[str, str], run_secrets: Path
) -> dict[str, str]:
    named = environ.get(SECRETS_DIR)
    if named and not Path(named).is_dir():
        msg = f"{SECRETS_DIR} names no directory that can be read; correct or unset it"
        msg += " (one that `expunge dev` made goes with it: source its `env` again)."
        raise SettingsError(msg)
    weakest_first = [run_secrets]
    if environ.get("CREDENTIALS_DIRECTORY"):
        weakest_first.append(Path(environ["CREDENTIALS_DIRECTORY"]))
    if named:
        weakest_first.append(Path(named))
    found: dict[str, str] = {}
    for folder in weakest_first:
        for name, field in names.items():
            path = folder / name.lower()
            if field != "config" and path.is_file():
                found[field] = read_secret(path, what=f"secret file {path.name}")
    return found


def read_secret(path: Path, *, what: str) -> str:
    """Give a small file's text without the blanks around it.

    Raises:
        SettingsError: It cannot be read, is not UTF-8, or holds more than 64 KiB.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_SECRET + 1)
        text = raw.decode().strip()
    except (OSError, UnicodeDecodeError):
        text = ""
        raw = b""
    if not text or len(raw) > _LARGEST_SECRET:
        msg = f"{what} cannot be read, is empty, or is no small text file; check path and rights."
        raise SettingsError(msg)
    return text


def _read_config(path: str | None, *, fields: set[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with Path(path).expanduser().open("rb") as file:
            table = tomllib.load(file)
    except OSError:
        msg = f"The file that {CONFIG} names cannot be read; check the path and its rights."
        raise SettingsError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Of the parser's message only the place: the rest can hold a piece of the file, so a key.
        place = _PLACE.search(str(error))
        where = f" at {place[1]}" if place else ""
        msg = f"The file that {CONFIG} names is no valid TOML{where}; correct it there."
        raise SettingsError(msg) from None
    allowed = (fields - {"config"}) | set(_TABLES)
    _refuse_unknown(table, allowed=allowed, where="")
    return table


def _refuse_unknown(table: Mapping[str, Any], *, allowed: set[str], where: str) -> None:
    unknown = sorted(set(table) - allowed)
    if unknown:
        name = unknown[0]
        shown = (
            f"{where}{name}" if len(name) < _LARGEST_SECRET >> 10 and name.isprintable() else where
        )
        close = suggest(f"EXPUNGE_{name}", [f"EXPUNGE_{one.upper()}" for one in sorted(allowed)])
        hint = f" did you mean {close.removeprefix('EXPUNGE_').lower()}?" if close else ""
        msg = (
            f"The config file has an unknown key: {shown};{hint} "
            f"Known here: {', '.join(sorted(allowed))}."
        )
        raise SettingsError(msg)


def _tables(table: object, *, kind: str) -> dict[str, dict[str, Any]]:
    if not isinstance(table, dict) or not all(isinstance(one, dict) for one in table.values()):
        msg = f"{kind} in the config file must be tables, written as [{kind}.NAME]."
        raise SettingsError(msg)
    return table


def _sections(table: object, *, kind: str) -> dict[str, dict[str, Any]]:
    sections = _tables(table, kind=kind)
    for name in sections:
        if name == DEFAULT_NAME:
            msg = (
                f"[{kind}.{DEFAULT_NAME}] cannot be set in the config file: `{DEFAULT_NAME}` is "
                "MEMOS_API_KEY, MEMOS_BASE_URL and EXPUNGE_RATE_PER_SECOND. Choose another name."
            )
            raise SettingsError(msg)
        try:
            check_name(name)
        except ValueError as error:
            msg = f"A name in [{kind}.NAME] of the config file {error}."
            raise SettingsError(msg) from None
    return sections


def _accounts(table: object) -> dict[str, Account]:
    accounts = {}
    for name, section in _sections(table, kind="accounts").items():
        where = f"accounts.{name}."
        _refuse_unknown(section, allowed={"rate_per_second"}, where=where)
        rate = section.get("rate_per_second")
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not number or not _LEAST_RATE <= float(rate or 0) <= _MOST_RATE:
            msg = f"{where}rate_per_second in the config file must be a number from 0.1 to 5,000."
            raise SettingsError(msg)
        accounts[name] = Account(name=name, rate_per_second=float(rate or 0))
    return accounts


def _projects(table: object, *, folder: Path, values: Mapping[str, Any]) -> dict[str, Project]:
    projects = {}
    allowed = {"account", "base_url", "api_key_file", "lane", "verify", *_CEILINGS, *_OF_DIALECT}
    for name, section in _sections(table, kind="projects").items():
        where = f"projects.{name}."
        _refuse_unknown(section, allowed=allowed, where=where)
        for key, value in section.items():
            if key in _CEILINGS:
                _check_ceiling(value, least=_CEILINGS[key], where=f"{where}{key}")
            elif key in _OF_DIALECT:
                _check_of_dialect(key, value, where=where)
            elif not isinstance(value, str) or not value:
                msg = f"{where}{key} in the config file must be text in quotes, and not empty."
                raise SettingsError(msg)
        if "base_url" not in section and "memos_base_url" in values:
            msg = (
                f"{where}base_url is missing in the config file; since MEMOS_BASE_URL is set, "
                "say which address this project is at."
            )
            raise SettingsError(msg)
        projects[name] = _project(name, section, folder=folder)
    return projects


def _check_ceiling(value: object, *, least: int, where: str) -> None:
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number or not least <= int(str(value)) <= _MOST_CEILING:
        msg = (
            f"{where} in the config file must be a whole number from {least} to {_MOST_CEILING:,}."
        )
        raise SettingsError(msg)


def _check_of_dialect(key: str, value: object, *, where: str) -> None:
    match key:
        case "dialect":
            well, must = value in list(Dialect), "`cloud` or `self_hosted`"
        case "cubes":
            well = isinstance(value, list) and bool(value)
            well = well and all(isinstance(one, str) and one for one in value)  # type: ignore[attr-defined]
            must = "a list of the names of memory cubes, not empty"
        case "search":
            well, must = isinstance(value, bool), "true or false"
        case _:
            well, must = value in _MISSING, "`unknown` or `empty`"
    if not well:
        msg = f"{where}{key} in the config file must be {must}."
        raise SettingsError(msg)


def _project(name: str, section: Mapping[str, Any], *, folder: Path) -> Project:
    where = f"projects.{name}."
    key, key_fault = None, None
    if "api_key_file" in section:
        path = folder / Path(section["api_key_file"]).expanduser()
        try:
            key = SecretStr(read_secret(path, what=f"The file of {where}api_key_file"))
        except SettingsError as error:
            key_fault = str(error)
    try:
        field = "base_url"
        base_url = check_base_url(section.get("base_url", DEFAULT_BASE_URL))
        field = "verify"
        verify = check_verify(section["verify"]) if "verify" in section else None
    except ValueError as error:
        msg = f"{where}{field} in the config file: {error}."
        raise SettingsError(msg) from None
    lane = section.get("lane")
    if lane is not None and lane not in list(Lane):
        msg = f"{where}lane in the config file is `{Lane.ERASURE}` or `{Lane.BULK}`."
        raise SettingsError(msg)
    dialect = Dialect(section.get("dialect", Dialect.CLOUD))
    cubes = tuple(section.get("cubes", ()))
    if (dialect is Dialect.SELF_HOSTED) != bool(cubes):
        msg = (
            f"{where}cubes in the config file names the memory cubes of a project whose dialect "
            "is `self_hosted`: that needs it, and no other may have it."
        )
        raise SettingsError(msg)
    if dialect is Dialect.SELF_HOSTED and "base_url" not in section:
        msg = f"{where}base_url is missing in the config file: where is this MemOS?"
        raise SettingsError(msg)
    return Project(
        name=name,
        dialect=dialect,
        cubes=cubes,
        search=section.get("search"),
        missing_is_empty=section.get("missing_categories") == "empty",
        account=section.get("account", DEFAULT_NAME),
        base_url=base_url,
        api_key=key,
        key_fault=key_fault,
        lane=Lane(lane) if lane else None,
        verify=verify,
        max_ids_per_request=section.get("max_ids_per_request"),
        max_purges_per_hour=section.get("max_purges_per_hour"),
    )


def _streams(table: object, *, folder: Path) -> dict[str, Stream]:
    streams = {}
    for name, section in _tables(table, kind="streams").items():
        if not 1 <= len(name) <= _LONGEST_STREAM or not name.isprintable():
            msg = f"A name in [streams.NAME] must have 1 to {_LONGEST_STREAM} printable characters."
            raise SettingsError(msg)
        where = f'streams."{name}".'
        allowed = {"project", "url", "url_file", "group", "kinds", "principal"}
        _refuse_unknown(section, allowed=allowed, where=where)
        kinds = section.get("kinds", list(Kind))
        if not isinstance(kinds, list) or not kinds or not set(map(str, kinds)) <= set(Kind):
            msg = f"{where}kinds in the config file is a list of {', '.join(Kind)}; not empty."
            raise SettingsError(msg)
        for key, value in section.items():
            if key != "kinds" and (not isinstance(value, str) or not value):
                msg = f"{where}{key} in the config file must be text in quotes, and not empty."
                raise SettingsError(msg)
        if "principal" in section and not _CODE.fullmatch(section["principal"]):
            msg = f"{where}principal must be a code of at most 64 letters, digits and `._:-`."
            raise SettingsError(msg)
        streams[name] = Stream(
            name=name,
            project=section.get("project", DEFAULT_NAME),
            url=_stream_url(section, where=where, folder=folder),
            group=section.get("group", "expunge"),
            kinds=frozenset(Kind(kind) for kind in kinds),
            principal=section.get("principal"),
        )
    return streams


def _stream_url(section: Mapping[str, str], *, where: str, folder: Path) -> str | None:
    if "url" in section and "url_file" in section:
        msg = f"{where}url and {where}url_file are the same thing; keep one of them."
        raise SettingsError(msg)
    url = section.get("url")
    if "url_file" in section:
        path = folder / Path(section["url_file"]).expanduser()
        url = read_secret(path, what=f"The file of {where}url_file")
    if url is not None:
        try:
            check_stream_url(f"{url}#name")
        except ValueError:
            msg = f"{where}url must be a server, as in redis://127.0.0.1:6379/0, without a stream."
            raise SettingsError(msg) from None
    return url
