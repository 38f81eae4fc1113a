#!/usr/bin/env python3
"""Chaos: two servers with their workers on one PostgreSQL, load, one fault after the other, check.

    tests/crash/chaos.py --baton build/baton --cycles 100 --database-stops 30 --seed 7 [--dir DIR]

Faults, in an order of the seed's: kill -9 of a server or of both, who come back at once or later (a cycle
each); PostgreSQL stopped at once, as by `pg_ctl stop -m immediate`, and started again; a server held past
its leases (one for five cycles).  Odd seeds have a Redis, which is flushed every 3 s; in every other pair of
seeds the second server's clock is 5 s ahead.  At the end the database is also copied to a file, of which
`baton db restore --verify` asks its own invariants.  What is printed, and the exit status, are as in run.py.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import run
from nemesis import Nemesis

TESTS = pathlib.Path(__file__).parents[1]
sys.path += [str(TESTS / "postgres"), str(TESTS / "bus")]

from cluster import Cluster
from redis_server import Redis

SERVERS = 2
READY = 15  # seconds, of several servers that recover at once beside their database, on a busy machine
SHIM = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
APART = {"LD_PRELOAD": SHIM, "FAKETIME": "+5s", "DONT_FAKE_MONOTONIC": "1"}


class Flusher(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.redis, self.over, self.flushed = Redis(), threading.Event(), 0
        self.start()

    def run(self):
        while not self.over.wait(3):
            self.redis.command("FLUSHALL")
            self.flushed += 1

    def end(self):
        self.over.set()
        self.join()
        self.redis.remove()


class Fleet:
    """What the test says to one nemesis, said to several servers and to what they share."""

    def __init__(self, binary, files, seed):
        self.cluster = Cluster(files.work)
        self.store = self.cluster.database()
        self.flusher = Flusher() if seed % 2 else None
        options = ["--store", self.store] + (["--redis", self.flusher.redis.url] if self.flusher else [])
        ahead = {**os.environ, **APART} if seed // 2 % 2 else None
        self.servers = [Nemesis(binary, f"{files.data}{n}", files.path(f"server{n}.log"), ahead if n else None, options)
                        for n in range(SERVERS)]
        with open(files.path("servers.json"), "w") as f:
            json.dump({"data": [s.data for s in self.servers], "store": self.store}, f)
        files.places, files.store = [s.data for s in self.servers], self.store
        self.ready_at = 0

    @property
    def boots(self):
        return [boot for server in self.servers for boot in server.boots]

    kills = property(lambda self: sum(server.kills for server in self.servers))

    def start(self):
        """One after the other: the first makes the schema, and the secret.key of all."""
        first = os.path.join(self.servers[0].data, "secret.key")
        for server in self.servers:
            if server is not self.servers[0]:
                os.makedirs(server.data, 0o700, exist_ok=True)
                shutil.copy(first, server.data)
            server.start()
            if not server.wait_ready():
                return
        self.cluster.sql(self.store, "CREATE EXTENSION IF NOT EXISTS amcheck")

    def wait_ready(self):
        """All that something was done to; from then on there is peace."""
        with ThreadPoolExecutor(SERVERS) as pool:
            ready = all(pool.map(lambda s: s.boots[-1]["ready"] or s.wait_ready(), self.servers))
        self.ready_at = time.time_ns() // 1000
        for server in self.servers:
            server.log_from = os.path.getsize(server.log)
        return ready

    def stalls(self):
        return sum(server.stalls() for server in self.servers)

    def look(self):
        for server in self.servers:
            server.look()

    def stop(self):
        for server in self.servers:
            server.stop()
        if self.flusher:
            self.flusher.end()
        self.cluster.stop()

    def last_words(self):
        return [line for server in self.servers for line in server.last_words()]


class Chaos(run.Test):
    SUITE = "chaos"

    def __init__(self, args):
        super().__init__(args)
        self.done = {"kill": 0, "database": 0, "hold": 0}
        self.faults = ["kill"] * args.cycles + ["database"] * args.database_stops + ["hold"] * -(-args.cycles // 5)
        self.random.shuffle(self.faults)

    def foe(self, binary):
        return Fleet(binary, self.files, self.args.seed)

    def facts(self, last=False, **more):
        boots = []
        for number, server in enumerate(self.nemesis.servers):
            n = len(server.boots) if last else -1
            boots += [dict(boot, n=f"{boot['n']} of server {number}") for boot in server.boots[:n]]
            server.boots = server.boots[n:]
        return json.dumps(dict(more, boots=boots, outages=True, ready=READY))

    # -- faults

    def later(self):
        """At once or after a pause."""
        time.sleep(self.random.choice([0, self.random.uniform(0, self.args.pause)]))

    def back(self, servers):
        """Up again, all of them; now and then killed once more while they recover."""
        for server in servers:
            while self.random.random() < 0.2:
                server.start()
                time.sleep(self.random.uniform(0, 0.1))
                server.kill()
            server.start()

    def kill(self):
        victims = self.random.sample(self.nemesis.servers, self.random.choice([1, 1, 1, 1, SERVERS]))
        for server in victims:
            server.kill()
        self.later()
        self.back(victims)

    def database(self):
        """Servers that stay are ready again by themselves; one that is killed meanwhile begins when it is back."""
        victims = self.random.sample(self.nemesis.servers, self.random.choice([0, 0, 1]))
        self.nemesis.cluster.stop()
        for server in victims:
            server.kill()
        self.later()
        self.nemesis.cluster.start()
        for server in self.nemesis.servers:
            if server not in victims:
                server.expect("after the database came back")
        self.back(victims)

    def hold(self):
        server = self.random.choice(self.nemesis.servers)
        server.hold()
        time.sleep(self.random.uniform(2, 3 + self.args.pause))
        server.let_go()
        server.expect("after it was held")

    # -- one cycle

    def cycle(self, fault):
        """False when the servers do not come back."""
        self.cycles += 1
        if self.random.random() < 0.7:
            upto = self.size("ledger.jsonl")
            self.check("cycle", "--since", str(self.seen))
            self.seen = upto
        time.sleep(self.uptime())
        if self.cycles % run.FULL_EVERY == 0:
            self.full()
        getattr(self, fault)()
        self.done[fault] += 1
        return self.nemesis.wait_ready()

    def full(self):
        """The database as it is between two requests."""
        self.load.say("pause")
        self.check("full", "--copy", self.nemesis.store, "--facts", self.facts(
            api=True, boot=self.nemesis.ready_at, now=time.time_ns() // 1000 - 300000, stalls=self.nemesis.stalls()))
        self.load.say("go")

    def cycle_all(self):
        self.load.say("go")
        alive = True
        while alive and self.faults and not self.late():
            alive = self.cycle(self.faults.pop())
        if not alive:
            self.check("full", "--copy", self.nemesis.store, "--facts", self.facts(last=True))
            return
        self.check("cycle", "--since", str(self.seen))
        self.quiesce()
        self.nemesis.look()
        self.check("final", "--facts", self.facts(last=True, boot=self.nemesis.ready_at))
        self.verify()

    def verify(self):
        """What the program itself says of a copy of the database."""
        baton, copy = self.files.path("baton"), self.files.path("copy.db")
        said = ""
        for command in (["copy", "--store", self.nemesis.store, "--to", copy], ["restore", copy, "--verify"]):
            done = subprocess.run([baton, "db", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            said += done.stdout if done.returncode else ""
        if said:
            print(f"VIOLATION I5 copy.db seed={self.args.seed}: {said}")
            with open(self.files.path("violations.jsonl"), "a") as f:
                f.write(json.dumps({"invariant": "I5", "object": "copy.db", "text": said}) + "\n")

    def summary(self):
        flusher = self.nemesis.flusher
        print("faults:", " ".join(f"{name}={n}" for name, n in self.done.items()),
              f"redis flushed={flusher.flushed}" if flusher else "no redis",
              "clocks 5 s apart" if self.args.seed // 2 % 2 else "one clock")
        return super().summary()


def main():
    parser = run.arguments(__doc__)
    parser.add_argument("--database-stops", type=int, default=30)
    parser.add_argument("--pause", type=float, default=5, help="most seconds before what was stopped is started again")
    return Chaos(parser.parse_args()).main()


if __name__ == "__main__":
    sys.exit(main())
