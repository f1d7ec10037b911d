"""Harmless reads of each project: is its key taken, which MemOS is there, and can it prove absence?

They list the memories of a user who cannot exist, and read an id that cannot; where somebody names
a memory that is there, that one too, for a MemOS that never finds anything. Each takes a slot of
the account in the ledger, is recorded before it leaves, and is given up when its slot was missed.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from expunge.doctor.findings import Finding, fail, ok, warn
from expunge.probing import open_client, probe
from ledger import Ledger
from ledger.probes import ProbeRefused
from ledger.projects import Dialect, Project
from memos_api import Answer, MemosClient, Outcome, Owner, Sight

__all__ = ["check_refusal", "check_reply", "check_there", "probe_project"]

_WELL: Final = frozenset({Outcome.ACKNOWLEDGED, Outcome.NOT_FOUND})
# The Cloud's answer for a path that it does not have.
_WRONG_PATH: Final = "code_50000"
_NO_ANSWER: Final = frozenset({"deadline", "no_answer"})
_WRONG_ADDRESS: Final = frozenset(
    {
        "http_404",
        "http_405",
        "http_410",
        "redirect",
        "malformed",
        "html",
        "not_json",
        "not_object",
        "no_code",
    }
)


def probe_project(
    ledger: Ledger,
    project: Project,
    *,
    principal: str,
    there: str | None = None,
    client: Callable[[Project], MemosClient] | None = None,
) -> Finding:
    """Make the calls, when they may be made, and say what they brought; takes 20 s at most.

    First the list of nobody. If something else than MemOS seems to answer, the same in the other
    dialect; if all is well, a read of an id that cannot exist, where reads by id count, and of the
    one that is there.

    Args:
        ledger: Which gives the slots and keeps the record.
        project: With a key.
        principal: Who asks, for the record.
        there: A memory id that somebody knows to be there; None looks for none.
        client: Makes the client; None makes the usual one.

    Raises:
        LedgerError: The ledger did not confirm; nothing was sent, or its outcome is not recorded.
    """
    opened = client or open_client
    look = partial(_look, ledger, principal=principal, opened=opened)
    found = asyncio.run(look(project))
    if isinstance(found, ProbeRefused):
        return check_refusal(project.name, found)
    if found.reason in _WRONG_ADDRESS | {_WRONG_PATH}:
        other = asyncio.run(look(_in_other_dialect(project)))
        if isinstance(other, Answer) and other.outcome in _WELL:
            return _other_answers(project)
    if found.outcome in _WELL and project.dialect is Dialect.CLOUD:
        nothing = f"expunge-doctor-{secrets.token_hex(16)}"
        read = asyncio.run(_read(ledger, project, nothing, principal=principal, opened=opened))
        if read is not Sight.ABSENT and not isinstance(read, ProbeRefused):
            return _reads_prove_nothing(project.name)
    if found.outcome in _WELL and there is not None:
        read = asyncio.run(_read(ledger, project, there, principal=principal, opened=opened))
        return check_there(project.name, read)
    return check_reply(project.name, found)


async def _look(
    ledger: Ledger, project: Project, *, principal: str, opened: Callable[[Project], MemosClient]
) -> Answer | ProbeRefused:
    nobody: Owner = ("user", f"expunge-doctor-{secrets.token_hex(16)}")
    async with opened(project) as client:
        call = client.dialect.look(nobody, leg=client.dialect.legs(None)[0], page=1)
        found = await probe(ledger, client, call, project=project.name, principal=principal)
    return found if isinstance(found, ProbeRefused) else found.answer


async def _read(
    ledger: Ledger,
    project: Project,
    memory_id: str,
    *,
    principal: str,
    opened: Callable[[Project], MemosClient],
) -> Sight | ProbeRefused | None:
    async with opened(project) as client:
        call = client.dialect.read(memory_id)
        found = await probe(ledger, client, call, project=project.name, principal=principal)
    return found if isinstance(found, ProbeRefused) else found.sight


def _in_other_dialect(project: Project) -> Project:
    """Give the project as it would be if its MemOS were of the other kind, at the same host."""
    parts = urlsplit(project.base_url)
    root = f"{parts.scheme}://{parts.netloc}"
    if project.dialect is Dialect.CLOUD:
        return replace(project, dialect=Dialect.SELF_HOSTED, base_url=root, cubes=("default",))
    return replace(project, dialect=Dialect.CLOUD, base_url=f"{root}/api/openmem/v1", cubes=())


def _other_answers(project: Project) -> Finding:
    check, name = f"memos {project.name}", project.name
    if project.dialect is Dialect.CLOUD:
        return fail(
            check,
            "A self-hosted MemOS answers there, and not the Cloud.",
            fix=f'Describe it in EXPUNGE_CONFIG: [projects.NAME], dialect = "{Dialect.SELF_HOSTED}"'
            ", base_url without a path, and cubes.",
        )
    return fail(
        check,
        "The Cloud's interface answers there, and not a self-hosted MemOS.",
        fix=f"Take dialect and cubes out of [projects.{name}], and correct its base_url.",
    )


def _reads_prove_nothing(name: str) -> Finding:
    return warn(
        f"memos {name}",
        "MemOS answers, but does not say of an id that cannot exist that it is not there: what is "
        "read back by id would stay unverifiable.",
        fix="Name the user with the ids (--user), so that the user's list is read instead.",
    )


def check_there(name: str, read: Sight | ProbeRefused | None) -> Finding:
    """Say what it means how a memory was read that is there."""
    check = f"memos {name}"
    if isinstance(read, ProbeRefused):
        return check_refusal(name, read)
    if read is Sight.PRESENT:
        return ok(check, "MemOS answers, takes the key, and shows the memory that is there.")
    if read is Sight.ABSENT:
        return fail(
            check,
            "MemOS says of the memory that should be there that it is not: unless it is gone, or "
            "another project's, reads by id prove nothing there.",
            fix="Make sure of the id. If it is right, name the user with the ids (--user), so that "
            "the user's list is read instead.",
        )
    return warn(
        check,
        "MemOS answers, but not whether the memory that should be there is there.",
        fix="Run `expunge doctor` again.",
    )


def check_refusal(name: str, refused: ProbeRefused) -> Finding:
    """Say why MemOS was not asked."""
    check = f"memos {name}"
    match refused.reason:
        case "project_paused":
            return fail(
                check,
                f"Not asked: the project is paused ({refused.why}).",
                fix=f"Mend its key or address, then run: expunge resume {name}",
            )
        case "account_paused":
            return fail(
                check,
                f"Not asked: its account is paused ({refused.why}).",
                fix="`expunge pauses` shows which; then run: expunge resume --account NAME",
            )
        case "project_rests" | "account_rests":
            what = "project" if refused.reason == "project_rests" else "account"
            why = f" ({refused.why})" if refused.why else ""
            return warn(
                check,
                f"Not asked: the {what} rests for {refused.wait_s or 0:.0f} s more{why}.",
                fix="Run `expunge doctor` again then.",
            )
        case "unknown_project":
            return warn(
                check,
                "Not asked: the ledger does not know the project yet.",
                fix="Start `expunge worker` with these settings, which makes it known.",
            )
        case _:
            return warn(
                check,
                "Not asked: no slot of the account's rate was free within 5 s.",
                fix="Run `expunge doctor` again, or with --offline.",
            )


def check_reply(name: str, answer: Answer) -> Finding:
    """Say what MemOS's answer means for whoever runs this."""
    check = f"memos {name}"
    why = answer.reason
    address = "MEMOS_BASE_URL" if name == "default" else f"projects.{name}.base_url"
    key = "MEMOS_API_KEY" if name == "default" else f"projects.{name}.api_key_file"
    match answer.outcome:
        case Outcome.ACKNOWLEDGED | Outcome.NOT_FOUND:
            return ok(check, "MemOS answers, and takes the key.")
        case Outcome.BACK_OFF:
            says = f"MemOS says that the account is over its rate ({why})."
            fix = "Lower EXPUNGE_RATE_PER_SECOND, or find out who else uses the account."
            return warn(check, says, fix=fix)
        case Outcome.PAUSE_ACCOUNT:
            says, fix = f"The account's quota is used up ({why}).", "Raise it at MemOS."
        case Outcome.PAUSE_PROJECT if why not in _WRONG_ADDRESS:
            says, fix = f"MemOS refuses the key ({why}).", f"Correct {key}."
        case Outcome.NOT_APPLIED if why == "slot_missed":
            says = "MemOS can be reached, but connecting took over 0.2 s, too late for the call."
            fix = "Try again; if it stays so, look at the network between here and MemOS."
            return warn(check, says, fix=fix)
        case _ if answer.outcome is Outcome.NOT_APPLIED or why in _NO_ANSWER:
            says = f"MemOS cannot be reached ({why})."
            fix = f"Check {address}, DNS, firewall and certificate."
        case _ if why in _WRONG_ADDRESS:
            says = f"Something else than MemOS answers ({why})."
            fix = f"Correct {address}: it ends in the version, as in …/api/openmem/v1."
        case _:
            says = f"MemOS gives no usable answer ({why})."
            fix = f"Try again; if it stays so, check {address}, and MemOS itself."
            return warn(check, says, fix=fix)
    return fail(check, says, fix=fix)
