"""The small form of what `make stream-test`, `slow-test` and `overload-test` do at full size.  Times are
bounds for a slow and shared machine; the promises are not."""
import os
import pathlib

import overload
import slow
import streams
from common import ROOT, Server, growth

BATON = pathlib.Path(os.environ.get("BATON", ROOT / "build" / "baton")).absolute()


def test_streams_keep_their_promises_whatever_their_readers_do():
    found = streams.measure(BATON, subscribers=300, disconnects=1000, seconds=3, drippers=10, rounds=1)
    assert {name: found[name] for name in streams.PROMISES} == dict.fromkeys(streams.PROMISES, 0)
    assert found["create_with"] > 100 and 10 < found["shares"][0] < 1000
    assert found["disconnects"] >= 1000 and found["inside_a_frame"] > 500
    assert found["bookmarks"] == 290 and found["frames"] > 290 * 2
    assert found["delivered"] > 1000 and found["p99_ms"] < 2500
    assert found["settled_s"] < 10


def test_healthy_clients_do_not_suffer_from_slow_ones():
    found = slow.measure(BATON, connections=300, seconds=14)  # longer than a head may take
    assert not found["errors"] and found["ok"] == slow.HEALTHY * 14
    assert found["cut_off"] >= 100  # a third sends heads
    assert found["p99_ms"][-1] < 2500


def test_overload_is_refused_at_once_and_the_rest_is_served_in_time():
    found = overload.measure(BATON, seconds=4)
    over, beats = found["over"], found["beats"]
    assert over["refused"] > 0 and over["failed"] == 0
    assert over["ok"] > 0 and over["late"] < over["sent"] / 10
    assert found["goodput"] > 50  # the capacity of a shared machine is not the same for long
    assert beats["ok"] == beats["sent"]
    assert found["recovered_s"] < 10


def test_a_claim_costs_the_same_however_many_other_workspaces_there_are():
    server = Server(BATON)
    try:
        agent, worker = growth(server, 150, lanes=200)
    finally:
        server.stop()
        server.remove()
    assert agent < 2 and worker < 2.5, (agent, worker)
