"""What the client makes of servers that misbehave, on real sockets.

The one rule behind all: what may have been sent is *unknown*, never *not applied*, and nothing is
ever sent a second time.
"""

import asyncio
import contextlib
import gzip
import time

import pytest

from memos_api.client import MemosClient, delete_call, list_call, read_call
from memos_api.orders import MemoryBatch, UserPurge
from memos_api.outcomes import Outcome
from memos_api.readback import Sight
from tests.contract.memos_wire import OK_BODY, WireServer, answer

DELETE = delete_call(MemoryBatch(memory_ids=("a", "b")))
READ = read_call("a")
LIST = list_call(("user", "u"))
DEADLINE_S = 0.4


def client(server, **options):
    options = {"api_key": "key", "deadline_s": 5.0, **options}
    return MemosClient(base_url=server.base_url, **options)


def send_to(script, call=DELETE, **options):
    """Send one call to a server with this script; give the reply and the server."""

    async def run():
        async with WireServer(script) as server, client(server, **options) as memos:
            return await memos.send(call), server

    return asyncio.run(run())


async def says_ok(exchange):
    await exchange.send(answer())


async def resets(exchange):
    exchange.reset()


async def hangs_up(exchange):
    exchange.hang_up()


async def never_answers(exchange):
    await asyncio.Event().wait()


async def says_garbage(exchange):
    await exchange.send(b"I am no web server\r\n\r\n")
    exchange.hang_up()


async def breaks_off_in_the_head(exchange):
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.hang_up()


async def breaks_off_in_the_body(exchange):
    await exchange.send(answer(OK_BODY[:10], length=len(OK_BODY)))
    exchange.hang_up()


async def breaks_off_after_a_whole_looking_body(exchange):
    await exchange.send(answer(length=len(OK_BODY) + 1))
    exchange.hang_up()


async def breaks_off_in_a_chunk(exchange):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await exchange.send(head + b"%x\r\n" % len(OK_BODY) + OK_BODY + b"\r\n")
    exchange.hang_up()


async def resets_in_the_body(exchange):
    await exchange.send(answer(OK_BODY[:10], length=len(OK_BODY)))
    await asyncio.sleep(0.05)  # a reset takes back what the other side has not read yet
    exchange.reset()


async def sends_endless_headers(exchange):
    await exchange.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n")
    exchange.hang_up()


@pytest.mark.fault("F52", "F53", "F70")
@pytest.mark.parametrize("call", [DELETE, READ, LIST], ids=lambda call: call.kind)
@pytest.mark.parametrize(
    "script",
    [
        resets,
        hangs_up,
        says_garbage,
        breaks_off_in_the_head,
        breaks_off_in_the_body,
        breaks_off_after_a_whole_looking_body,
        breaks_off_in_a_chunk,
        resets_in_the_body,
        sends_endless_headers,
    ],
    ids=lambda script: script.__name__,
)
def test_a_sent_call_without_a_usable_answer_is_unknown_and_not_sent_again(script, call):
    reply, server = send_to(script, call)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "no_answer")
    assert reply.answer.http_status is None
    assert reply.sight is (Sight.UNKNOWN if call.kind == "read" else None)
    assert reply.listing is None
    assert len(server.requests) == 1


@pytest.mark.fault("F56")
@pytest.mark.parametrize("end", [resets, hangs_up], ids=lambda end: end.__name__)
@pytest.mark.parametrize("call", [DELETE, READ, LIST], ids=lambda call: call.kind)
def test_a_kept_alive_connection_that_breaks_at_reuse_is_not_tried_again(call, end):
    """HTTP libraries like to send a GET again here; but a second departure needs a second slot."""

    async def script(exchange):
        await (says_ok if exchange.number == 0 else end)(exchange)

    async def run():
        async with WireServer(script) as server, client(server) as memos:
            first = await memos.send(DELETE)
            second = await memos.send(call)
            return first, second, server

    first, second, server = asyncio.run(run())
    assert first.answer.outcome is Outcome.ACKNOWLEDGED
    assert second.answer.outcome is Outcome.UNKNOWN
    assert [request.connection for request in server.requests] == [0, 0]


