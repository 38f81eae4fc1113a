#!/usr/bin/env python3
"""Measures the hot path of a server on this machine and writes build/bench.json.

    run.py --baton build/baton --out build/bench.json [--seconds 5]

Load comes from wrk (creates) and from this process (life-cycles); both share the machine with the
server.  The raw limit is the same rows written by SQLite alone, in groups of 64, synced.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time

TARGETS = {"create_c64": (20000, ">="), "create_c1": (4000, ">="), "create_batch": (35000, ">="),
           "e2e": (10000, ">="), "rss_idle_mib": (20, "<="), "disk_per_run_kib": (1.2, "<="),
           "cold_start_ms": (50, "<="), "claim_growth": (1.3, "<="),
           "claim_blocked_p99_ms": (5, "<=")}


class Server:
    def __init__(self, baton):
        # Beside the program, not in a RAM disk: the sync must be real.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=baton.parent))
        self.data = self.home / "data"
        began = time.perf_counter()
        self.process = subprocess.Popen([baton, "serve", "--data", self.data, "--listen",
                                         "127.0.0.1:0"], stdout=subprocess.DEVNULL)
        while not (self.data / "listen").exists():
            time.sleep(0.0005)
        self.port = int((self.data / "listen").read_text().rsplit(":", 1)[1])
        self.key = (self.data / "admin.key").read_text()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.call("GET", "/livez")
        self.cold_start = (time.perf_counter() - began) * 1000

    def call(self, method, path, body=None):
        self.connection.request(method, path, body, {"Authorization": "Bearer " + self.key})
        answer = self.connection.getresponse()
        data = answer.read()
        assert answer.status < 300, (method, path, answer.status, data[:300])
        return data

    def pss_mib(self):
        rows = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", rows, re.M)[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def remove(self):
        shutil.rmtree(self.home)


def wrk(server, connections, seconds, body, keyed=False):
    key = ('local n = 0\nrequest = function() n = n + 1\n'
           'wrk.headers["Idempotency-Key"] = tostring(wrk.thread) .. n .. os.clock()\n'
           'return wrk.format() end\n') if keyed else ""
    script = server.home / "load.lua"
    script.write_text('wrk.method = "POST"\nwrk.body = [[%s]]\n'
                      'wrk.headers["Content-Type"] = "application/json"\n'
                      'wrk.headers["Authorization"] = "Bearer %s"\n%s' % (body, server.key, key))
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script,
                          f"http://127.0.0.1:{server.port}" +
                          ("/v1/tasks/batch" if "items" in body else "/v1/tasks")],
                         capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def batch(n, **fields):
    return json.dumps({"items": [{"title": "bench", "start": True, **fields}] * n})


RUNS, TOKENS = re.compile(rb'"run":\{"id":"(run_\w+)'), re.compile(rb'"claim_token":"(btk_\w+)')


def claim(server, **fields):
    answer = server.call("POST", "/v1/runs/claim", json.dumps(fields))
    return list(zip(RUNS.findall(answer), TOKENS.findall(answer)))


def complete(server, claims):
    items = ",".join('{"run_id":"%s","claim_token":"%s","result":1}' % (r.decode(), t.decode())
                     for r, t in claims)
    server.call("POST", "/v1/runs/complete", '{"items":[%s]}' % items)


def end_to_end(server, seconds):
    body, done, began = batch(1000), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        server.call("POST", "/v1/tasks/batch", body)
        for _ in range(10):
            claims = claim(server, max=100)
            complete(server, claims)
            done += len(claims)
    return done / (time.perf_counter() - began)


def claim_times(server, n, **fields):
    times = []
    for _ in range(n):
        began = time.perf_counter()
        assert claim(server, **fields)
        times.append((time.perf_counter() - began) * 1000)
    return times


def raw_limit(home, seconds):
    """Rows of a created task with a run and its events, in the real schema, 64 a transaction."""
    schema = pathlib.Path(__file__).parents[1] / "sql"
    db = sqlite3.connect(home / "raw.db", isolation_level=None)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    for path in sorted(schema.glob("*.sql")):
        db.executescript(path.read_text())

    def insert(table, **values):
        info = db.execute(f"PRAGMA table_info({table})").fetchall()
        columns = [r[1] for r in info if r[3] or r[1] in values or r[5]]
        return (f"INSERT INTO {table} ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})",
                columns)

    texts = {"title": "bench"}
    statements = {t: insert(t) for t in ("task", "run", "ready", "tree", "event")}
    n, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        db.execute("BEGIN")
        for _ in range(64):
            n += 1
            for table, (sql, columns) in statements.items():
                for seq in (1, 2) if table == "event" else (1,):
                    db.execute(sql, [texts.get(c, 2 * n + seq if c == "pos" else seq if c == "seq"
                                               else n if c in ("id", "run", "tree_id", "task_id",
                                                               "queued_at") else 1)
                                     for c in columns])
        db.execute("COMMIT")
    return n / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--baton", type=pathlib.Path, default="build/baton")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench.json")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--queued", type=int, default=1000000, help="runs for the claim figures")
    options = parser.parse_args()
    baton, seconds, found = options.baton.absolute(), options.seconds, {}

    def put(key, value, unit):
        target, sense = TARGETS.get(key, (None, ""))
        verdict = "" if target is None else "reached" if (
            value >= target if sense == ">=" else value <= target) else "MISSED"
        print(f"{key:22} {value:12.2f} {unit:8} {sense}{target or '':<8} {verdict}", flush=True)
        found[key] = {"value": round(value, 3), "unit": unit,
                      **({"limit": target} if target is not None else {})}

    starts = []
    for _ in range(5):
        server = Server(baton)
        starts.append(server.cold_start)
        time.sleep(0.3)
        idle = server.pss_mib()
        server.stop()
        server.remove()
    put("cold_start_ms", statistics.median(starts), "ms")
    put("rss_idle_mib", idle, "MiB")

    server = Server(baton)
    one = '{"title":"bench","start":true}'
    put("create_c64", wrk(server, 64, seconds, one), "1/s")
    put("create_c64_keyed", wrk(server, 64, seconds, one, keyed=True), "1/s")
    put("create_c1", wrk(server, 1, seconds, one), "1/s")
    put("create_batch", 1000 * wrk(server, 2, seconds, batch(1000)), "tasks/s")
    put("raw_create_limit", raw_limit(server.home, seconds), "1/s")
    server.stop()
    server.remove()

    server = Server(baton)
    put("e2e", end_to_end(server, seconds), "runs/s")
    server.stop()
    count = sqlite3.connect(server.data / "baton.db").execute("SELECT count(*) FROM run").fetchone()
    size = (server.data / "baton.db").stat().st_size
    put("disk_per_run_kib", size / 1024 / count[0], "KiB")
    server.remove()

    server = Server(baton)
    server.call("POST", "/v1/tasks/batch", batch(1000))
    small = statistics.median(claim_times(server, 200))
    for _ in range(options.queued // 1000):
        server.call("POST", "/v1/tasks/batch", batch(1000))
    time.sleep(1)
    put("claim_growth", statistics.median(claim_times(server, 200)) / small, "x")
    server.stop()
    server.remove()

    server = Server(baton)
    for i in range(options.queued // 1000):
        server.call("POST", "/v1/tasks/batch", batch(1000, priority="urgent",
                                                     required_capabilities=[f"not-mine-{i % 40}"]))
    server.call("POST", "/v1/tasks/batch", batch(500))
    time.sleep(1)
    times = sorted(claim_times(server, 400))
    put("claim_blocked_p99_ms", times[int(len(times) * 0.99)], "ms")
    server.stop()
    server.remove()
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print("written to", options.out)


if __name__ == "__main__":
    main()
