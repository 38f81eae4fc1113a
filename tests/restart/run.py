#!/usr/bin/env python3
"""The restart test: many queued runs, a long log, kill -9, and how soon the first claim succeeds.

    tests/restart/run.py --baton build/baton --runs 1000000 --wal-mib 64 [--seconds 1]

A reader keeps a snapshot open, so that nothing of the log is copied home before the kill.  Every
start finds the same files: a copy of them is put back.  Ends with `N passed, N failed`.
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "crash"))

from api import Client, Lost, Server
from nemesis import Nemesis

BATCH, WRITERS, STARTS = 100, 4, 5
MIB = 1 << 20


def fill(server, runs):
    """Creates that many started tasks, in batches over several connections."""
    left, lock = [runs], threading.Lock()

    def work():
        client = Client(server, timeout=60)
        while True:
            with lock:
                n = min(BATCH, left[0])
                left[0] -= n
            if not n:
                return
            answer = client.post("/v1/tasks/batch",
                                 {"items": [{"title": "queued", "start": True}] * n})
            assert answer.status in (200, 201), answer.body
    threads = [threading.Thread(target=work) for _ in range(WRITERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def lengthen(server, data, mib):
    """Writes while a reader's snapshot holds the log; returns the reader and the runs made."""
    reader = sqlite3.connect(f"file:{data}/baton.db?mode=ro", uri=True, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM setting").fetchone()
    made = 0
    while os.path.getsize(os.path.join(data, "baton.db-wal")) < mib * MIB:
        fill(server, 2000)
        made += 2000
    return reader, made


def first_claim(nemesis, data):
    """Seconds from the start of the process to an answered claim that holds a run."""
    nemesis.start()
    began = time.monotonic()
    server = Server(data)
    while time.monotonic() - began < 60:
        client = Client(server, timeout=30)
        try:
            answer = client.post("/v1/runs/claim", {"lease_seconds": 60})
            if answer.status == 200 and answer.body["claims"]:
                return time.monotonic() - began
        except Lost:
            time.sleep(0.002)
        client.close()
    return None


def put_back(kept, data):
    for name in "baton.db", "baton.db-wal":
        shutil.copy(os.path.join(kept, name), data)
    os.sync()  # the server shall not wait for what this test has written


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--baton", default="build/baton")
    parser.add_argument("--runs", type=int, default=1000000)
    parser.add_argument("--wal-mib", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0, help="the median may take this long")
    args = parser.parse_args()
    work = tempfile.mkdtemp(prefix="baton-restart-")
    data, kept = os.path.join(work, "data"), os.path.join(work, "kept")
    nemesis = Nemesis(args.baton, data, os.path.join(work, "server.log"))
    try:
        nemesis.start()
        assert nemesis.wait_ready(), nemesis.boots
        server = Server(data)
        began = time.monotonic()
        fill(server, args.runs)
        print(f"{args.runs} runs queued in {time.monotonic() - began:.0f} s", flush=True)
        reader, more = lengthen(server, data, args.wal_mib)
        nemesis.kill()
        reader.close()
        os.mkdir(kept)
        put_back(data, kept)
        size, log = (os.path.getsize(os.path.join(kept, name)) / MIB
                     for name in ("baton.db", "baton.db-wal"))
        print(f"database {size:.0f} MiB, log {log:.0f} MiB, {args.runs + more} runs", flush=True)
        took = []
        for _ in range(STARTS):
            took.append(first_claim(nemesis, data))
            nemesis.kill()
            if took[-1] is None:
                break
            put_back(kept, data)
        failed = None in took or statistics.median(took) > args.seconds
        print("first claim after", " ".join("never" if t is None else f"{t:.3f} s" for t in took))
        print(f"{int(not failed)} passed, {int(failed)} failed")
        print("ledger", json.dumps({"suite": "restart", "seed": 0, "cycles": len(took),
                                    "operations": args.runs + more, "failures": int(failed)}))
        return int(failed)
    finally:
        nemesis.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