@pytest.mark.fault("F56")
def test_a_transport_that_sends_again_is_stopped_before_the_second_sending():
    """As the test before, with the transport's own switch turned back on by a later version."""

    async def script(exchange):
        await (says_ok if exchange.number == 0 else resets)(exchange)

    async def run():
        async with WireServer(script) as server, client(server) as memos:
            memos._transport.client._retry_connection = True
            await memos.send(READ)
            return await memos.send(READ), server

    reply, server = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "resend_refused")
    assert len(server.requests) == 2


@pytest.mark.fault("F56")
def test_a_connection_closed_while_idle_costs_nothing():
    async def script(exchange):
        await exchange.send(answer())
        exchange.hang_up()

    async def run():
        async with WireServer(script) as server, client(server) as memos:
            replies = []
            for _ in range(3):
                replies.append(await memos.send(DELETE))
                await server.closed.wait()
                await asyncio.sleep(0.02)  # until the FIN has come through the kernel
            return replies, server

    replies, server = asyncio.run(run())
    assert {reply.answer.outcome for reply in replies} == {Outcome.ACKNOWLEDGED}
    assert server.connections == 3


async def sends_headers_then_stalls(exchange):
    await exchange.send(answer(b"", length=50))
    await asyncio.Event().wait()


async def drips(exchange):
    await exchange.send(answer(b"", length=1_000_000))
    while True:
        await exchange.send(b" ")
        await asyncio.sleep(0.01)


@pytest.mark.fault("F54", "F55")
@pytest.mark.parametrize(
    "script",
    [never_answers, sends_headers_then_stalls, drips],
    ids=lambda script: script.__name__,
)
def test_the_deadline_holds_to_the_last_byte_of_the_body(script):
    started = time.monotonic()
    reply, server = send_to(script, deadline_s=DEADLINE_S)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "deadline")
    assert DEADLINE_S * 0.9 < time.monotonic() - started < DEADLINE_S + 2
    assert len(server.requests) == 1


@pytest.mark.fault("F55")
def test_a_dripping_answer_is_ended_within_a_tenth_of_the_deadline():
    deadline_s = 1.0
    took = [send_to(drips, deadline_s=deadline_s)[0].seconds for _ in range(3)]
    assert deadline_s * 0.99 < min(took) < deadline_s * 1.1  # the least: the machine is busy too


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_a_server_that_does_not_read_the_body_does_not_outlast_the_deadline():
    async def run():
        async def deaf(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(b"", length=50))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            writer.transport.abort()

        listener = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=10_000)
        port = listener.sockets[0].getsockname()[1]
        large = delete_call(MemoryBatch(memory_ids=("x" * 30_000_000,)))
        async with MemosClient(
            base_url=f"http://127.0.0.1:{port}", api_key="key", deadline_s=DEADLINE_S
        ) as memos:
            reply = await memos.send(large)
        listener.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return reply

    started = time.monotonic()
    reply = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "deadline")
    assert time.monotonic() - started < DEADLINE_S + 3


@pytest.mark.fault("F73")
def test_a_body_over_the_cap_is_cut_off_where_it_is():
    sent = 0

    async def script(exchange):
        nonlocal sent
        await exchange.send(answer(b"", length=10**12))
        while not exchange.writer.is_closing():
            await exchange.send(b" " * 65_536)
            sent += 65_536
            await asyncio.sleep(0)

    reply, _ = send_to(script, max_body_bytes=200_000)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "body_over_cap")
    assert sent < 50_000_000


def test_a_body_of_exactly_the_cap_is_read():
    reply, _ = send_to(says_ok, max_body_bytes=len(OK_BODY))
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED


