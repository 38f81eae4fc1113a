#!/usr/bin/env python3
"""The failpoint matrix: every point, every action, every operation that reaches it.

    tests/failpoints/run.py --baton build-failpoints/baton [--few] [--only OPERATION] [--depth 5]

A first pass counts which points each operation reaches and how often.  Then each of these cells is
tried: the point is armed (die, error, stall; at the first hit and the last; every write once, and
from it on for ever), the operation is asked for, a server that died is started again, and the
operation must come to its good end.  Afterwards the invariants of the crash test judge everything
that was asked, answered and stored.  --few tries each point and action once instead of everywhere.
Ends with `N passed, N failed`, which counts cells.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "crash"))

import database
from api import Client, Lost, Server
from checker import witness_lines
from invariants import World, check
from ledger import read_lines, read_ops
from load import Claimer, Load, Writer, answer_inputs, claims_result
from nemesis import Nemesis
from operations import AT, BESIDE, OPERATIONS
from points import EVER, Points, declared

UP = 20  # seconds for a start
WRITES_TRIED = 12  # writes of an operation that are failed one by one
JOBS = 2  # operations at once, each with a server of its own


class Machine:
    """A server that is started again whenever it has ended."""

    def __init__(self, baton, work):
        self.work, self.data = work, os.path.join(work, "data")
        self.points = Points(os.path.join(work, "points"))
        self.nemesis = Nemesis(baton, self.data, os.path.join(work, "server.log"),
                               dict(os.environ, BATON_FAILPOINTS=self.points.path,
                                    BATON_EGRESS_ALLOW="127.0.0.1", BATON_WEBHOOK_RETRY_SECONDS="1"))
        self.lock = threading.RLock()
        self.over = False
        self.nemesis.start()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def _watch(self):
        while not self.over:
            with self.lock:
                if self.nemesis.process.poll() is not None:
                    self.nemesis.start()
            time.sleep(0.01)

    def wait_ready(self):
        """True of the process that is there now, not of one that is about to die."""
        until = time.monotonic() + UP
        while time.monotonic() < until:
            process, client = self.nemesis.process, Client(Server(self.data), key="none", timeout=2)
            try:
                if client.get("/readyz").status == 200 and process.poll() is None:
                    return
            except Lost:
                pass
            finally:
                client.close()
            time.sleep(0.01)
        raise AssertionError(f"not ready: {self.nemesis.last_words()}")

    def end(self):
        self.over = True
        self.watcher.join()
        self.nemesis.stop()


class Actors:
    """What operations are made of: a writer and a claimer under the ledger's eyes."""

    def __init__(self, machine, seed):
        self.machine, self.seed = machine, seed
        self._load()

    def _load(self):
        arguments = argparse.Namespace(seed=self.seed, tag="", data=[self.machine.data], work=self.machine.work)
        self.load = Load(arguments)
        self.load.prepare_again = self._load
        self.load.prepare()
        self.writer, self.holder = Writer(self.load, 0), Claimer(self.load, 0)
        self.client, self.claimer = self.writer.client, self.holder.client

    def ident(self):
        return self.writer.ident()

    def op(self, *args, **more):
        return self.writer.op(*args, **more)

    def post(self, *args, **more):
        return self.writer.post(*args, **more)

    def as_claimer(self, f, path, body):
        return self.holder.post(f, path, body, claims_result, who=self.holder.who,
                                lease=body["lease_seconds"], max=1)

    def claim(self, **body):
        return self.as_claimer("claim", "/v1/runs/claim", {"lease_seconds": 60, **body})

    def empty_queue(self):
        while self.as_claimer("claim", "/v1/runs/claim", {"lease_seconds": 600, "max": 100})[1].body:
            pass

    def move(self, f, claim, body=None, **invoke):
        return self.holder.move(f, claim, body, **invoke)

    def complete(self, claim, result):
        end, answer = self.move("complete", claim, {"result": result}, result=result)
        assert end == "ok", answer and answer.body

    def in_background(self, what):
        """The same actors with connections of their own."""
        other = Actors.__new__(Actors)
        other.__dict__.update(self.__dict__)
        other.holder = Claimer(self.load, 1)
        thread = threading.Thread(target=what, args=(other,))
        thread.start()
        return thread

    def run(self, run):
        return self.client.get(f"/v1/runs/{run}").body

    def completed(self, task):
        self.decide_all()
        status = self.client.get(f"/v1/tasks/{task}").body.get("status")
        assert status != "failed"
        return status == "completed"

    def decide_all(self):
        try:
            for approval in self.client.get("/v1/approvals?status=pending&limit=50").body.get("items", []):
                self.post("decide", f"/v1/approvals/{approval['id']}/decide", {"decision": "approve"})
            answer_inputs(self.writer)
        except Lost:
            pass

    def define(self, name, steps):
        return self.client.post("/v1/definitions", {"name": name, "retry": {"max_attempts": 3, "delay_ms": 50},
                                                    "steps": steps}).body["id"]

    def definition_run(self, name):
        self.client.post(f"/v1/definitions/{self.load.definitions[name]}/runs", {"input": {}})

    def until(self, check, seconds, may=False):
        """May: it need not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if check():
                    return
            except (Lost, KeyError):
                pass
            time.sleep(0.02)
        assert may, "did not happen in time"

    # -- the server

    def back(self):
        """The server is up again, unless a fault keeps it from that."""
        self.until(lambda: Client(self.load.server).get("/readyz").status == 200, 3, may=True)

    def kill(self):
        with self.machine.lock:
            self.machine.nemesis.kill()
        self.back()

    def stop(self):
        """As a supervisor stops it: SIGTERM, and kill -9 when it takes too long."""
        with self.machine.lock:
            self.machine.nemesis.stop(5)
        self.back()

    def begin_anew(self):
        with self.machine.lock:
            self.machine.nemesis.kill()
            # The dead one's spawner may still write for a moment.
            aside = f"{self.machine.data}.{time.monotonic_ns()}"
            os.rename(self.machine.data, aside)
            shutil.rmtree(aside, ignore_errors=True)
            os.unlink(os.path.join(self.machine.work, "ledger.jsonl"))
        self.back()


class Cell:
    def __init__(self, operation, point, action, first=1, last=None):
        self.operation, self.point, self.action = operation, point, action
        self.first, self.last = first, last

    def __str__(self):
        times = f"@{self.first}" + {None: "", EVER: "…"}.get(self.last, f"-{self.last}")
        return f"{self.operation} {self.point}={self.action}{times}"


def cells_of(operation, hits, known):
    for point, n in hits.items():
        if point not in AT.get(operation, known):
            continue
        ends = sorted({1, n} if n <= 30 else {1})
        for first in ends:
            yield Cell(operation, point, "die", first)
            yield Cell(operation, point, "stall", first)
        if not known[point]:
            continue
        for first in range(1, min(n, WRITES_TRIED) + 1) if point == "write" else ends:
            yield Cell(operation, point, "error", first)
            if point == "write":
                yield Cell(operation, point, "error", first, EVER)


class Matrix:
    def __init__(self, args):
        self.args = args
        self.work = tempfile.mkdtemp(prefix="baton-failpoints-")
        os.chmod(self.work, 0o755)
        self.baton = shutil.copy(args.baton, os.path.join(self.work, "baton"))
        self.passed = self.failed = self.operations = 0
        self.taken = collections.Counter()
        self.lock = threading.Lock()

    def machine(self, name):
        work = os.path.join(self.work, name)
        os.mkdir(work)
        os.chmod(work, 0o755)
        machine = Machine(self.baton, work)
        machine.wait_ready()
        return machine

    def perform(self, a, operation, arm):
        """One operation, with whatever arm() does in its middle."""
        points, steps = a.machine.points, OPERATIONS[operation](a)
        points.clear()
        next(steps)
        points.clear()
        if operation in BESIDE:
            point, action, last = BESIDE[operation]
            points.arm(point, action, 1, last)
        arm(points)
        next(steps, None)
        time.sleep(0.02)  # what the server does after it has answered
        hits = points.hits()
        points.disarm()
        a.machine.wait_ready()
        next(steps, None)
        return hits

    def count(self, operations):
        """(operation, {point: hits}) of each, undisturbed."""
        machine = self.machine("count")
        try:
            a = Actors(machine, self.args.seed)
            return [(operation, self.perform(a, operation, lambda points: None)) for operation in operations]
        finally:
            machine.end()

    def try_cell(self, a, cell):
        began = time.monotonic()
        try:
            self.perform(a, cell.operation,
                         lambda points: points.arm(cell.point, cell.action, cell.first, cell.last))
            why = None
        except Exception:
            why = traceback.format_exc(limit=-3)
        a.machine.points.disarm()
        a.machine.wait_ready()
        with self.lock:
            self.taken[cell.point, cell.action] += a.machine.points.taken(cell.point) > 0
            self.passed += not why
            self.failed += bool(why)
        if why:
            print(f"FAILED {cell}: {why}", flush=True)
        if self.args.verbose:
            print(f"{cell}: {time.monotonic() - began:.2f} s", flush=True)

    def judge(self, a, name):
        """The invariants, on everything that was asked for in this directory."""
        machine = a.machine
        with machine.lock:
            machine.nemesis.kill()
            copy = database.copy_files(machine.data, os.path.join(machine.work, "copy"))
        ops = read_ops(read_lines(os.path.join(machine.work, "ledger.jsonl")))
        with self.lock:
            self.operations += len(ops)
        witnessed = a.load.definitions.get("crash-witness")
        facts = {"steps": [0, 2], "witnessed": database.id_number(witnessed) if witnessed else None}
        found = check(World(ops, database.load(copy), witness=witness_lines([machine.data]), facts=facts))
        for number, obj, text in found[:20]:
            print(f"VIOLATION {number} {name} {obj}: {text}", flush=True)
        with self.lock:
            self.failed += bool(found)

    def try_all(self, name, cells):
        """The cells of one operation, in a data directory of its own."""
        machine = self.machine(name)
        try:
            a = Actors(machine, self.args.seed)
            for cell in cells:
                self.try_cell(a, cell)
            self.judge(a, name)
            print(f"{name}: {len(cells)} cells", flush=True)
        finally:
            machine.end()

    def recover_often(self, depth):
        """Killed again and again while it recovers: each time at another point of the start."""
        machine = self.machine("recovery")
        points = [p for p in machine.points.names if p.startswith("boot_")]
        dice = random.Random(self.args.seed)
        try:
            a = Actors(machine, self.args.seed)
            for _ in range(2 if self.args.few else 20):
                claims = OPERATIONS["complete_run"](a)
                next(claims)
                a.definition_run("crash-witness")
                where = [dice.choice(points) for _ in range(depth)]
                with machine.lock:
                    machine.nemesis.kill()
                    for point in where:
                        machine.points.clear()
                        machine.points.arm(point, "die")
                        machine.nemesis.start()
                        if point in ("boot_migration", "boot_key"):  # only the first start of all gets there
                            machine.nemesis.wait_ready(UP)
                            machine.nemesis.kill()
                        machine.nemesis.process.wait(UP)
                    machine.points.clear()
                    machine.nemesis.start()
                machine.wait_ready()
                next(claims)
                next(claims, None)
                self.passed += 1
            self.judge(a, "recovery")
        except Exception:
            self.failed += 1
            print("FAILED recovery:", traceback.format_exc(limit=-3))
        finally:
            machine.end()

    def cells(self):
        """(operation, its cells) of all; with --few each point and action appears once."""
        seen, known = set(), declared()
        for operation, hits in self.count(self.args.only.split(",") if self.args.only else OPERATIONS):
            cells = list(cells_of(operation, hits, known))
            if self.args.few:
                cells = [c for c in cells if (c.point, c.action) not in seen and not seen.add((c.point, c.action))]
            yield operation, cells

    def unreached(self):
        for point, fails in declared().items():
            for action in ("die", "stall") + ("error",) * fails:
                if not self.taken[point, action]:
                    yield f"{point}={action}"

    def main(self):
        began = time.monotonic()
        try:
            with concurrent.futures.ThreadPoolExecutor(JOBS) as jobs:
                list(jobs.map(lambda job: self.try_all(*job), [c for c in self.cells() if c[1]]))
            if not self.args.only:
                self.recover_often(self.args.depth)
                missed = list(self.unreached())
                self.failed += len(missed)
                for cell in missed:
                    print(f"FAILED {cell}: no operation takes it", flush=True)
        finally:
            if self.failed or self.args.keep:
                print(f"kept: {self.work}")
            else:
                shutil.rmtree(self.work, ignore_errors=True)
        print(f"{time.monotonic() - began:.0f} s, {self.operations} requests")
        print(f"{self.passed} passed, {self.failed} failed")
        print("ledger", json.dumps({"suite": "failpoints", "seed": self.args.seed, "cycles": self.passed + self.failed,
                                    "operations": self.operations, "failures": self.failed}))
        return 1 if self.failed or not self.passed else 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--baton", default="build-failpoints/src/server/baton")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--few", action="store_true", help="each point and action once")
    parser.add_argument("--only", help="these operations, with commas")
    parser.add_argument("--depth", type=int, default=5, help="kills during one recovery")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return Matrix(parser.parse_args()).main()


if __name__ == "__main__":
    sys.exit(main())
