#!/usr/bin/env python3
"""Three times as much work as the server can do, from clients who give up after two seconds, while
lease-holders beat: what is served must be served in time, and afterwards all is as before.

    overload.py --baton build/baton [--seconds 30]
"""
import argparse
import json
import pathlib
import sys
import time

from common import MANY, Server, flood, judge, result, steady

PATIENCE = 2
ITEMS = 100  # tasks a request, so that the writer is what is short and not the processor's sockets
BODY = {"items": [{"title": "work", "start": True}] * ITEMS}


def creates(baton, server, **how):
    return flood(baton, server, "/v1/tasks/batch", BODY, wait=PATIENCE, **how)


def hold(server):
    """Path and body of a heartbeat."""
    server.call("POST", "/v1/tasks", json.dumps({"title": "held", "start": True}))
    claim = json.loads(server.call("POST", "/v1/runs/claim", '{"lease_seconds": 3600}'))["claims"][0]
    return f"/v1/runs/{claim['run']['id']}/heartbeat", {"claim_token": claim["claim_token"]}


def recovery(baton, server, rate):
    """Seconds after the load until a second of half the capacity is served as if nothing had been."""
    began = time.monotonic()
    while True:
        now = result(creates(baton, server, seconds=1, rate=rate / 2, connections=1000), 60)
        if now["ok"] == now["sent"]:
            return time.monotonic() - began - 1
        assert time.monotonic() - began < 60, now


def measure(baton, seconds):
    with Server(baton, "--max-connections-per-source", MANY) as server:
        path, beat = hold(server)
        peak = result(creates(baton, server, seconds=max(2, seconds / 3), connections=64), 120)
        rate = peak["ok_per_s"]
        beats = steady(baton, server, path, beat, seconds, 50)
        over = result(creates(baton, server, seconds=seconds, rate=3 * rate, connections=12000),
                      seconds + 60)
        beats = result(beats, 60)
        recovered = recovery(baton, server, rate)
    return {"peak": rate, "over": over, "beats": beats, "recovered_s": recovered,
            "goodput": 100 * over["ok_per_s"] / rate}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--baton", type=pathlib.Path, required=True)
    p.add_argument("--seconds", type=float, default=30)
    o = p.parse_args()
    f = measure(o.baton.absolute(), o.seconds)
    over, beats = f["over"], f["beats"]
    lost = sum(beats[k] for k in ["refused", "late", "unsent", "failed"])
    return judge([
        ("capacity, batches of 100", f"{f['peak']:.0f}/s", True, ""),
        ("asked for", f"{over['sent'] / o.seconds:.0f}/s", True, ""),
        ("goodput", f"{over['ok_per_s']:.0f}/s = {f['goodput']:.0f} %", f["goodput"] >= 90, ">= 90 %"),
        ("served p99", f"{over['p99_ms']:.0f} ms", over["p99_ms"] <= 1000 * PATIENCE, "<= 2000 ms"),
        ("refused at once", over["refused"], over["refused"] > 0, "> 0"),
        ("given up by the client", over["late"], True, ""),
        ("failed otherwise", over["failed"], over["failed"] == 0, "0"),
        ("heartbeats lost", f"{lost} of {beats['sent']}", lost == 0, "0"),
        ("heartbeats p99", f"{beats['p99_ms']} ms", True, ""),
        ("recovered after", f"{f['recovered_s']:.1f} s", f["recovered_s"] <= 10, "<= 10 s")]) > 0


if __name__ == "__main__":
    sys.exit(main())