@pytest.mark.fault("F73")
@pytest.mark.parametrize("body", [gzip.compress(OK_BODY), OK_BODY], ids=["packed", "plain"])
def test_a_content_encoding_is_unknown_and_never_unpacked(body):
    async def script(exchange):
        await exchange.send(answer(body, headers="Content-Encoding: gzip\r\n"))

    reply, server = send_to(script)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "content_encoding")
    assert "accept-encoding: identity" in server.requests[0].head.lower()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_a_redirect_is_not_followed_not_even_to_the_same_host(status):
    async def script(exchange):
        await exchange.send(answer(b"", status=status, headers="Location: /elsewhere\r\n"))

    reply, server = send_to(script)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.PAUSE_PROJECT, "redirect")
    assert len(server.requests) == 1


@pytest.mark.fault("F74")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
@pytest.mark.parametrize("call", [DELETE, READ, LIST], ids=lambda call: call.kind)
def test_a_redirect_takes_neither_call_nor_key_to_another_host(status, call):
    async def run():
        async with WireServer(says_ok) as stranger:

            async def script(exchange):
                to = f"Location: {stranger.base_url}/delete/memory\r\n"
                await exchange.send(answer(b"", status=status, headers=to))

            async with WireServer(script) as server, client(server) as memos:
                reply = await memos.send(call)
            return reply, stranger.connections, len(server.requests)

    reply, strangers, requests = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.PAUSE_PROJECT, "redirect")
    assert (strangers, requests) == (0, 1)


@pytest.mark.fault("F58", "F59")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ("Retry-After: 7\r\n", 7.0),
        ("Retry-After: 1000000000\r\n", 3600.0),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0.0),
        # Its clock is years off; by its own it asks for nine seconds.
        (
            (
                "Date: Sun, 06 Nov 1994 08:49:28 GMT\r\n"
                "Retry-After: Sunday, 06-Nov-94 08:49:37 GMT\r\n"
            ),
            9.0,
        ),
        ("", None),
        ("Retry-After:\r\n", None),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: 1e9\r\n", None),
        ("Retry-After: abc\r\n", None),
        ("Retry-After: 5\r\nRetry-After: 10\r\n", None),  # two wishes are none
    ],
    ids=range(10),
)
def test_a_429_backs_off_whatever_its_retry_after_says(headers, seconds):
    async def script(exchange):
        await exchange.send(answer(b"{}", status="429 Too Many Requests", headers=headers))

    reply, server = send_to(script)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.BACK_OFF, "http_429")
    assert reply.answer.retry_after_s == seconds
    assert len(server.requests) == 1


@pytest.mark.fault("F75")
def test_an_answer_about_another_memory_is_believed_by_no_read():
    """Of deletions and lists MemOS does not say whose they are: there the read-back decides."""

    async def script(exchange):
        other = b'{"code":0,"message":"ok","data":{"id":"b","status":"deleted"}}'
        await exchange.send(answer(other))

    reply, _ = send_to(script, READ)
    assert (reply.answer.outcome, reply.sight) == (Outcome.UNKNOWN, Sight.UNKNOWN)


def test_cookies_are_not_sent_back():
    async def script(exchange):
        await exchange.send(answer(headers="Set-Cookie: session=1; Path=/\r\n"))

    async def run():
        async with WireServer(script) as server, client(server) as memos:
            for call in (DELETE, READ):
                await memos.send(call)
            return server

    server = asyncio.run(run())
    assert len(server.requests) == 2
    assert not [request for request in server.requests if "cookie" in request.head.lower()]


