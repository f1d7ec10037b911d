"""What a claim hands to a worker, and what the worker hands back. Plain frozen values."""

from dataclasses import dataclass
from typing import Literal

from ledger.states import Kind, Sight
from ledger.walks import Walk

__all__ = [
    "Claim",
    "Dead",
    "Delivered",
    "Move",
    "Page",
    "Probe",
    "Retry",
    "Seen",
    "Settlement",
    "Split",
    "Task",
    "Unsent",
]


@dataclass(frozen=True, kw_only=True, repr=False)
class Task:
    """One call to make at its slot.

    Attributes:
        claim: Id of the claim, and `place` in it: the name of the attempt.
        slot_ns: When it may depart, on the ledger's clock.
        call: `delete` a chunk, `list` a page of the subject's memories, or `read` one memory.
        fence: Token that every later write about it must carry.
        burnt: Calls before this one that count against the limit of attempts.
        doubtful: An earlier call may have been applied.
        sightings: How often a read-back found something of the chunk still there.
        claimed_ns: The ledger's clock at the claim: what was stopped since must not depart.
        strikes: Rests in a row that the account had before.
        trial: It goes alone, to see whether MemOS is back; failing again uses up no attempt.
        probe: The read is to settle a doubt, not to verify.
        ids: The chunk's ids, or the one id to read; empty for purges and lists, and once the call
            that carries them is prepared.
        n: How many ids that are or were.
        walk: Of a list: what its pages so far have shown; None before the first.
        cutoff_us: Of a purge's list: what was made later than this is not part of the order; None
            when it is.
        leftover: It deletes what a purge left behind; the purge's list decides what became of it.
        control: The list is of nobody: it is read to see whether the store answers at all.
        second_look: The list is read long after the purge has ended.
    """

    claim: str
    place: int
    slot_ns: int
    account: str
    project: str
    request_id: str
    generation: int
    kind: Kind
    call: Literal["delete", "list", "read"]
    chunk_id: int | None
    readback_id: int | None
    fence: int
    burnt: int
    doubtful: bool
    sightings: int
    subject: str | None
    ids: tuple[str, ...]
    claimed_ns: int = 0
    strikes: int = 0
    trial: bool = False
    probe: bool = False
    walk: Walk | None = None
    cutoff_us: int | None = None
    leftover: bool = False
    control: bool = False
    second_look: bool = False
    n: int = -1

    def __post_init__(self) -> None:
        """Count the ids."""
        if self.n < 0:
            object.__setattr__(self, "n", len(self.ids))

    def without_ids(self) -> "Task":
        """Give the same without the ids, of which `n` says how many there are."""
        # Not `replace`, which takes ten times as long: a claim has hundreds.
        bare = object.__new__(Task)
        bare.__dict__.update(self.__dict__, ids=())
        return bare

    def __repr__(self) -> str:
        """Show the attempt's name, never an id."""
        return f"Task(claim={self.claim!r}, place={self.place}, call={self.call!r})"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one claim brought.

    Attributes:
        tasks: Calls to make, by slot.
        now_ns: The ledger's clock at the claim, and `mono_ns`, this process's
            `time.monotonic_ns()` at the same moment: slots are turned into local time with them.
        wake_ns: Nanoseconds from now until a further claim may bring something; None when nothing
            is known to be waiting.
        tampered: Ids of requests of which something is not what was ordered; they are stopped.
        leeway: Accounts whose calls in it may depart 100 ms late (`ledger.slots`).
    """

    tasks: tuple[Task, ...]
    now_ns: int
    mono_ns: int
    wake_ns: int | None
    tampered: tuple[str, ...] = ()
    leeway: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """MemOS took the chunk (`was_absent`: it said that it knew none of it)."""

    was_absent: bool = False


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Due again after `delay_s`; `burn` says whether the call counts against the attempts."""

    delay_s: float
    burn: bool
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class Split:
    """Send the chunk's halves instead; `hunt`: for in it is an id that MemOS does not take."""

    hunt: bool = True


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Read a few of its ids before anything else: an earlier call may have been applied."""


@dataclass(frozen=True, kw_only=True)
class Dead:
    """No further call, unless a read-back shows otherwise: its ids are counted as `bucket`.

    Read back first where the request is read back at all: what was refused may be gone all the
    same. Then a dead letter until somebody redrives or discards it.
    """

    bucket: Literal["refused", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Unsent:
    """Nothing departed (its slot was missed, a halt, a worker that stops): due again at once."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A read-back is over: `sight`, and of a list the walk."""

    sight: Sight
    walk: Walk | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a list was read whole and there is another: the walk as it goes on."""

    walk: Walk


Move = Delivered | Retry | Split | Probe | Dead | Unsent | Seen | Page


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What is to be recorded of one task.

    Attributes:
        outcome: Word for what happened, such as `acknowledged` or `unknown`.
        reason: Constant slug, such as `http_503`; never text of MemOS.
        took_us: Microseconds from departure to the end of the answer.
        pause_account_s: Stop all traffic of the account for so long.
        pause_project: Stop the project until an operator resumes it, for this reason.
        outage: MemOS could not be reached or was not able to answer: counts for the breaker.
    """

    task: Task
    move: Move
    outcome: str
    reason: str
    code: int | None = None
    http_status: int | None = None
    took_us: int = 0
    pause_account_s: float | None = None
    pause_project: str | None = None
    outage: bool = False
