"""*Surely not applied* is said only of calls that never had a connection."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import sys
import threading
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from memos_api.client import MemosClient, delete_call, read_call
from memos_api.departure import Departure, KeptBackError
from memos_api.orders import MemoryBatch
from memos_api.outcomes import Outcome
from memos_api.readback import Sight
from tests.contract.memos_wire import WireServer, answer

DELETE = delete_call(MemoryBatch(memory_ids=("a",)))
DEADLINE_S = 0.4


def send(base_url, call=DELETE, **options):
    async def run():
        options.setdefault("deadline_s", 5.0)
        async with MemosClient(base_url=base_url, api_key="key", **options) as memos:
            return await memos.send(call)

    return asyncio.run(run())


@pytest.fixture
def closed_port():
    with socket.socket() as bound:  # bound but not listening: nobody else gets it meanwhile
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.fault("F50")
@pytest.mark.parametrize("call", [DELETE, read_call("a")], ids=lambda call: call.kind)
def test_a_refused_connection_is_not_applied(closed_port, call):
    reply = send(f"http://127.0.0.1:{closed_port}/api", call)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect")
    assert reply.sight is (Sight.UNKNOWN if call.kind == "read" else None)


@pytest.mark.parametrize("call", [DELETE, read_call("a")], ids=lambda call: call.kind)
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_call_that_is_kept_back_sends_not_a_byte_and_closes_its_connection(call, calls_before):
    """On a connection of its own as on one that was kept; a later call has another one."""

    async def script(exchange):
        await exchange.send(answer())

    async def leaves():
        raise KeptBackError("why")

    async def run():
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key="key", deadline_s=5.0) as memos,
        ):
            for _ in range(calls_before):
                await memos.send(DELETE)
            kept = await memos.send(call, leaves=leaves)
            await asyncio.wait_for(server.closed.wait(), 5)
            assert (len(server.requests), server.connections) == (calls_before, 1)
            sent = await memos.send(DELETE)
            assert (len(server.requests), server.connections) == (calls_before + 1, 2)
        return kept, sent

    kept, sent = asyncio.run(run())
    assert (kept.answer.outcome, kept.answer.reason) == (Outcome.NOT_APPLIED, "why")
    assert sent.answer.outcome is Outcome.ACKNOWLEDGED


@pytest.mark.parametrize("call", [DELETE, read_call("a")])
def test_the_wait_for_a_slot_is_no_part_of_what_a_call_took(call):
    async def script(exchange):
        await exchange.send(answer())

    async def leaves():
        await asyncio.sleep(0.3)

    async def run():
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key="key", deadline_s=5.0) as memos,
        ):
            return await memos.send(call, leaves=leaves)

    assert asyncio.run(run()).seconds < 0.3


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="aiohttp writes a body at once there")
def test_a_body_departs_a_turn_of_the_loop_after_the_headers_were_put_together(monkeypatch):
    """Whatever comes in between makes it late, so that is looked at afterwards."""
    ready, left = [], []
    write_headers = Departure.write_headers

    async def then_busy(self):
        await write_headers(self)
        ready.append(time.monotonic())
        asyncio.get_running_loop().call_soon(time.sleep, 0.05)

    async def script(exchange):
        await exchange.send(answer())

    async def leaves():
        left.append(time.monotonic())

    async def run():
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key="key", deadline_s=5.0) as memos,
        ):
            await memos.send(DELETE, leaves=leaves)

    monkeypatch.setattr(Departure, "write_headers", then_busy)
    asyncio.run(run())
    assert left[0] - ready[0] >= 0.05


@pytest.mark.fault("F49")
def test_a_name_that_does_not_resolve_is_not_applied():
    reply = send("http://no-such-host.invalid/api", deadline_s=10.0)
    assert reply.answer.outcome is Outcome.NOT_APPLIED


@pytest.fixture
def resolver(monkeypatch):
    """Names are looked up by what a test puts here; the function runs in a thread."""
    asked = []

    def put(look_up):
        def getaddrinfo(host, *rest, **options):
            asked.append(host)
            return look_up(host)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return put


@pytest.mark.fault("F49")
@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
@pytest.mark.parametrize("call", [DELETE, read_call("a")], ids=lambda call: call.kind)
def test_a_resolver_that_fails_is_not_applied_and_told_apart(resolver, call, number):
    def fails(_host):
        raise socket.gaierror(number, "made up")

    asked = resolver(fails)
    reply = send("http://memos.example/api", call)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "dns")
    assert set(asked) == {"memos.example"}


@pytest.mark.fault("F49")
def test_the_deadline_holds_for_a_resolver_that_does_not_answer(resolver):
    release = threading.Event()

    def hangs(_host):
        release.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "made up")

    resolver(hangs)

    async def run():
        async with MemosClient(
            base_url="http://memos.example/api", api_key="key", deadline_s=DEADLINE_S
        ) as memos:
            try:
                return await memos.send(DELETE)
            finally:
                release.set()  # or the loop would wait for the thread at its end

    reply = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect_deadline")
    assert reply.seconds >= DEADLINE_S


@pytest.mark.fault("F51")
def test_a_tls_handshake_that_does_not_end_is_not_applied():
    """The TCP connection is there; but nothing of the request has left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        reply = send(f"https://127.0.0.1:{port}/api", deadline_s=DEADLINE_S)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect_deadline")


