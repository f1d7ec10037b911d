"""The fault proxy: each mode, armed by bytes and by count, against a server that echoes."""

import socket
import socketserver
import threading
import time
from contextlib import suppress

import pytest

from tests.support.fault_proxy import FaultProxy, Mode


class _Echo(socketserver.BaseRequestHandler):
    def handle(self):
        assert isinstance(self.server, _Server)
        with suppress(OSError):
            while data := self.request.recv(65_536):
                self.server.got.append(data)
                self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    got: list[bytes]


@pytest.fixture
def server():
    with _Server(("127.0.0.1", 0), _Echo) as one:
        one.got = []
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.server_address[1]) as one:
        yield one


@pytest.fixture
def client(proxy):
    with connect(proxy) as one:
        yield one


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(client, data=b"hello"):
    client.sendall(data)
    return receive(client, len(data))


def receive(client, n):
    got = b""
    while len(got) < n and (more := client.recv(n - len(got))):
        got += more
    return got


def is_silent(client, seconds=0.2):
    client.settimeout(seconds)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    return False


def test_without_a_fault_everything_passes_and_an_end_is_an_end(client):
    assert ask(client) == b"hello"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_refuse_closes_the_door_and_breaks_what_was_open_until_it_is_cleared(proxy, client):
    assert ask(client) == b"hello"
    proxy.set(Mode.REFUSE)

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.clear()
    with connect(proxy) as other:
        assert ask(other) == b"hello"


def test_bytes_in_a_black_hole_are_gone_for_ever_and_nobody_is_told(proxy, client, server):
    proxy.set(Mode.BLACK_HOLE)
    client.sendall(b"hello")
    assert is_silent(client)
    proxy.clear()

    assert is_silent(client)
    assert server.got == []
    with connect(proxy) as other:
        assert ask(other) == b"hello"


def test_a_one_way_black_hole_lets_requests_arrive_and_no_answer_out(proxy, client, server):
    proxy.set(Mode.BLACK_HOLE, direction="down")
    client.sendall(b"hello")

    assert is_silent(client)
    assert server.got == [b"hello"]


def test_held_bytes_come_when_the_fault_is_cleared(proxy, client):
    proxy.set(Mode.HOLD, direction="down")
    client.sendall(b"hello")
    assert is_silent(client)
    proxy.clear()
    client.settimeout(5)

    assert receive(client, 5) == b"hello"


def test_reset_breaks_before_the_server_has_seen_the_bytes(proxy, client, server):
    fault = proxy.arm(Mode.RESET, pattern=b"COMMIT", direction="up")
    assert ask(client) == b"hello"
    client.sendall(b"COMMIT")

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.got == [b"hello"]
    assert fault.struck == 1


def test_a_swallowed_answer_is_one_that_the_server_gave(proxy, client, server):
    proxy.arm(Mode.SWALLOW, pattern=b"COMMIT", direction="up", count=1)
    assert ask(client) == b"hello"
    client.sendall(b"COMMIT")

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.got == [b"hello", b"COMMIT"]
    with connect(proxy) as other:
        assert ask(other, b"COMMIT") == b"COMMIT"  # only once


def test_an_answer_can_be_swallowed_by_what_it_says(proxy, client, server):
    proxy.arm(Mode.SWALLOW, pattern=b"secret", direction="down")
    client.sendall(b"a secret")

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.got == [b"a secret"]


def test_a_pattern_is_found_in_two_pieces_and_counted_once(proxy, client):
    fault = proxy.arm(Mode.DELAY, pattern=b"COMMIT", direction="up")
    for piece in (b"COM", b"MIT", b"", b"x"):
        if piece:
            assert ask(client, piece) == piece

    assert fault.struck == 1


def test_skip_and_count_choose_which_passages_are_struck(proxy, client):
    fault = proxy.arm(Mode.DELAY, direction="up", skip=1, count=2)
    for _ in range(5):
        assert ask(client) == b"hello"

    assert (fault.seen, fault.struck) == (5, 2)


def test_a_delay_holds_up_and_a_throttle_drips(proxy, client):
    proxy.set(Mode.DELAY, direction="up", seconds=0.1)
    started = time.monotonic()
    assert ask(client) == b"hello"
    assert time.monotonic() - started >= 0.1

    proxy.set(Mode.THROTTLE, direction="down", rate=1_000.0)
    started = time.monotonic()
    assert ask(client, bytes(200)) == bytes(200)
    assert time.monotonic() - started >= 0.15


def test_a_cut_gives_so_many_bytes_and_breaks(proxy, client):
    proxy.arm(Mode.CUT, direction="down", after_bytes=3)
    client.sendall(b"hello")

    try:
        got = receive(client, 5)
    except ConnectionResetError:  # the three bytes go with the reset on some systems
        got = b"hel"
    assert got == b"hel"


def test_reset_all_breaks_what_is_open_and_lets_others_in(proxy, client):
    assert ask(client) == b"hello"
    proxy.reset_all()

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connect(proxy) as other:
        assert ask(other) == b"hello"


def test_a_server_that_is_gone_breaks_the_connection():
    with FaultProxy(1) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
