"""One harmless read of each project: is its key taken, and is MemOS there?

The read lists the memories of a user who cannot exist. It takes a slot of the account in the
ledger, is recorded before it leaves, and is given up when its slot was missed.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from expunge.doctor.findings import Finding, fail, ok, warn
from expunge.probing import open_client, probe
from ledger import Ledger
from ledger.probes import ProbeRefused
from ledger.projects import Project
from memos_api import Answer, MemosClient, Outcome, list_call

__all__ = ["check_refusal", "check_reply", "probe_project"]

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
    client: Callable[[Project], MemosClient] | None = None,
) -> Finding:
    """Make the call, when it may be made, and say what it brought; takes 10 s at most.

    Args:
        ledger: Which gives the slot and keeps the record.
        project: With a key.
        principal: Who asks, for the record.
        client: Makes the client; None makes the usual one.

    Raises:
        LedgerError: The ledger did not confirm; nothing was sent, or its outcome is not recorded.
    """
    opened = (client or open_client)(project)
    return asyncio.run(_ask(ledger, project.name, principal, opened))


async def _ask(ledger: Ledger, project: str, principal: str, client: MemosClient) -> Finding:
    call = list_call(user_id=f"expunge-doctor-{secrets.token_hex(16)}", size=1)
    async with client:
        found = await probe(ledger, client, call, project=project, principal=principal)
    if isinstance(found, ProbeRefused):
        return check_refusal(project, found)
    return check_reply(project, found.answer)


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
        case Outcome.NOT_APPLIED if why == "kept_back":
            says = "MemOS can be reached, but connecting took over 0.3 s, too late for the call."
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
