"""*Surely not applied* is said only of calls that never had a connection."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from memos_api.client import MemosClient, delete_call, read_call
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


@pytest.mark.parametrize("call", [DELETE, read_call("a")], ids=lambda call: call.kind)
def test_a_refused_connection_is_not_applied(closed_port, call):
    reply = send(f"http://127.0.0.1:{closed_port}/api", call)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect")
    assert reply.sight is (Sight.UNKNOWN if call.kind == "read" else None)


def test_a_name_that_does_not_resolve_is_not_applied():
    reply = send("http://no-such-host.invalid/api", deadline_s=10.0)
    assert reply.answer.outcome is Outcome.NOT_APPLIED


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
            session: Any = memos._http._transport.client  # type: ignore[union-attr]
            session._trace_configs.clear()
            return await memos.send(DELETE)

    assert asyncio.run(run()).answer.outcome is Outcome.UNKNOWN


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, as a file with its key."""
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
        .not_valid_after(now + dt.timedelta(days=1))
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


def test_a_certificate_that_nobody_vouches_for_ends_the_call_before_it_is_sent(certificate):
    reply, requests = send_over_tls(certificate)
    assert (reply.answer.outcome, reply.answer.reason) == (Outcome.NOT_APPLIED, "connect")
    assert requests == 0


def test_a_private_authority_can_be_named(certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    reply, _ = send_over_tls(certificate, tls=trusting)
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED


def test_a_certificate_for_another_host_ends_the_call_before_it_is_sent(certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    reply, requests = send_over_tls(certificate, host="localhost", tls=trusting)
    assert reply.answer.outcome is Outcome.NOT_APPLIED
    assert requests == 0


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
    assert reply.answer.outcome is Outcome.NOT_APPLIED
    assert b"canary-key" not in heard
