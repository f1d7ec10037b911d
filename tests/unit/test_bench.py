"""The bench's own parts: a wrong ruler would be believed."""

import asyncio
import xml.etree.ElementTree as ET

import pytest

from bench.departures import _row
from bench.plots import bars, lines
from bench.publish import _BLOCK, _markdown
from bench.raw import CALL
from bench.scale import _duration
from bench.server import Server
from bench.verdict import Line
from memos_api import MemosClient


def test_the_server_answers_and_counts_each_call_and_notes_when_it_came():
    async def send(base_url, calls):
        async with MemosClient(base_url=base_url, api_key="k", in_flight=4) as client:
            return await asyncio.gather(*(client.send(CALL) for _ in range(calls)))

    with Server(latency_ms=5, stamp=True) as server:
        before = server.count()
        replies = asyncio.run(send(f"http://127.0.0.1:{server.port}/shop", 10))
        after, came = server.count(), server.came()

        assert {reply.answer.code for reply in replies} == {0}
        assert after.calls - before.calls == 10
        assert list(came) == ["shop"]
        assert len(came["shop"]) == 10
        assert came["shop"][-1] - came["shop"][0] >= 0.005  # the fifth waited for an answer
        assert server.came() == {}


def test_one_departure_too_many_in_any_window_shows():
    even = [number / 9.95 for number in range(700)]
    burst = sorted([*even, 30.01, 30.02])

    assert _row(10.0, even)["kept"]
    assert _row(10.0, even)["share"] == pytest.approx(0.995)
    assert not _row(10.0, burst)["kept"]
    assert _row(10.0, burst)["most_1"] == 12


@pytest.mark.parametrize(
    ("found", "most", "verdict", "aim"),
    [
        (0.9, False, "pass", False),
        (0.97, False, "pass", True),
        (0.89, False, "MISS", False),
        (None, False, "not measured", None),
        (0.5, True, "pass", True),
        (0.95, True, "MISS", False),
    ],
)
def test_a_number_passes_or_misses(found, most, verdict, aim):
    row = Line(what="share", must=0.9, aim=0.8 if most else 0.97, most=most, found=found).row()

    assert (row["verdict"], row["reached_aim"]) == (verdict, aim)


def test_a_table_goes_between_its_marks_and_nowhere_else():
    table = {"title": "T", "heads": ["a|b"], "numeric": [True], "cells": [["<1"]]}
    text = "x\n<!-- bench: calls -->\nold\n<!-- bench: end -->\ny\n<!-- bench: end -->\n"

    once = _BLOCK.sub(lambda found: found[1] + _markdown(table) + found[3], text)

    assert once.startswith("x\n<!-- bench: calls -->\n\nT\n\n| a\\|b |\n| ---: |\n| &lt;1 |\n")
    assert once.endswith("<!-- bench: end -->\ny\n<!-- bench: end -->\n")
    assert "old" not in once


def test_plots_are_well_formed_with_odd_figures_too():
    plots = [
        lines("<&>", {"a": [(10, 0.0), (1e6, 0.02)], "b": [(10, 3.0)]}, across="n", up="s"),
        lines("one", {"a": [(10, 0.0)]}, across="n", up="s"),
        bars("bars", {"0 ms": {"a": 1.0, "b": 1234.5}, "20 ms": {"b": 7.0}}, up="calls/s"),
    ]

    for plot in plots:
        assert ET.fromstring(plot).tag.endswith("svg")  # noqa: S314 - our own


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (119, "119.0 s"), (7_199, "120.0 min"), (200_000, "2.3 days")],
)
def test_a_duration_is_said_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert _duration(seconds) == words
