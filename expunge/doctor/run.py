"""The doctor from the first check to the last."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from expunge.doctor.audit_checks import check_audit_files, check_keys_apart, check_log
from expunge.doctor.files import (
    MOUNTS,
    check_disk,
    check_file_system,
    check_keys,
    check_ledger_file,
    check_secret_files,
    secret_files,
)
from expunge.doctor.findings import Finding, Late, fail, failed, ok, unexpected, warn, within
from expunge.doctor.ledger_checks import (
    check_clock,
    check_requests,
    check_standstills,
    check_workers,
)
from expunge.doctor.ledger_facts import LedgerFacts, read_facts
from expunge.doctor.memos import probe_project
from expunge.doctor.redis_facts import (
    check_redis,
    check_stream,
    connect,
    read_redis,
    read_stream,
    unreachable,
)
from ledger import Keys, Ledger
from ledger.audit.published import Published
from ledger.engine import Database
from ledger.errors import ExpungeError, KeysError, SettingsError
from ledger.fitting import are_own_keys
from ledger.in_force import epoch_fault
from ledger.macs import Macs
from ledger.migrate import check_schema
from ledger.projects import Project
from ledger.settings import Settings, load_settings

if TYPE_CHECKING:
    from ledger.streams import Stream

__all__ = ["examine"]

# What may hang gets so long; a project's call brings its own bounds.
_PATIENCE_S: Final = 5.0
_PROBE_S: Final = 20.0
_EPOCH_FIX: Final = (
    "Bring the newest subjects.N.key from where it was made; if it is lost: expunge keys new-epoch."
)


def examine(
    *,
    offline: bool,
    principal: str,
    secrets_dir: Path | None = None,
    there: tuple[str, str] | None = None,
) -> Iterator[Finding]:
    """Look at one thing after the other; what cannot be looked at without another is left out.

    Args:
        offline: Do not call MemOS.
        principal: Who asks, for the record of those calls.
        secrets_dir: The directory of EXPUNGE_SECRETS_DIR.
        there: A project, and the id of a memory that somebody knows to be there.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        yield fail("settings", str(error), fix="Correct it; nothing starts until then.")
        return
    yield _origins(settings)
    yield from check_keys(settings.keys_dir)
    yield from _guarded("secret files", lambda: _secrets(settings, secrets_dir))
    yield from _guarded("redis", lambda: list(_redis(settings)))
    yield from _guarded("audit files", lambda: check_audit_files(settings.audit_dir))
    database = make_url(settings.ledger_url)
    if database.get_backend_name() == "sqlite":
        path = Path(database.database or "")
        yield from _guarded(
            "keys apart",
            lambda: check_keys_apart(path, settings.keys_dir, settings.audit_dir),
        )
        if not path.exists():
            yield fail("ledger", f"There is no ledger at {path} yet.", fix="expunge db upgrade")
            return
        yield from _guarded("disk", lambda: _disk(path))
    facts: list[LedgerFacts] = []
    yield from _guarded("ledger", lambda: _ledger(settings, facts))
    for fact in facts:
        yield from check_clock("PostgreSQL", fact.skew_s)
        yield from check_workers(fact, version("expunge"))
        yield from check_standstills(fact.pauses)
        yield from check_requests(fact)
        yield from _guarded("record", partial(_log, settings, fact))
    if facts:
        yield from _memos(settings, offline=offline, principal=principal, there=there)


def _guarded(
    check: str, look: Callable[[], list[Finding]], *, seconds: float = _PATIENCE_S
) -> list[Finding]:
    """Look, for so long at most; whatever goes wrong is a finding."""
    try:
        return within(seconds, look)
    except Late:
        return [
            fail(
                check,
                f"No answer within {seconds:g} s.",
                fix="See whether its server is up and can be reached from here.",
            )
        ]
    except ExpungeError as error:
        return [failed(check, error)]
    except Exception as error:  # noqa: BLE001 - the other checks go on
        return [unexpected(check, error)]


