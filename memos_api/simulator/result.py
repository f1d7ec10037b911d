"""An answer before it is encoded, the same for both dialects."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Result", "refusal"]

_MESSAGES = {
    40000: "bad parameters",
    40001: "requested data does not exist",
    40002: "required field is empty",
    40010: "user id is too long",
    40100: "API key required",
    40103: "API key invalid or expired",
    40132: "API key invalid, expired or of another project",
    40300: "call limit exceeded",
    40304: "total calls of the account used up",
    40305: "request too long",
    40306: "no right to delete this memory",
    40307: "memory to delete does not exist",
    40308: "user or agent does not exist",
    50000: "internal error",
    50002: "operation failed",
    50004: "memory service unavailable",
    50005: "search service unavailable",
}


@dataclass(slots=True, kw_only=True)
class Result:
    """What to answer, with what the journal wants to know.

    Attributes:
        code: Of the body; 0 is the Cloud's success, 200 the self-hosted server's.
        data: Of the body.
        message: Of the body; empty takes the Cloud's own for the code.
        http_status: None is 200, or what `errors_as_http` makes of the code.
        bodiless: Send no body at all, with `http_status`.
        kind: See `CallRecord`.
        ids: See `CallRecord`.
        applied: See `CallRecord`.
    """

    code: int = 0
    data: object = None
    message: str = ""
    http_status: int | None = None
    bodiless: bool = False
    kind: str = ""
    ids: tuple[str, ...] = ()
    applied: int = 0

    def to_json(self) -> dict[str, object]:
        """Give the envelope, which both dialects share."""
        message = "ok" if self.code == 0 else _MESSAGES.get(self.code, "failed")
        return {"code": self.code, "message": self.message or message, "data": self.data}


def refusal(
    code: int,
    *,
    kind: str = "",
    ids: tuple[str, ...] = (),
    applied: int = 0,
    http_status: int | None = None,
) -> Result:
    """Build a failing answer of the Cloud."""
    return Result(code=code, kind=kind, ids=ids, applied=applied, http_status=http_status)
