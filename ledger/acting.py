"""What every act of a person begins with: a name, a reason, and the request's lock."""

from typing import Any, Final

from sqlalchemy import Connection, Row, select

from ledger.codes import check_code
from ledger.errors import RequestError
from ledger.schema import account, request
from ledger.views import account_of_request

__all__ = ["check_act", "check_principal", "lock_request"]

_MOST_PRINCIPAL: Final = 64


def check_principal(principal: str) -> None:
    """Refuse a name that does not fit into an event.

    Raises:
        RequestError: It is empty, longer than 64 characters, or cannot be printed.
    """
    if not 1 <= len(principal) <= _MOST_PRINCIPAL or not principal.isprintable():
        msg = f"The principal must have 1 to {_MOST_PRINCIPAL} printable characters."
        raise RequestError(msg)


def check_act(*, principal: str, reason: str) -> None:
    """Refuse a name that does not fit into an event, or a reason that is no short code.

    Raises:
        RequestError: One of them is not as it has to be.
    """
    check_code(reason, "The reason")
    check_principal(principal)


def lock_request(conn: Connection, request_id: str) -> Row[Any]:
    """Lock the account, as claims do, then the request; gives all columns of the request.

    Raises:
        NotFoundError: There is no such request.
    """
    name = account_of_request(conn, request_id)
    of_claims = select(account.c.name).where(account.c.name == name)
    conn.execute(of_claims.with_for_update(key_share=True)).all()
    return conn.execute(
        select(request).where(request.c.id == request_id).with_for_update(key_share=True)
    ).one()