def test_proxies_and_logins_of_the_environment_are_not_used(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stranger password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    reply, server = send_to(says_ok)
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED
    assert "authorization: token key" in server.requests[0].head.lower()
    assert "basic" not in server.requests[0].head.lower()


def test_the_key_is_in_one_header_and_nowhere_else():
    _, server = send_to(says_ok, api_key="canary-key")
    request = server.requests[0]
    lines = [line for line in request.head.splitlines() if "canary-key" in line]
    assert [line.lower() for line in lines] == ["authorization: token canary-key"]
    assert b"canary-key" not in request.body


def test_ids_arrive_byte_for_byte():
    ids = ("plain", "'\"\\", "é", "e\u0301", " space ", "😀", "\u202e", "a/b?c#d", "\x00", "null")

    async def run():
        async with WireServer(says_ok) as server, client(server) as memos:
            await memos.send(delete_call(MemoryBatch(memory_ids=ids)))
            await memos.send(delete_call(UserPurge(user_id=ids[3])))
            return server

    server = asyncio.run(run())
    for memory_id in ("é", "e\u0301", " space ", "😀", "\u202e", "a/b?c#d"):
        assert b'"' + memory_id.encode() + b'"' in server.requests[0].body
    assert server.requests[1].body == b'{"user_id":"e\xcc\x81"}'


@pytest.mark.fault("F65")
@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_a_missing_path_stops_the_project_for_a_deletion_but_not_for_a_read(status):
    """A by-id address may be missing because the id is."""

    async def script(exchange):
        await exchange.send(answer(b'{"detail":"Not Found"}', status=status))

    deleted, _ = send_to(script, DELETE)
    listed, _ = send_to(script, LIST)
    read, _ = send_to(script, READ)
    assert deleted.answer.outcome is listed.answer.outcome is Outcome.PAUSE_PROJECT
    assert (read.answer.outcome, read.sight) == (Outcome.UNKNOWN, Sight.UNKNOWN)


@pytest.mark.parametrize("call", [LIST, READ], ids=lambda call: call.kind)
@pytest.mark.parametrize("body", [OK_BODY, b'{"code":0,"data":null}', b'{"code":0}'])
def test_an_ok_that_shows_nothing_is_unknown(call, body):
    async def script(exchange):
        await exchange.send(answer(body))

    reply, _ = send_to(script, call)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.UNKNOWN, "malformed")
    assert reply.listing is None


@pytest.mark.parametrize("memory_id", [".", ".."])
def test_an_id_that_no_path_can_name_is_answered_without_a_call(memory_id):
    reply, server = send_to(says_ok, read_call(memory_id))
    assert (reply.answer.outcome, reply.sight) == (Outcome.REFUSED, Sight.UNKNOWN)
    assert reply.answer.reason == "id_not_addressable"
    assert not server.requests


def test_a_cancelled_call_passes_the_cancellation_on_and_leaves_the_client_usable():
    async def script(exchange):
        await (never_answers if exchange.number == 0 else says_ok)(exchange)

    async def run():
        async with WireServer(script) as server, client(server, in_flight=1) as memos:
            task = asyncio.create_task(memos.send(DELETE))
            await server.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await memos.send(DELETE)

    assert asyncio.run(run()).answer.outcome is Outcome.ACKNOWLEDGED


def test_calls_side_by_side_keep_their_own_outcomes():
    async def script(exchange):
        await (resets if b"doomed" in exchange.body else says_ok)(exchange)

    async def run():
        async with WireServer(script) as server, client(server, in_flight=8) as memos:
            names = ["doomed" if number % 5 == 0 else "fine" for number in range(100)]
            calls = [delete_call(MemoryBatch(memory_ids=(name,))) for name in names]
            replies = await asyncio.gather(*(memos.send(call) for call in calls))
            return names, replies, server

    names, replies, server = asyncio.run(run())
    expected = {"doomed": Outcome.UNKNOWN, "fine": Outcome.ACKNOWLEDGED}
    assert [reply.answer.outcome for reply in replies] == [expected[name] for name in names]
    assert len(server.requests) == 100


def test_connections_are_kept_alive_and_no_more_than_allowed():
    async def run():
        async with WireServer(says_ok) as server, client(server, in_flight=4) as memos:
            for _ in range(5):
                await asyncio.gather(*(memos.send(DELETE) for _ in range(8)))
            return server

    server = asyncio.run(run())
    assert len(server.requests) == 40
    assert server.connections <= 4
