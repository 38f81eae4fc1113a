#!/usr/bin/env python3
"""Measures servers on PostgreSQL beside its raw limit and beside what others make of it; writes build/bench-pg.json.

    postgres.py --baton build/baton --out build/bench-pg.json [--seconds 5] [--without-peers]

The cluster is the tests' own, on this disk, with synchronous_commit on; everything shares this machine.  The peers
(bench/peers) come from npm.
"""
import argparse
import http.client
import json
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE.parent / "tests" / "postgres"), str(HERE.parent / "tests" / "bus")]
from cluster import Cluster
from redis_server import Redis
from run import Server, batch, get_ms, load, rates

NOOP = {"action": "noop"}
# What is to be reached: a figure, and of which other one so many times as much.
RATIOS = [("e2e", 0.5, "raw_lifecycles"), ("e2e", 1.5, "graphile_e2e"), ("e2e", 1, "graphile-bulk_e2e"),
          ("e2e", 4, "dbos_e2e"), ("steps10", 5, "dbos_steps10"), ("creates", 2, "graphile_creates"),
          ("creates", 2, "pgboss_creates"), ("creates", 2, "dbos_creates")]
MOST = {"claim_growth": 1.3, "list_ms": 5, "list_status_ms": 5, "list_priority_ms": 5,
        "stream_notify_p99_ms": 50, "stream_redis_p99_ms": 20, "idle_queries": 1}


