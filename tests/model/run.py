#!/usr/bin/env python3
"""The model-based test: random operations by several actors, asked of a real server and of model.py.

    tests/model/run.py --baton build/baton [--sequences 5000] [--operations 30] [--seed S] [--jobs 2] [--beside]
    tests/model/run.py --baton build/baton --replay '[{"do": …}, …]'

After each operation the class of the answer and everything that can be seen are compared.  With STORE=postgres in the
environment the server has a PostgreSQL instead of a file; with --beside there is one of each, which must not differ in
anything that they say (beside.py).  Sequence i is made of seed S + i alone.  One that fails is made as short as it gets
and printed in one line that --replay takes.  Ends with `N passed, N failed`, which counts sequences.
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from beside import Beside
from driver import Disagreement, Sequence, Server, make_keys
from generator import Generator
from model import Model

PATIENCE = 30        # seconds for the server to begin
FAILURES = 10        # sequences that may fail before the rest is left out
STORES = pathlib.Path(__file__).parents[1] / "postgres"
ROUND = 500          # sequences that a server is asked: each leaves a workspace with lanes, which claims look through
TMPFS, ROOM = pathlib.Path("/dev/shm"), 4 << 30


class Baton:
    """A server of its own.  Its data is in memory where there is room: syncing is not what is tested here."""

    def __init__(self, program, store):
        there = TMPFS.is_dir() and os.access(TMPFS, os.W_OK) and shutil.disk_usage(TMPFS).free > ROOM
        self.home = tempfile.TemporaryDirectory(prefix="baton-model-", dir=TMPFS if there else None)
        self.data = pathlib.Path(self.home.name) / "data"
        self.log = open(os.path.join(self.home.name, "log"), "w+")
        command = [program, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--concurrency", "0"]
        self.cluster = None
        if store == "postgres":
            sys.path.append(str(STORES))
            from cluster import Cluster
            self.cluster = Cluster(TMPFS if there else None)
            command += ["--store", self.cluster.database()]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE
        while not (self.data / "listen").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the server did not start:\n" + open(self.log.name).read())
            time.sleep(0.05)
        place = [(self.data / name).read_text().strip() for name in ("listen", "admin.key")]
        self.place = (*place, make_keys(*place))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        if self.cluster:
            self.cluster.remove()
        self.home.cleanup()


def generate(seed, length):
    """The operations of a seed: what the model would do with each decides what comes next, and nothing else."""
    model, generator = Model(), Generator(random.Random(seed))
    ops = generator.begin()
    for op in ops:
        model.apply(op)
    for _ in range(length):
        ops.append(json.loads(json.dumps(generator.next(model, len(ops)))))
        model.apply(ops[-1])
    return ops


@contextlib.contextmanager
def serving(program, stores):
    """The places of servers of their own: address, key and the keys of the actors."""
    with contextlib.ExitStack() as ends:
        batons = [Baton(program, store) for store in stores]
        for baton in batons:
            ends.callback(baton.stop)
        yield [baton.place for baton in batons]


def connect(places):
    servers = [Server(*place) for place in places]
    return servers if len(servers) > 1 else servers[0]


def fails(server, ops):
    """None, or the number of the operation at which the two disagree, and how; of several servers, the two of those too."""
    sequence = Beside(server) if isinstance(server, list) else Sequence(server)
    try:
        sequence.run(ops)
    except Disagreement as said:
        return len(sequence.answers) - 1, str(said)
    except (LookupError, TypeError, ValueError) as odd:  # an answer without what belongs into it
        return len(sequence.answers) - 1, repr(odd)
    return None


def shrink(server, ops, said):
    """Leaves out what it fails without, larger pieces first."""
    ops = ops[:said[0] + 1]
    piece = max(1, len(ops) // 2)
    while True:
        at = 0
        while at < len(ops):
            fewer = ops[:at] + ops[at + piece:]
            again = fails(server, fewer) if fewer else None
            if again:
                ops, said = fewer[:again[0] + 1], again
            else:
                at += piece
        if piece == 1:
            return simplify(server, ops, said)
        piece //= 2


def simplify(server, ops, said):
    """Leaves out members of bodies, and keys."""
    for at in range(len(ops)):
        for member in list(ops[at].get("body", ())) + ["key"]:
            op = {**ops[at], "body": {k: v for k, v in ops[at].get("body", {}).items() if k != member}}
            if member == "key":
                op.pop("key", None)
            if "body" not in ops[at]:
                del op["body"]
            if op == ops[at] or member in ("title", "error", "decision"):
                continue
            fewer = [*ops[:at], op, *ops[at + 1:]]
            again = fails(server, fewer)
            if again and again[0] == said[0]:
                ops, said = fewer, again
    return ops, said


def begin(*places):
    global server
    server = connect(places)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def one(job):
    """A sequence's failure as a line, or None."""
    seed, length = job
    ops = generate(seed, length)
    try:
        said = fails(server, ops)
        if not said:
            return None
        ops, said = shrink(server, ops, said)
    except OSError as lost:
        said = len(ops) - 1, f"the server is gone: {lost}"
    return f"seed {seed}: operation {said[0] + 1} of {len(ops)}: {said[1]} --replay {shlex.quote(json.dumps(ops))}"


def replay(program, stores, ops):
    with serving(program, stores) as places:
        said = fails(connect(places), ops)
    print(f"operation {said[0] + 1}: {said[1]}" if said else "both agree")
    return said is not None


def ask(program, stores, jobs, processes):
    """A line for each sequence, asked of servers of their own."""
    with serving(program, stores) as places, multiprocessing.Pool(processes, begin, places) as pool:
        yield from pool.imap_unordered(one, jobs, chunksize=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--baton", default="build/baton")
    parser.add_argument("--sequences", type=int, default=5000)
    parser.add_argument("--operations", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=min(4, 2 * (os.cpu_count() or 1)))
    parser.add_argument("--beside", action="store_true", help="two servers, one on a file and one on PostgreSQL")
    parser.add_argument("--replay", help="operations, as a failure prints them")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without stopping the server
    stores = ("file", "postgres") if args.beside else (os.environ.get("STORE"),)
    if args.replay:
        return int(replay(args.baton, stores, json.loads(args.replay)))
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**9)
    began, failed, done = time.monotonic(), 0, 0
    print(f"seed {seed}", flush=True)
    while done < args.sequences and failed < FAILURES:
        seeds = range(seed + done, seed + min(done + ROUND, args.sequences))
        for line in ask(args.baton, stores, [(one_seed, args.operations) for one_seed in seeds], args.jobs):
            done += 1
            if line:
                failed += 1
                print(line, flush=True)
            if failed == FAILURES:
                break
    print(f"{done * args.operations} operations in {time.monotonic() - began:.0f} s")
    print(f"{done - failed} passed, {failed} failed")
    print("ledger", json.dumps({"suite": "beside" if args.beside else "model", "seed": seed, "cycles": done, "operations": done * args.operations,
                                "failures": failed}))
    return int(failed > 0 or not done)


if __name__ == "__main__":
    sys.exit(main())
