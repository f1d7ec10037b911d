"""Files: keys, secrets, and the disk that a SQLite ledger lies on."""

import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from expunge.doctor.findings import Finding, fail, failed, ok, warn
from ledger.errors import KeysError
from ledger.host import NETWORK, file_system_of
from ledger.keys import KEY_FILES, Keys

__all__ = [
    "MOUNTS",
    "check_disk",
    "check_file_system",
    "check_keys",
    "check_ledger_file",
    "check_secret_files",
    "secret_files",
]

MOUNTS: Final = Path("/proc/self/mounts")
_MEBIBYTE: Final = 1 << 20
# A claim's transaction needs next to nothing, but the log that SQLite writes ahead can grow.
_LEAST_FREE: Final = 100 * _MEBIBYTE
_LITTLE_FREE: Final = 1024 * _MEBIBYTE
# What a virtual machine sees of its host: fine while only one of the two writes.
_OF_THE_HOST: Final = frozenset({"9p", "virtiofs"})


def check_keys(folder: Path) -> list[Finding]:
    """Are the keys there, whole, and nobody else's to read or to change?"""
    try:
        Keys.load(folder)
    except KeysError as error:
        return [failed("keys", error)]
    names = (*KEY_FILES, "signing.key.next", *_epochs(folder))
    found = []
    if read := [name for name in names if _is_open(folder / name)]:
        found.append(
            fail(
                "keys",
                f"Every user can read {', '.join(read)} in {folder}: who has them can forge "
                "orders.",
                fix=f"chmod 600 {folder}/*.key",
            )
        )
    return found + _changeable(folder, names) or [_all_well(folder)]


def _changeable(folder: Path, names: Iterable[str]) -> list[Finding]:
    """Say who else can put keys of their own in the place of these, by which they could order.

    In a folder that others can write to they can put other files in the place of these, whatever
    the files' own modes are. A group may be meant, as for reading, so that is no failure.
    """
    places = [(folder / name, name) for name in names] + [(folder, "the folder itself")]
    every, group = (
        [says for path, says in places if _is_writable(path, folder, *bits)]
        for bits in ((stat.S_IWOTH, stat.S_IXOTH), (stat.S_IWGRP, stat.S_IXGRP))
    )
    fix = f"chmod go-w {folder} {folder}/*.key"
    end = f"in {folder}: who puts other keys there can forge orders."
    if every:
        return [fail("keys", f"Every user can change {', '.join(every)} {end}", fix=fix)]
    if group:
        return [warn("keys", f"A whole group can change {', '.join(group)} {end}", fix=fix)]
    return []


def _is_writable(path: Path, folder: Path, write: int, enter: int) -> bool:
    try:
        # Where secrets are mounted for containers modes are wide, and nobody can write.
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return False
        return bool(path.stat().st_mode & write and folder.stat().st_mode & enter)
    except OSError:
        return False


def _all_well(folder: Path) -> Finding:
    missing = [name for name in KEY_FILES if not (folder / name).exists()]
    if missing:
        # Workers and bridges do without the signing key, and need not have it.
        return ok("keys", f"The keys to carry out orders are in {folder}, {missing[0]} is not.")
    return ok("keys", f"All {len(KEY_FILES)} keys are in {folder}.")


def _epochs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("subjects.*.key"))


def check_secret_files(paths: Iterable[Path]) -> list[Finding]:
    """Can others read what only we should?"""
    found = list(paths)
    return [
        warn("secret files", f"Every user can read {path}.", fix=f"chmod 600 {path}")
        for path in found
        if _is_open(path)
    ] or [ok("secret files", "None can be read by everybody.") for _ in found[:1]]


def secret_files(config: Path | None, folder: Path | None) -> list[Path]:
    """Give the files that hold secrets.

    Args:
        config: The file of EXPUNGE_CONFIG, which the settings were read from already; it may name
            some, or hold one itself.
        folder: The directory of EXPUNGE_SECRETS_DIR. What containers and systemd hand over is
            theirs to guard.
    """
    found = [] if folder is None else [path for path in folder.iterdir() if path.is_file()]
    return found if config is None else found + _named_by(config)


def _named_by(config: Path) -> list[Path]:
    with config.open("rb") as file:
        table = tomllib.load(file)
    found = [
        config.parent / Path(section[key]).expanduser()
        for kind, key in (("projects", "api_key_file"), ("streams", "url_file"))
        for section in table.get(kind, {}).values()
        if key in section
    ]
    urls = [str(value) for name, value in table.items() if name.endswith("_url")]
    urls += [str(section.get("url", "")) for section in table.get("streams", {}).values()]
    if "memos_api_key" in table or any(urlsplit(url).password for url in urls):
        found.append(config)
    return found


def check_ledger_file(file: Path) -> list[Finding]:
    """Can others read a SQLite ledger, and with it whose memories are deleted?"""
    if not _is_open(file):
        return []
    return [
        warn(
            "ledger file",
            f"Every user can read {file}, which holds user ids.",
            fix=f"chmod 600 {file}*",
        )
    ]


def check_disk(folder: Path, free_bytes: int) -> Finding:
    """Is there room for the ledger to grow?"""
    says = f"{free_bytes // _MEBIBYTE:,} MiB are free in {folder}."
    fix = "Make room, or move the ledger: without space nothing is recorded, so nothing is sent."
    if free_bytes < _LEAST_FREE:
        return fail("disk", says, fix=fix)
    if free_bytes < _LITTLE_FREE:
        return warn("disk", says, fix=fix)
    return ok("disk", says)


def check_file_system(folder: Path, mounts: str) -> list[Finding]:
    """Does a SQLite ledger lie where its locks hold?

    Args:
        folder: The ledger's, absolute.
        mounts: The text of `/proc/self/mounts`; empty where there is none.
    """
    kind = file_system_of(folder, mounts)
    fix = "Move it to a local disk, or use PostgreSQL (EXPUNGE_LEDGER_URL)."
    if kind in NETWORK:
        return [
            fail(
                "file system",
                f"The ledger's folder {folder} is on a network file system ({kind}), where "
                "SQLite's locks do not hold: nothing starts.",
                fix=fix,
            )
        ]
    if kind in _OF_THE_HOST:
        return [
            warn(
                "file system",
                f"The ledger's folder {folder} is one of the machine that this one runs on "
                f"({kind}), where SQLite's locks may not hold.",
                fix=fix,
            )
        ]
    return []


def _is_open(path: Path) -> bool:
    """Whether every user can read a file; one that is not there is nobody's to read.

    A group may be meant: Kubernetes and systemd give secrets to one.
    """
    try:
        mode, of_folder = path.stat().st_mode, path.parent.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IROTH and of_folder & stat.S_IXOTH)