class Bench:
    def __init__(self, baton, seconds):
        self.baton, self.tools, self.seconds = baton, baton.parent / "bench", seconds
        self.cluster = Cluster(baton.parent)
        self.figures = {}

    def put(self, name, value):
        self.figures[name] = value
        print(f"{name:24} {value:12.4g}", flush=True)

    def database(self):
        # A host that programs find which cannot read an address without one; the socket's directory counts.
        return self.cluster.database().replace("@/", "@localhost/")

    def server(self, url, *options, beside=None):
        return Server(self.baton, "--store", url, *options, beside=beside)

    def count(self, url, what):
        return int(self.cluster.sql(url, "SELECT count(*) FROM " + what)[0])

    def raw(self, what):
        url = self.database()
        self.server(url).__exit__()  # makes the tables
        line = subprocess.run([self.tools / "raw_postgres", what, url, str(self.seconds)], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        self.put("raw_" + what, json.loads(line)["rate"])

    def life_cycles(self):
        url = self.database()
        with self.server(url, "--concurrency", "0") as server:
            self.put("e2e", rates(self.tools, server, "e2e", connections=16, seconds=self.seconds))
        assert self.count(url, "run WHERE ended_at IS NULL") == 0

    def creates(self):
        for name, connections in ("creates", 64), ("creates_alone", 1):
            with self.server(self.database(), "--concurrency", "0") as server:
                self.put(name, rates(self.tools, server, "create", connections=connections, seconds=self.seconds))

    def two_servers(self):
        url = self.database()
        with self.server(url, "--concurrency", "0") as a, self.server(url, "--concurrency", "0", beside=a) as b:
            command = [self.tools / "load", "create", "-p", str(b.port), "-k", b.key, "-c", "32", "-s", str(self.seconds)]
            other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            mine = load(self.tools, a, "create", connections=32, seconds=self.seconds)["rate"]
            self.put("creates_two_servers", mine + json.loads(other.communicate()[0])["rate"])

    def steps(self, n=2000):
        """Runs a second of ten steps that are kept, by a worker with 64 slots."""
        url = self.database()
        with self.server(url, "--concurrency", "0") as server:
            server.define("ten", [NOOP] * 10)
            for _ in range(n // 500):
                server.call("POST", "/v1/tasks/batch", json.dumps(
                    {"items": [{"title": "bench", "definition_id": "ten", "start": True}] * 500}))
        with self.server(url, "--concurrency", "64", "--replace-secret-key"):
            while self.count(url, "run WHERE ended_at IS NULL"):
                time.sleep(0.2)
        took = self.cluster.sql(url, "SELECT max(ended_at) - min(started_at) FROM run WHERE status = 9")[0]
        self.put("steps10", n / (int(took) / 1e6))

    def claim_growth(self, few=1000, many=1000000):
        """How many times as much a claim takes when so many runs are queued instead of so few; and what pages of them do."""
        with self.server(self.database(), "--concurrency", "0") as server:
            def cost(queued):
                for _ in range(queued // 1000):
                    server.call("POST", "/v1/tasks/batch", batch(1000))
                return load(self.tools, server, "claim", "-n", "400")["p50_ms"]
            alone = cost(few)
            self.put("claim_growth", cost(many) / alone)
            for name, query in ("list", ""), ("list_status", "?status=ready"), ("list_priority", "?priority=medium"):
                self.put(name + "_ms", get_ms(server, "/v1/tasks" + query))

    def stream(self, bus, *options, events=1000):
        """How long after the answer of one server a stream of another one tells of an event; ms, of a hundred 99 and 50."""
        url, came = self.database(), {}
        with self.server(url, "--concurrency", "0", *options) as a, \
                self.server(url, "--concurrency", "0", *options, beside=a) as b:
            task = a.task()["id"]
            reader = http.client.HTTPConnection("127.0.0.1", b.port)
            reader.request("GET", f"/v1/tasks/{task}/events/stream", headers={"Authorization": "Bearer " + b.key})
            answer = reader.getresponse()

            def listen():
                while len(came) <= events and (line := answer.readline()):
                    if line.startswith(b"id: "):
                        came[int(line[4:])] = time.monotonic()

            listener = threading.Thread(target=listen)
            listener.start()
            time.sleep(1)
            committed = {}
            for n in range(events):
                a.call("PATCH", f"/v1/tasks/{task}", json.dumps({"title": f"title {n}"}))
                committed[n + 2] = time.monotonic()
                time.sleep(0.005)
            listener.join(30)
            reader.close()
        assert len(came) == events + 1
        late = sorted(came[n] - at for n, at in committed.items())
        self.put(f"stream_{bus}_p50_ms", late[events // 2] * 1000)
        self.put(f"stream_{bus}_p99_ms", late[events * 99 // 100] * 1000)

    def streams(self):
        self.stream("notify")
        redis = Redis()
        try:
            self.stream("redis", "--redis", redis.url)
        finally:
            redis.remove()

    def idle(self, seconds=120):
        """Queries a second of each of two servers, with a worker each, that have nothing to do."""
        url = self.database()
        self.cluster.sql(url, "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements")
        self.cluster.stop()
        self.cluster.start()
        self.cluster.sql(url, "CREATE EXTENSION pg_stat_statements")
        with self.server(url) as a, self.server(url, beside=a):
            time.sleep(10)
            self.cluster.sql(url, "SELECT pg_stat_statements_reset()")
            time.sleep(seconds)
            n = self.cluster.sql(url, "SELECT sum(calls) FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat%'")[0]
        self.put("idle_queries", int(n) / seconds / 2)

    def peers(self):
        home = HERE / "peers"
        if not (home / "node_modules").is_dir():
            subprocess.run(["npm", "ci", "--prefix", home, "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
                           check=True)
        for peer, figures in ("graphile", ["creates", "e2e"]), ("graphile-bulk", ["e2e"]), ("pgboss", ["creates", "e2e"]), \
                             ("dbos", ["creates", "e2e", "steps10"]):
            for figure in figures:
                out = subprocess.run(["node", home / "peers.mjs", peer, figure, self.database(), str(self.seconds)],
                                     check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
                self.put(f"{peer}_{figure}", json.loads(out.splitlines()[-1])["rate"])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--baton", type=pathlib.Path, required=True)
    options.add_argument("--out", type=pathlib.Path, required=True)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--without-peers", action="store_true", help="needs no Node")
    given = options.parse_args()
    bench = Bench(given.baton.absolute(), given.seconds)
    try:
        bench.raw("lifecycles")
        bench.raw("creates")
        bench.life_cycles()
        bench.creates()
        bench.two_servers()
        bench.steps()
        bench.claim_growth()
        bench.streams()
        if not given.without_peers:
            bench.peers()
        bench.idle()  # the last: it starts the cluster anew, with its statistics
    finally:
        bench.cluster.remove()
    for figure, times, other in RATIOS:
        if other in bench.figures:
            ratio = bench.figures[figure] / bench.figures[other]
            print(f"{figure} of {other}".ljust(32), f"{ratio:8.2f} ({'reached' if ratio >= times else 'missed'}: >= {times})")
    for figure, most in MOST.items():
        print(figure.ljust(32), f"{bench.figures[figure]:8.2f} ({'reached' if bench.figures[figure] <= most else 'missed'}: <= {most})")
    given.out.write_text(json.dumps(bench.figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
