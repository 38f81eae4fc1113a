#!/usr/bin/env python3
"""The crash test: load, random kill -9, restart, check; over and over.

    tests/crash/run.py --baton build/baton --cycles 100 --seed 7 [--minutes 12] [--dir DIR]

Ends with the numbers of cycles, acknowledged operations, kills and violations and the line
`N passed, N failed`, which counts invariants.  Exit status 1 on any violation; then the data
directory, the ledger and the seed are kept.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import database
from api import Client, Lost
from checker import Files
from invariants import CHECKS
from ledger import read_lines
from nemesis import Nemesis

FULL_EVERY = 10
LONG = 14  # seconds of uptime in which abandoned leases expire
OPEN = ["queued", "claimed", "starting", "running", "awaiting_approval", "awaiting_input",
        "awaiting_subtask", "awaiting_parallel", "sleeping"]


class LoadProcess:
    def __init__(self, files, seed, log):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "load.py"), "--data", *files.places, "--work", files.work,
             "--seed", str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"the load did not start, see {log.name}")
        self.facts = json.loads(line)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise SystemExit("the load has died")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Test:
    SUITE = "crash"

    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.work = args.dir or tempfile.mkdtemp(prefix="baton-crash-")
        os.makedirs(self.work, exist_ok=True)
        os.chmod(self.work, 0o755)
        self.files = Files(self.work)
        # A copy, so that a new build does not change the server in the middle of a run.
        binary = shutil.copy(args.baton, self.files.path("baton"))
        self.nemesis = self.foe(binary)
        self.seen = 0  # offset in the ledger up to which objects were read back
        self.cycles = 0
        self.began = time.monotonic()

    def foe(self, binary):
        return Nemesis(binary, self.files.data, self.files.path("server.log"))

    def size(self, name):
        path = self.files.path(name)
        return os.path.getsize(path) if os.path.exists(path) else 0

    def check(self, phase, *more):
        return subprocess.call([sys.executable, os.path.join(HERE, "checker.py"), phase, "--work",
                                self.work, "--seed", str(self.args.seed), *more])

    def facts(self, last=False, **more):
        """Each start is judged once, by the first check after its end."""
        n = len(self.nemesis.boots) if last else -1
        boots, self.nemesis.boots = self.nemesis.boots[:n], self.nemesis.boots[n:]
        return json.dumps(dict(more, boots=boots))

    # -- one cycle

    def restart(self):
        """Up again; now and then killed once more while it recovers."""
        while self.random.random() < 0.2:
            self.nemesis.start()
            time.sleep(self.random.uniform(0, 0.1))
            self.nemesis.kill()
        self.nemesis.start()
        return self.nemesis.wait_ready()

    def uptime(self):
        if self.cycles % FULL_EVERY == 0:
            return LONG
        if self.random.random() < 0.75:
            return self.random.uniform(0.02, 0.8)
        return self.random.uniform(0.8, 3)

    def cycle(self):
        """False when the server does not come back."""
        self.cycles += 1
        early = self.random.random() < 0.3
        if not early:
            upto = self.size("ledger.jsonl")
            self.check("cycle", "--since", str(self.seen))
            self.seen = upto
        time.sleep(self.uptime())
        self.nemesis.kill()
        if self.cycles % FULL_EVERY == 0:
            return self.full()
        return self.restart()

    def full(self):
        """Copies the dead server's files, starts it again and lets the checker see both."""
        time.sleep(0.3)  # answers that arrived before the kill reach the ledger
        ends = {"ledger_end": self.size("ledger.jsonl"), "views_end": self.size("views.jsonl")}
        copy = database.copy_files(self.files.data, self.files.path("copy"))
        ready_at, now, stalls = self.nemesis.ready_at, time.time_ns() // 1000, self.nemesis.stalls()
        self.load.say("pause")
        if not self.restart():
            return False
        self.check("full", "--copy", copy, "--facts",
                   self.facts(api=True, boot=ready_at, now=now - 300000, stalls=stalls, **ends))
        self.load.say("go")
        return True

    # -- the end

    def open_runs(self):
        client = Client(self.files.server())
        found = 0
        for status in OPEN:
            answer = client.get(f"/v1/runs?status={status}&limit=500")
            found += len(answer.body.get("items", []))
        return found

    def quiesce(self):
        """Nothing new is made until everything has ended; a minute without progress is enough."""
        self.load.say("drain")
        best, since = None, time.monotonic()
        while time.monotonic() - since < 60:
            try:
                left = self.open_runs()
            except Lost:
                break
            if not left:
                break
            if best is None or left < best:
                best, since = left, time.monotonic()
            time.sleep(0.5)
        self.load.say("stop")

    def main(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without stopping what was started
        print(f"seed {self.args.seed}, work in {self.work}")
        self.nemesis.start()
        if not self.nemesis.wait_ready():
            print("the server does not start:", self.nemesis.boots[-1].get("why"))
            self.nemesis.stop()
            return 1
        self.load = None
        try:
            with open(self.files.path("load.log"), "ab") as log:
                self.load = LoadProcess(self.files, self.args.seed, log)
            with open(self.files.path("load.json"), "w") as f:
                json.dump(self.load.facts, f)
            self.cycle_all()
        finally:
            if self.load:
                self.load.end()
            self.nemesis.stop()
        return self.summary()

    def late(self):
        return self.args.minutes and time.monotonic() - self.began > self.args.minutes * 60

    def cycle_all(self):
        self.load.say("go")
        alive = True
        while alive and self.cycles < self.args.cycles and not self.late():
            alive = self.cycle()
        if not alive:
            copy = database.copy_files(self.files.data, self.files.path("copy"))
            self.check("full", "--copy", copy, "--facts", self.facts(last=True))
            return
        self.check("cycle", "--since", str(self.seen))
        self.quiesce()
        self.nemesis.look()
        self.check("final", "--facts", self.facts(last=True, boot=self.nemesis.ready_at))

    def idle(self):
        """Invariants that had nothing to look at: they have not passed."""
        there = os.path.exists(self.files.path("idle.json"))
        return set(self.files.json("idle.json")) if there else set()

    def summary(self):
        acked = sum(line["p"] == "ok" for line in read_lines(self.files.path("ledger.jsonl")))
        violations = read_lines(self.files.path("violations.jsonl"))
        failed = {v["invariant"] for v in violations}
        print(f"cycles: {self.cycles} in {time.monotonic() - self.began:.0f} s")
        print(f"acked operations: {acked}")
        print(f"kills: {self.nemesis.kills}")
        print(f"violations: {len(violations)}")
        idle = self.idle() - failed
        if idle:
            print(f"not exercised, no definition has run: {' '.join(sorted(idle))}")
        print(f"{len(CHECKS) - len(failed) - len(idle)} passed, {len(failed)} failed")
        self.ledger(acked, len(violations))
        if violations:
            for line in self.nemesis.last_words():
                print("server:", line)
            print(f"failed: {' '.join(sorted(failed))}; kept: {self.work}, seed {self.args.seed}")
            return 1
        if not self.args.dir and not self.args.keep:
            shutil.rmtree(self.work, ignore_errors=True)
        return 0


    def ledger(self, acked, failures):
        print("ledger", json.dumps({"suite": self.SUITE, "seed": self.args.seed, "cycles": self.cycles,
                                    "operations": acked, "failures": failures}))


def arguments(about):
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--baton", default="build/baton")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1000000)
    parser.add_argument("--minutes", type=float, help="nothing new is done after this long")
    parser.add_argument("--dir", help="working directory, kept (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the working directory anyway")
    return parser


if __name__ == "__main__":
    sys.exit(Test(arguments(__doc__).parse_args()).main())