def test_a_wait_for_a_free_connection_that_is_too_long_is_not_applied():
    async def script(exchange):
        await asyncio.Event().wait()

    async def run():
        async with (
            WireServer(script) as server,
            MemosClient(base_url=server.base_url, api_key="key", in_flight=1) as memos,
        ):
            first = asyncio.create_task(memos.send(DELETE))
            await server.arrived.wait()
            memos._deadline_s = DEADLINE_S  # the first one keeps its own
            waited = await memos.send(DELETE)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            return waited, len(server.requests)

    reply, requests = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect_deadline")
    assert requests == 1


def test_without_signals_from_the_transport_every_failure_is_unknown(closed_port):
    async def run():
        async with MemosClient(base_url=f"http://127.0.0.1:{closed_port}", api_key="key") as memos:
            session: Any = memos._transport.client  # type: ignore[union-attr]
            session._trace_configs.clear()
            return await memos.send(DELETE)

    assert asyncio.run(run()).answer.outcome is Outcome.UNKNOWN


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, as a file with its key."""
    return made_certificate(tmp_path_factory, ends_in=dt.timedelta(days=1))


@pytest.fixture(scope="module")
def expired(tmp_path_factory):
    """The same, but a minute too old."""
    return made_certificate(tmp_path_factory, ends_in=-dt.timedelta(minutes=1))


def made_certificate(tmp_path_factory, *, ends_in):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated MemOS")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + ends_in)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def says_ok(exchange):
    await exchange.send(answer())


def send_over_tls(certificate, host="127.0.0.1", **options):
    async def run():
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        async with WireServer(says_ok, tls=tls) as server:
            base_url = f"https://{host}:{server.port}/api"
            async with MemosClient(base_url=base_url, api_key="key", **options) as memos:
                return await memos.send(DELETE), len(server.requests)

    return asyncio.run(run())


@pytest.mark.fault("F51")
def test_a_certificate_that_nobody_vouches_for_ends_the_call_before_it_is_sent(certificate):
    reply, requests = send_over_tls(certificate)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "tls")
    assert requests == 0


@pytest.mark.fault("F51")
def test_an_expired_certificate_ends_the_call_before_it_is_sent(expired):
    trusting = ssl.create_default_context(cafile=expired)
    reply, requests = send_over_tls(expired, tls=trusting)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "tls")
    assert requests == 0


@pytest.mark.fault("F51")
def test_no_call_falls_back_to_plain_text_when_tls_fails(certificate):
    """The port speaks both; only TLS may be tried on it."""

    async def run():
        first_bytes = []

        async def listen(reader, writer):
            first_bytes.append(await reader.read(1))
            writer.close()

        listener = await asyncio.start_server(listen, "127.0.0.1", 0)
        base_url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with MemosClient(base_url=base_url, api_key="key") as memos:
            replies = [await memos.send(DELETE) for _ in range(3)]
        listener.close()
        return replies, first_bytes

    replies, first_bytes = asyncio.run(run())
    assert {reply.answer.outcome for reply in replies} == {Outcome.NOT_APPLIED}
    assert first_bytes == [b"\x16"] * 3  # each a TLS handshake, and one a call


def test_a_private_authority_can_be_named(certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    reply, _ = send_over_tls(certificate, tls=trusting)
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED


@pytest.mark.fault("F51")
def test_a_certificate_for_another_host_ends_the_call_before_it_is_sent(certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    reply, requests = send_over_tls(certificate, host="localhost", tls=trusting)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "tls")
    assert requests == 0


@pytest.mark.fault("F51")
def test_a_server_that_speaks_no_tls_gets_nothing():
    async def run():
        heard = bytearray()

        async def serve(reader, writer):
            with contextlib.suppress(ConnectionError):
                heard.extend(await reader.read(4096))
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        base_url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with MemosClient(base_url=base_url, api_key="canary-key") as memos:
            reply = await memos.send(DELETE)
        listener.close()
        return reply, bytes(heard)

    reply, heard = asyncio.run(run())
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "tls")
    assert b"canary-key" not in heard
