"""A broker that lets nobody in: said in a word, without a secret, seldom, and the work goes on."""

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.bells import (
    LONG_S,
    drained_by,
    events,
    order,
    run_to_the_end,
    settle,
    wait_for_drains,
)
from tests.support.stack import Stack, until

pytestmark = pytest.mark.slow

RATE = 60
SECRET = "canary-8d1f3b"
# Of one worker: a few of its start, and what Celery and the steward say of a broker in a minute.
MOST_LINES_A_MINUTE = 40
# What a worker and a sender need, and nothing else; docs/operations.md shows it to operators.
RIGHTS = (
    "resetkeys resetchannels ~expunge ~expunge:bell ~_kombu.binding* -@all +ping +brpop +llen +set "
    "+lpush +sadd +multi +exec +select +client|setinfo"
)


@pytest.fixture
def stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=RATE) as running:
        yield running


def as_user(stack, rights):
    """Make a user of these rights, and give the address to log in with."""
    with stack.valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "bell", "on", f">{SECRET}", *rights.split())
    return stack.valkey.url.replace("://", f"://bell:{SECRET}@")


def assert_work_goes_on_and_little_is_said(
    stack, worker, fault_report, *, reason, event="bell_not_rung"
):
    drained = drained_by(stack, "steward")
    order(stack, seed=1, chunks=RATE * 8)
    wait_for_drains(stack, "steward", more=RATE * 4, seconds=LONG_S, before=drained)
    told = until(lambda: events(worker, event), seconds=LONG_S, why="a word of it")
    settle(stack, fault_report)
    assert {line["reason"] for line in told} == {reason}
    text = worker.log.read_text()
    assert SECRET not in text
    assert "bell:" not in text
    assert "Traceback" not in text
    assert len(worker.log_lines()) < MOST_LINES_A_MINUTE
    assert not events(worker, "part_ended")


@pytest.mark.fault("F30")
def test_a_wrong_password_is_told_and_the_stewards_poll(stack, fault_report):
    with stack.valkey.client() as client:
        client.config_set("requirepass", "right")
        wrong = stack.valkey.url.replace("://", f"://:{SECRET}@")
        worker = stack.start_worker(EXPUNGE_REDIS_URL=wrong)
        assert_work_goes_on_and_little_is_said(stack, worker, fault_report, reason="login_refused")


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("command", "event"),
    [("brpop", "broker_refuses"), ("lpush", "bell_not_rung"), ("set", "bell_not_rung")],
)
def test_a_right_that_is_missing_is_told_and_the_stewards_poll(stack, command, event, fault_report):
    url = as_user(stack, f"~* &* +@all -{command}")
    worker = stack.start_worker(EXPUNGE_REDIS_URL=url)
    assert_work_goes_on_and_little_is_said(
        stack, worker, fault_report, reason="not_allowed", event=event
    )


@pytest.mark.fault("F30")
def test_a_right_that_is_taken_away_and_given_back_needs_no_restart(stack, fault_report):
    worker = stack.start_worker(EXPUNGE_REDIS_URL=as_user(stack, "~* &* +@all"))
    run_to_the_end(stack, seed=2)
    as_user(stack, "-brpop")
    drained = drained_by(stack, "steward")
    order(stack, seed=3, chunks=RATE * 12)
    seeds = count(5)

    def steward_drains():
        """Order anew when a drain that was still there did all of it: the next one is not."""
        if all(view.finished_at is not None for view in stack.views()):
            order(stack, seed=next(seeds), chunks=RATE * 12)
        return drained_by(stack, "steward") >= drained + 20

    until(steward_drains, seconds=LONG_S, why="the steward to claim 20 calls")

    as_user(stack, "+brpop")

    began = time.monotonic()
    wait_for_drains(stack, "drain", more=1, seconds=15)
    settle(stack, fault_report, heals_s=time.monotonic() - began)
    assert not events(worker, "part_ended")


@pytest.mark.fault("F30")
def test_the_few_rights_that_the_documents_name_are_enough(stack, fault_report):
    worker = stack.start_worker(EXPUNGE_REDIS_URL=as_user(stack, RIGHTS))
    order(stack, seed=4, chunks=RATE * 2)
    settle(stack, fault_report)
    assert drained_by(stack, "drain") > 0
    assert not events(worker, "broker_refuses")
    assert not events(worker, "bell_not_rung")


def expired_certificate(folder):
    """Make a certificate for 127.0.0.1 that ended yesterday; gives the file that holds all."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now - timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "expired.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def tls_server(certificate):
    """Shake hands with whoever comes; gives the port, and how many handshakes went well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    well = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with (
                        suppress(OSError),
                        peer,
                        context.wrap_socket(peer, server_side=True) as tls,
                    ):
                        tls.recv(1)
                        well.append(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], well
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.fault("F30")
@pytest.mark.parametrize("trusts", [False, True], ids=["unknown", "expired"])
def test_a_certificate_that_does_not_hold_is_told_and_nothing_is_sent(
    stack, tmp_path, trusts, fault_report
):
    certificate = expired_certificate(tmp_path)
    with tls_server(certificate) as (port, well):
        url = f"rediss://:{SECRET}@127.0.0.1:{port}/0"
        url += f"?ssl_ca_certs={certificate}" if trusts else ""
        worker = stack.start_worker(EXPUNGE_REDIS_URL=url)
        assert_work_goes_on_and_little_is_said(stack, worker, fault_report, reason="certificate")
    assert well == []  # the password was told to nobody
