"""Settings of the client, and what may never be seen of it."""

import asyncio
import logging
import traceback

import pytest

from memos_api.client import MemosClient, Reply, delete_call, list_call, read_call
from memos_api.orders import MemoryBatch, UserPurge
from memos_api.outcomes import Outcome
from memos_api.transport import tls_context
from tests.contract.memos_wire import WireServer, answer

CANARY = "canary-91c2"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "host/api",
        "ftp://host/api",
        "http://",
        "http:///api",
        f"http://user:{CANARY}@host/api",
        f"http://{CANARY}@host/api",
        f"https://host/api?key={CANARY}",
        "https://host/api?",
        "https://host/api#x",
        "http://host:port/api",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(base_url):
    with pytest.raises(ValueError, match="MEMOS_BASE_URL") as caught:
        MemosClient(base_url=base_url, api_key="key")
    assert CANARY not in "".join(traceback.format_exception(caught.value)).replace(
        repr(base_url), ""
    )
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("key", ["", f"{CANARY}\r\nX: y", f"{CANARY} x", f"{CANARY}é", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key):
    with pytest.raises(ValueError, match="MEMOS_API_KEY") as caught:
        MemosClient(base_url="https://host/api", api_key=key)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "bounds",
    [{"deadline_s": 0}, {"deadline_s": -1}, {"in_flight": 0}, {"max_body_bytes": 0}],
)
def test_bounds_have_to_be_positive(bounds):
    with pytest.raises(ValueError, match="positive"):
        MemosClient(base_url="https://host/api", api_key="key", **bounds)


def test_a_client_that_is_not_open_sends_nothing():
    async def run():
        memos = MemosClient(base_url="https://host/api", api_key="key")
        with pytest.raises(RuntimeError, match="not open"):
            await memos.send(read_call("a"))
        async with memos:
            pass
        await memos.aclose()
        with pytest.raises(RuntimeError, match="not open"):
            await memos.send(read_call("a"))

    asyncio.run(run())


def test_a_slash_at_the_end_of_the_address_changes_nothing():
    async def script(exchange):
        await exchange.send(answer())

    async def run():
        async with WireServer(script) as server:
            for end in ("", "/", "//"):
                async with MemosClient(base_url=server.base_url + end, api_key="key") as memos:
                    await memos.send(delete_call(UserPurge(user_id="u")))
            return {request.head.splitlines()[0] for request in server.requests}

    assert asyncio.run(run()) == {"POST /api/delete/memory HTTP/1.1"}


def test_certificates_and_host_names_are_checked():
    context = tls_context()
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert tls_context() is context


@pytest.mark.parametrize("outcome", ["answer", "reset", "404"])
def test_neither_logs_nor_reprs_show_keys_or_ids(caplog, outcome):
    """Logging of the HTTP libraries is at its most talkative here."""
    caplog.set_level(logging.DEBUG)
    shown = []

    async def script(exchange):
        if outcome == "reset":
            exchange.reset()
        else:
            status = "200 OK" if outcome == "answer" else "404 Not Found"
            body = b'{"message":"%s"}' % CANARY.encode()
            await exchange.send(answer(body, status=status))

    async def run():
        asyncio.get_running_loop().set_debug(True)
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key=CANARY) as memos,
        ):
            shown.append(repr(memos))
            for call in (
                delete_call(MemoryBatch(memory_ids=(CANARY,))),
                delete_call(UserPurge(user_id=CANARY)),
                list_call(("user", CANARY)),
                read_call(CANARY),
            ):
                reply = await memos.send(call)
                shown.extend([repr(call), repr(reply)])
            assert len(server.requests) == 4

    asyncio.run(run())
    shown.extend(record.getMessage() for record in caplog.records)
    shown.append(caplog.text)
    assert not [text for text in shown if CANARY in text]


def test_a_reply_tells_how_long_it_took():
    async def script(exchange):
        await asyncio.sleep(0.05)
        await exchange.send(answer())

    async def run() -> Reply:
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key="key") as memos,
        ):
            return await memos.send(delete_call(UserPurge(user_id="u")))

    reply = asyncio.run(run())
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED
    assert 0.045 < reply.seconds < 5
