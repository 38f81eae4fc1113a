#!/usr/bin/env python3
"""Slow heads, slow bodies and slow readers beside healthy clients, who must not notice.

    slow.py --baton build/baton [--connections 2000] [--minutes 5]
"""
import argparse
import json
import pathlib
import subprocess
import sys

from common import MANY, Server, judge, result, steady, tool

HEALTHY = 200  # requests a second
BODY = {"title": "healthy", "start": True}
ERRORS = ["refused", "late", "unsent", "failed"]


def healthy(baton, server, seconds):
    return steady(baton, server, "/v1/tasks", BODY, seconds, HEALTHY)


def long_answer(server):
    """The path of an answer that the kernel's buffers alone do not hold."""
    items = [{"title": "long", "description": "x" * 8000} for _ in range(120)]
    server.call("POST", "/v1/tasks/batch", json.dumps({"items": items}))
    return "/v1/tasks?limit=120"


def measure(baton, connections, seconds):
    found = {}
    with Server(baton, "--max-connections-per-source", MANY) as server:
        path = long_answer(server)
        alone = result(healthy(baton, server, min(seconds, 20)), seconds + 60)
        slow = subprocess.Popen([tool(baton, "slow"), "-p", str(server.port), "-k", server.key, "-n",
                                 str(connections), "-u", path],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            beside = result(healthy(baton, server, seconds), seconds + 60)
            found["pss_mib"] = server.pss_mib()
        finally:
            found |= json.loads(slow.communicate(timeout=30)[0])
        found |= {"alone_p99_ms": alone["p99_ms"], "p99_ms": beside["p99_ms"], "ok": beside["ok"],
                  "errors": {kind: beside[kind] for kind in ERRORS if beside[kind]}}
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--baton", type=pathlib.Path, required=True)
    p.add_argument("--connections", type=int, default=2000)
    p.add_argument("--minutes", type=float, default=5)
    o = p.parse_args()
    f = measure(o.baton.absolute(), o.connections, o.minutes * 60)
    times = f["p99_ms"] / f["alone_p99_ms"]
    return judge([
        ("slow connections held at the end", f["held"], f["held"] > 0, "> 0"),
        ("cut off, each came back", f["cut_off"], True, ""),
        ("healthy answers", f["ok"], f["ok"] > 0, "> 0"),
        ("healthy clients' errors", json.dumps(f["errors"]), not f["errors"], "none"),
        ("healthy p99 alone", f"{f['alone_p99_ms']} ms", True, ""),
        ("healthy p99 beside them", f"{f['p99_ms']} ms = {times:.2f} x", times <= 2, "<= 2 x"),
        ("PSS", f"{f['pss_mib']:.1f} MiB", True, "")]) > 0


if __name__ == "__main__":
    sys.exit(main())
