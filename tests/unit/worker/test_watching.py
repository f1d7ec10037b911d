"""What is counted of calls and traced of them, and that it can never stop the work."""

import importlib.util
import json
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY

from ledger import tracing
from ledger.errors import SettingsError
from ledger.finish import Ended
from ledger.settings import Settings, Traces
from ledger.states import Certainty, Kind, Result, Sight
from ledger.tasks import Claim, Dead, Delivered, Retry, Seen, Settlement, Split, Unsent
from ledger.tracing import configure_traces, require_traces, span, stop_traces
from memos_api.codes import CODES
from tests.support.worker_fakes import make_task
from worker import watching
from worker.metrics import count_calls
from worker.watching import Watch

CANARY = "canary-user-4711"


def settled(move, outcome="acknowledged", reason="ok", *, call="delete", **rest):
    task = make_task(
        call=call, subject=CANARY, ids=(CANARY,), request_id="r-1", burnt=rest.pop("burnt", 0)
    )
    return Settlement(task=task, move=move, outcome=outcome, reason=reason, took_us=250_000, **rest)


class Counted:
    """How much a sample of ours has grown since the test began."""

    def __init__(self):
        self._before = self._all()

    def _all(self):
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in REGISTRY.collect()
            if family.name.startswith("expunge_")  # a process's own seconds grow by themselves
            for sample in family.samples
        }

    def __call__(self, name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return self._all().get(key, 0) - self._before.get(key, 0)

    def grown(self):
        return {key for key, value in self._all().items() if value != self._before.get(key, 0)}


@pytest.fixture
def counted():
    return Counted()


# -- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "outcome", "code", "result"),
    [
        (settled(Delivered(), code=0, http_status=200), "success", "0", "ok"),
        (
            settled(Delivered(was_absent=True), "not_found", "code_40307", code=40307),
            *("success", "40307", "ok"),
        ),
        (settled(Split(), "refused", "code_40306", code=40306), "retry", "40306", "error"),
        (
            settled(Dead(bucket="refused"), "permanent", "x", code=12345),
            "permanent",
            "other",
            "error",
        ),
        (settled(Retry(delay_s=1, burn=True), "unknown", "deadline"), "timeout", "none", "error"),
        (
            settled(Retry(delay_s=1, burn=True), "unknown", "success_false", http_status=200),
            *("retry", "none", "soft_failure"),
        ),
    ],
)
def test_a_call_is_counted_by_what_became_of_it(counted, one, outcome, code, result):
    count_calls([one])

    labels = {"kind": "delete", "outcome": outcome}
    assert counted("expunge_attempts_total", **labels) == 1
    assert counted("expunge_attempt_duration_seconds_sum", **labels) == pytest.approx(0.25)
    assert counted(
        "expunge_upstream_requests_total", endpoint="delete_memory", code=code, result=result
    ) == pytest.approx(1)
    assert counted(
        "expunge_upstream_request_duration_seconds_count", endpoint="delete_memory"
    ) == pytest.approx(1)


@pytest.mark.parametrize(
    ("sight", "outcome"),
    [
        (Sight.ABSENT, "absent"),
        (Sight.PRESENT, "still_present"),
        (Sight.UNKNOWN, "unverifiable"),
    ],
)
def test_a_read_back_is_counted_by_what_it_saw(counted, sight, outcome):
    count_calls([settled(Seen(sight=sight), call="read")])

    assert counted("expunge_verifications_total", outcome=outcome) == 1


def test_a_chunk_that_is_given_up_is_counted_by_its_reason(counted):
    count_calls([settled(Dead(bucket="unknown"), "unknown", "http_503")])

    assert counted("expunge_dead_lettered_total", reason="unknown") == 1


def test_what_never_departed_is_no_call(counted):
    count_calls(
        [
            settled(Unsent(), "unsent", "slot_missed"),
            settled(Retry(delay_s=0, burn=False), "pause_project", "no_api_key"),
        ]
    )

    assert counted.grown() == set()


def test_no_label_can_take_more_than_a_few_values(counted):
    count_calls(
        [
            settled(Delivered(), "x", f"code_{code}", code=code, http_status=200, call=call)
            for code in range(0, 60_000, 37)
            for call in ("delete", "list", "read")
        ]
    )

    codes = {dict(labels)["code"] for name, labels in counted.grown() if "requests_total" in name}
    assert codes <= {"other", "none"} | {str(code) for code in CODES}
    assert CANARY not in str(counted.grown())


def ended():
    return Ended(
        request_id="3f0c8f0e-6d2f-4f4e-9d0b-0a4c7d3e1b2a",
        kind=Kind.USER,
        result=Result.PARTIAL,
        certainty=Certainty.UNVERIFIABLE,
        attempts=2,
        unique=1,
        seconds=90.0,
    )


def test_a_requests_end_is_counted_by_kind_and_result(counted):
    Watch().ended(ended())

    labels = {"kind": "user", "outcome": "partial"}
    assert counted("expunge_request_duration_seconds_sum", **labels) == 90
    assert counted("expunge_request_duration_seconds_bucket", **labels, le="60.0") == 0
    assert counted("expunge_request_duration_seconds_bucket", **labels, le="300.0") == 1