def _origins(settings: Settings) -> Finding:
    counted = Counter(settings.origins().values())
    default = counted.pop("default", 0)
    given = ", ".join(f"{counted[origin]} from {origin}" for origin in sorted(counted))
    says = f"{given}, {default} by default." if given else "All are by default."
    return ok("settings", f"{says} `expunge config show` lists them.")


def _secrets(settings: Settings, folder: Path | None) -> list[Finding]:
    return check_secret_files(secret_files(settings.config, folder))


def _disk(file: Path) -> list[Finding]:
    mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    folder = file.parent
    free = shutil.disk_usage(folder).free
    return [
        *check_ledger_file(file),
        check_disk(folder, free),
        *check_file_system(folder.resolve(), mounts),
    ]


def _ledger(settings: Settings, facts: list[LedgerFacts]) -> list[Finding]:
    """Look into the ledger; what it says goes to *facts*."""
    with closing(Database(settings.ledger_url)) as database:
        check_schema(database)
        facts.append(read_facts(database))
        found = _other_keys(database, settings.keys_dir)
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    return [ok("ledger", f"The {kind} ledger answers, and its schema is this release's."), *found]


def _log(settings: Settings, fact: LedgerFacts) -> list[Finding]:
    with closing(Database(settings.ledger_url)) as database:
        return check_log(database, Published(settings.audit_dir), fact.beats)


def _other_keys(database: Database, folder: Path) -> list[Finding]:
    try:
        macs = Macs(Keys.load(folder))
    except KeysError:
        return []  # `check_keys` has said so
    if database.read(lambda conn: are_own_keys(conn, macs)) is not False:
        fault = database.read(lambda conn: epoch_fault(conn, macs.epoch))
        return [] if fault is None else [fail("pseudonym key", fault, fix=_EPOCH_FIX)]
    return [
        fail(
            "keys of the ledger",
            "order.key or pseudonym.key is not this ledger's own: nothing is handed in or carried "
            "out with them.",
            fix="Put the ledger's own keys into EXPUNGE_KEYS_DIR, or correct EXPUNGE_LEDGER_URL; "
            "if its own are lost: expunge keys adopt --help.",
        )
    ]


def _redis(settings: Settings) -> Iterator[Finding]:
    servers: dict[str, list[Stream]] = {settings.redis_url: []}
    for stream in settings.streams.values():
        servers.setdefault(stream.url or settings.redis_url, []).append(stream)
    for url, streams in servers.items():
        own = url == settings.redis_url
        setting = "EXPUNGE_REDIS_URL" if own else f'streams."{streams[0].name}"'
        try:
            with connect(url) as client:
                facts = read_redis(client)
                yield from check_redis(facts, streams=bool(streams))
                yield from check_clock("Redis", facts.skew_s)
                for stream in streams:
                    yield check_stream(stream, read_stream(client, stream))
        except RedisError as error:
            yield unreachable(setting, error)


def _memos(
    settings: Settings, *, offline: bool, principal: str, there: tuple[str, str] | None
) -> Iterator[Finding]:
    tried = []
    for project in settings.projects.values():
        if project.api_key is None:
            yield warn(
                f"memos {project.name}",
                project.key_fault
                or "There is no key for this project here, so workers here make no call for it.",
                fix="Give one, unless this machine only hands requests in.",
            )
        else:
            tried.append(project)
    if offline:
        return
    for project in tried:
        yield from _guarded(
            f"memos {project.name}",
            partial(_probe, settings, project, principal, there),
            seconds=_PROBE_S,
        )


def _probe(
    settings: Settings, project: Project, principal: str, there: tuple[str, str] | None
) -> list[Finding]:
    known = there[1] if there is not None and there[0] == project.name else None
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        ledger.register(
            projects={name: one.account for name, one in settings.projects.items()},
            rates={name: one.rate_per_second for name, one in settings.accounts.items()},
        )
        return [probe_project(ledger, project, principal=principal, there=known)]
