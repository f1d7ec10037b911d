"""Three pages on a port, whatever the checks do and whoever asks."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http import HTTPStatus

import pytest

from expunge.health.asking import ask
from expunge.health.bounded import Bounded, Probe, examine
from expunge.health.listening import open_listener
from expunge.health.server import Health, serve
from ledger.errors import SettingsError
from ledger.settings import Settings


def yes():
    return True


def no():
    return False


def broken():
    raise RuntimeError("secret-host")


def listen(**changed):
    listener = open_listener(Settings(**({"health_port": 0} | changed)))
    assert listener is not None
    return listener


@pytest.fixture
def serving():
    """Serves what a test gives it; gives the port."""
    with listen() as listener:

        def start(*, live=(), ready=(), metrics=lambda: ("text/plain", b"x 1\n")):
            health = Health(process="worker", live=live, ready=ready, metrics=metrics)
            return serve(health, listener)

        yield start


def get(port, path, *, method="GET"):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_a_process_that_makes_progress_is_alive(serving):
    port = serving(live=[Probe("loop", yes)], ready=[Probe("ledger", no)])

    status, headers, body = get(port, "/livez")

    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"process": "worker", "live": True, "failed": [], "warnings": []}


@pytest.mark.parametrize("look", [no, broken])
def test_a_check_that_does_not_pass_is_named_and_nothing_more(serving, look):
    port = serving(ready=[Probe("ledger", look), Probe("keys", yes)])

    status, _, body = get(port, "/readyz?verbose")

    record = json.loads(body)
    assert (status, record["ready"], record["failed"]) == (503, False, ["ledger"])
    assert [one["name"] for one in record["checks"]] == ["ledger", "keys"]
    assert all(set(one) == {"name", "ok", "soft", "milliseconds"} for one in record["checks"])
    assert b"secret" not in body


def test_a_soft_check_is_told_and_does_not_decide(serving):
    port = serving(ready=[Probe("broker", broken, soft=True)])

    status, _, body = get(port, "/readyz")

    assert (status, json.loads(body)["warnings"]) == (200, ["broker"])


def test_a_check_that_hangs_fails_after_its_limit_and_is_not_started_again():
    release, started = threading.Event(), []

    def hang():
        started.append(1)
        return release.wait(10)

    probe = Probe("ledger", hang, limit_s=0.05)
    began = time.monotonic()
    for _ in range(5):
        assert not examine([probe, Probe("fine", yes)])[0].ok
    assert time.monotonic() - began < 2
    assert started == [1]

    release.set()
    probe.bounded.start().over.wait(10)
    assert examine([probe])[0].ok


def test_checks_are_made_at_the_same_time():
    barrier = threading.Barrier(3, timeout=5)

    def meet():
        return barrier.wait() >= 0

    assert all(one.ok for one in examine([Probe(str(number), meet) for number in range(3)]))


def test_what_a_bounded_function_raises_is_raised():
    with pytest.raises(RuntimeError):
        Bounded(broken).get()


def test_metrics_are_given_as_they_are(serving):
    status, headers, body = get(serving(), "/metrics")

    assert (status, headers["Content-Type"], body) == (200, "text/plain", b"x 1\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/livez/x", 404), ("POST", "/livez", 501), ("BREW", "/livez", 501)],
)
def test_nothing_else_is_there(serving, method, path, status, capfd):
    port = serving()
    capfd.readouterr()

    code, _, body = get(port, path, method=method)

    assert code == status
    assert json.loads(body) == {"status": status, "error": HTTPStatus(status).phrase}
    assert capfd.readouterr() == ("", "")  # probes are not logged


def test_a_head_gets_no_body(serving):
    status, headers, body = get(serving(live=[Probe("loop", yes)]), "/livez", method="HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_a_page_that_breaks_costs_one_answer_and_shows_nothing(serving, capfd):
    port = serving(live=[Probe("loop", yes)], metrics=broken)

    with pytest.raises(http.client.HTTPException):
        get(port, "/metrics")

    assert get(port, "/livez")[0] == 200
    assert "secret-host" not in "".join(capfd.readouterr())


def test_who_keeps_still_holds_up_nobody(serving):
    port = serving(live=[Probe("loop", yes)])
    quiet = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]

    began = time.monotonic()
    assert get(port, "/livez")[0] == 200
    assert time.monotonic() - began < 2
    for one in quiet:
        one.close()


def test_more_than_a_few_at_once_are_turned_away(serving):
    release = threading.Event()
    port = serving(live=[Probe("loop", lambda: release.wait(5))])
    waiting = []
    try:
        for _ in range(8):
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            waiting.append(one)
        with socket.create_connection(("127.0.0.1", port)) as ninth:
            ninth.settimeout(5)
            assert ninth.recv(10) == b""
    finally:
        release.set()
    assert all(one.recv(10).startswith(b"HTTP/1.0 ") for one in waiting)
    for one in waiting:
        one.close()


# -- the port -------------------------------------------------------------------------------------


def test_no_port_is_opened_unless_one_is_set():
    assert open_listener(Settings()) is None


def test_a_port_that_is_taken_is_an_error_that_names_the_setting():
    with listen() as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"{port}.*EXPUNGE_HEALTH_PORT"):
            listen(health_port=port)


def test_an_address_that_is_none_is_an_error_that_names_the_setting():
    with pytest.raises(SettingsError, match="EXPUNGE_HEALTH_ADDRESS"):
        listen(health_address="no such place")


# -- asking ---------------------------------------------------------------------------------------


def test_asking_gives_status_process_and_what_failed(serving):
    port = serving(live=[Probe("loop", no)])

    reply = ask("0.0.0.0", port, path="/livez", limit_s=2)  # noqa: S104 - what it listens on

    assert (reply.status, reply.process, reply.failed) == (503, "worker", ("loop",))


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nno json", b"HTTP/1.0 200 OK\r\n\r\n[]"],
)
def test_what_is_no_answer_of_ours_is_said_to_be_none(answer):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def reply():
            connection, _ = other.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(ValueError):  # noqa: PT011 - the class is what matters
            ask("127.0.0.1", other.getsockname()[1], path="/livez", limit_s=2)
        thread.join(5)


LIGHT = """
import sys
from expunge.cli import app
try:
    app(["healthcheck", "worker", "--port", "1"])
except SystemExit as end:
    assert end.code == 1
assert not {"celery", "ledger", "redis", "sqlalchemy"} & set(sys.modules)
"""


def test_asking_imports_nothing_that_is_slow_even_when_nobody_answers():
    subprocess.run([sys.executable, "-c", LIGHT], check=True, capture_output=True)