def test_the_wait_for_a_slot_is_from_the_claim_to_the_slot(counted):
    watch = Watch()
    tasks = tuple(make_task(slot_ns=1_000_000_000 + ms * 1_000_000) for ms in (20, 80))
    watch.claimed(Claim(tasks=tasks, now_ns=1_000_000_000, mono_ns=0, wake_ns=None))
    watch.work_off()

    assert counted("expunge_upstream_throttle_wait_seconds_count") == 2
    assert counted("expunge_upstream_throttle_wait_seconds_sum") == pytest.approx(0.1)


def test_nothing_is_counted_twice(counted):
    watch = Watch()
    watch.called(settled(Delivered()))
    watch.work_off()
    watch.work_off()

    assert counted("expunge_attempts_total", kind="delete", outcome="success") == 1


def test_counting_that_breaks_stops_no_work(monkeypatch):
    def full(_):
        raise OSError(CANARY)

    monkeypatch.setattr(watching, "count_calls", full)
    monkeypatch.setattr(watching, "count_ended", full)
    watch = Watch()
    watch.called(settled(Delivered()))

    watch.work_off()
    watch.ended(ended())


# -- spans ----------------------------------------------------------------------------------------


@pytest.fixture
def spans(tmp_path):
    exporter = InMemorySpanExporter()
    settings = Settings(home=tmp_path, traces=Traces.OTLP)
    configure_traces(settings, service="expunge-test", exporter=exporter)
    yield exporter.get_finished_spans
    stop_traces()


def test_each_call_that_departed_is_a_client_span_without_an_address_or_id(spans):
    watch = Watch({"default": ("memos.example", 443)})
    watch.called(settled(Delivered(), code=0, http_status=200))
    watch.called(settled(Unsent(), "unsent", "slot_missed"))
    watch.called(
        settled(Retry(delay_s=1, burn=True), "unknown", "http_503", http_status=503, burnt=2)
    )
    watch.called(settled(Seen(sight=Sight.ABSENT), call="read", http_status=200))
    watch.work_off()

    first, second, third = spans()
    assert [one.name for one in spans()] == [
        "POST /delete/memory",
        "POST /delete/memory",
        "GET /get/memory/{memory_id}",
    ]
    assert {one.kind for one in spans()} == {SpanKind.CLIENT}
    assert first.end_time - first.start_time == 250_000_000
    assert dict(first.attributes) == {
        "http.request.method": "POST",
        "url.template": "/delete/memory",
        "server.address": "memos.example",
        "server.port": 443,
        "http.response.status_code": 200,
        "expunge.request.id": "r-1",
        "expunge.outcome": "acknowledged",
    }
    assert first.status.is_ok
    assert second.attributes["error.type"] == "http_503"
    assert second.attributes["http.request.resend_count"] == 2
    assert not second.status.is_ok
    assert third.attributes["http.request.method"] == "GET"
    assert CANARY not in json.dumps([json.loads(one.to_json()) for one in spans()])


def test_a_span_names_an_exception_by_its_class_and_lets_it_through(spans):
    with pytest.raises(ValueError, match=CANARY), span("submit", attributes={"requests": 2}):
        raise ValueError(CANARY)

    (one,) = spans()
    assert one.attributes == {"requests": 2, "error.type": "ValueError"}
    assert not one.status.is_ok
    assert CANARY not in one.to_json()


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("link", "links"), [(TRACE, 1), (None, 0), ("nonsense", 0), (TRACE.replace("0af", "0AF"), 0)]
)
def test_a_span_links_to_who_sent_the_message(spans, link, links):
    with span("process queue", kind="consumer", links=[link, None]) as one:
        one.set("messages", 3)

    (made,) = spans()
    assert made.kind is SpanKind.CONSUMER
    assert made.attributes["messages"] == 3
    assert [format(each.context.trace_id, "032x") for each in made.links] == [TRACE[3:35]] * links


def test_while_traces_are_off_nothing_is_made(tmp_path):
    configure_traces(Settings(home=tmp_path), service="expunge-test")

    with span("submit") as one:
        one.set("requests", 1)

    assert tracing._Tracing.tracer is None


def test_without_the_packages_the_setting_is_refused_and_says_what_to_install(
    tmp_path, monkeypatch
):
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(SettingsError, match=r"pip install 'expunge\[otel\]'"):
        require_traces(Settings(home=tmp_path, traces=Traces.OTLP))
    require_traces(Settings(home=tmp_path))


def test_the_server_of_a_project_is_host_and_port(tmp_path):
    watch = Watch.of(Settings(home=tmp_path, memos_base_url="http://h.example:8700/v1"))
    assert watch._servers == {"default": ("h.example", 8700)}
    watch = Watch.of(Settings(home=tmp_path, memos_base_url="https://h.example/v1"))
    assert watch._servers == {"default": ("h.example", 443)}
