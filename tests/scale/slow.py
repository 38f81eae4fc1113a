#!/usr/bin/env python3
"""Slow heads, slow bodies and slow readers beside healthy clients, who must not notice.

    slow.py --baton build/baton [--connections 2000] [--minutes 5]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from common import MANY, Server, judge, result, steady, tool

HEALTHY = 200  # requests a second
WINDOW = 20  # seconds
BODY = {"title": "healthy", "start": True}
ERRORS = ["refused", "late", "unsent", "failed"]


def healthy(baton, server, seconds):
    """One window after the other; a machine that stalls for a moment spoils one of them."""
    windows = max(1, round(seconds / WINDOW))
    return [result(steady(baton, server, "/v1/tasks", BODY, seconds / windows, HEALTHY), seconds + 60) for _ in range(windows)]


def p99s(windows):
    return sorted(window["p99_ms"] for window in windows)


def long_answer(server):
    """The path of an answer that the kernel's buffers alone do not hold."""
    items = [{"title": "long", "description": "x" * 8000} for _ in range(120)]
    server.call("POST", "/v1/tasks/batch", json.dumps({"items": items}))
    return "/v1/tasks?limit=120"


def measure(baton, connections, seconds):
    found = {}
    with Server(baton, "--max-connections-per-source", MANY) as server:
        path = long_answer(server)
        alone = healthy(baton, server, min(seconds, 3 * WINDOW))
        slow = subprocess.Popen([tool(baton, "slow"), "-p", str(server.port), "-k", server.key, "-n",
                                 str(connections), "-u", path],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            beside = healthy(baton, server, seconds)
            found["pss_mib"] = server.pss_mib()
        finally:
            found |= json.loads(slow.communicate(timeout=30)[0])
        if seconds > 3 * WINDOW:
            alone += healthy(baton, server, 3 * WINDOW)
    errors = {kind: sum(window[kind] for window in beside) for kind in ERRORS}
    return found | {"alone_p99_ms": p99s(alone), "p99_ms": p99s(beside), "ok": sum(window["ok"] for window in beside),
                    "errors": {kind: n for kind, n in errors.items() if n}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--baton", type=pathlib.Path, required=True)
    p.add_argument("--connections", type=int, default=2000)
    p.add_argument("--minutes", type=float, default=5)
    o = p.parse_args()
    f = measure(o.baton.absolute(), o.connections, o.minutes * 60)
    alone, beside = statistics.median(f["alone_p99_ms"]), statistics.median(f["p99_ms"])
    return judge([
        ("slow connections held at the end", f["held"], f["held"] > 0, "> 0"),
        ("cut off, each came back", f["cut_off"], True, ""),
        ("healthy answers", f["ok"], f["ok"] > 0, "> 0"),
        ("healthy clients' errors", json.dumps(f["errors"]), not f["errors"], "none"),
        ("healthy p99 alone, median of windows", f"{alone:.2f} ms", True, ""),
        ("healthy p99 beside them, the same", f"{beside:.2f} ms = {beside / alone:.2f} x", beside <= 2 * alone, "<= 2 x"),
        ("worst window alone, beside them", f"{f['alone_p99_ms'][-1]}, {f['p99_ms'][-1]} ms", True, ""),
        ("PSS", f"{f['pss_mib']:.1f} MiB", True, "")]) > 0


if __name__ == "__main__":
    sys.exit(main())
