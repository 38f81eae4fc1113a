"""The checker: reads ledger, API and a copy of the database, and prints what is violated.

    checker.py cycle  --work DIR --since OFFSET   the objects acknowledged since then are readable
    checker.py full   --work DIR --copy DB        every invariant, on a copy made after a kill
    checker.py final  --work DIR                  the same at rest, after probing the server again

Each violation is one line with the invariant's number, the object and the seed, and one JSON line
in DIR/violations.jsonl.  Exit status 1 if there was any.
"""

import argparse
import itertools
import json
import os
import random
import sys
import time

import database
from api import Client, Lost, Server
from invariants import TERMINAL, World, check
from ledger import Ledger, read_lines, read_ops
from load import WITNESS, Actor, started

SHOWN = 20  # violations of one invariant that are printed


class Files:
    """What lies in the working directory; servers.json says more of several servers on one database."""

    def __init__(self, work):
        self.work = work
        self.data = os.path.join(work, "data")
        there = os.path.exists(self.path("servers.json"))
        more = self.json("servers.json") if there else {"data": [self.data], "store": self.data}
        self.places, self.store = more["data"], more["store"]

    def path(self, name):
        return os.path.join(self.work, name)

    def server(self):
        return Server(*self.places)

    def json(self, name):
        with open(self.path(name)) as f:
            return json.load(f)


def witness_lines(places):
    """(run, step, nanoseconds) of every complete line that commands have appended."""
    found = []
    for folder, _, names in itertools.chain.from_iterable(map(os.walk, places)):
        if WITNESS in names:
            with open(os.path.join(folder, WITNESS)) as f:
                for line in f.read().split("\n")[:-1]:
                    run, step, nanoseconds = line.split()
                    found.append((run, int(step), int(nanoseconds)))
    return found


def read_api(client):
    tasks = {t["id"]: t for t in client.all("/v1/tasks")}
    runs = {r["id"]: r for r in client.all("/v1/runs")}
    return {"tasks": tasks, "runs": runs}


def build_world(files, facts, snapshot, ops, api):
    views = read_lines(files.path("views.jsonl"), end=facts.get("views_end"))
    witnessed = files.json("load.json")["definitions"].get("crash-witness")
    facts = dict(facts, steps=[0, 2],
                 witnessed=database.id_number(witnessed) if witnessed else None)
    return World(ops, snapshot, views, api, witness_lines(files.places), facts)


# ---- cheap: what was acknowledged lately is readable ----


def check_cycle(files, since, most=80):
    ops = read_ops(read_lines(files.path("ledger.jsonl"), since))
    client = Client(files.server())
    acked = []
    for op in ops:
        if op.ok and op.f in ("create", "defrun", "start", "retry"):
            acked.append((op, op.r.get("task") or op.task, op.r.get("run")))
        elif op.ok and op.f == "batch":
            acked += [(op, i["task"], i.get("run")) for i in op.r["items"] if "task" in i]
    if len(acked) > most:
        acked = random.Random(since).sample(acked, most)
    for op, task, run in acked:
        for path, ident in (("tasks", task), ("runs", run)):
            if not ident:
                continue
            answer = client.get(f"/v1/{path}/{ident}")
            if answer.status != 200 or answer.body.get("id") != ident:
                yield "I1", ident, f"acknowledged by {op.f} {op.id}, GET answers {answer.status}"
            elif path == "tasks" and op.f == "create":
                if answer.body.get("identifier") != op.marker:
                    yield "I1", ident, f"identifier is {answer.body.get('identifier')!r}"


# ---- probes at rest ----


class Probe(Actor):
    """Asks the resting server once more what must not work or must not change."""

    def __init__(self, files, seed, ops, snapshot):
        self.files, self.ops, self.db = files, ops, snapshot
        shared = type("Shared", (), {})()
        shared.seed, shared.tag = seed, "probe-"
        shared.server = files.server()
        shared.ledger = Ledger(files.path("probe.jsonl"))
        super().__init__(shared, f"p{time.time_ns() // 1000}")
        self.admin = self.client
        self.secrets, self.holders = files.json("load.json")["keys"], {}

    def all(self):
        self.unchanged("stale tokens", self.stale_tokens)
        self.unchanged("completions again", self.completions)
        self.unchanged("keys again", self.keys)
        self.unchanged("ended tasks", self.ended)
        self.resume()
        self.joined()

    def unchanged(self, about, what):
        """None of this changes a row."""
        before = self.digest()
        what()
        self.client = self.admin
        after = self.digest()
        self.op("digest", lambda c: Measured({"before": before, "after": after}),
                lambda body: body, about=about)

    def digest(self):
        return database.digest(database.copy_live(self.files.store, self.files.path("digest")))

    def sample(self, items, n):
        return self.random.sample(items, min(n, len(items)))

    def tokens(self):
        """(claim, operation) of every claim that was acknowledged."""
        return [(c, op) for op in self.ops if op.f == "claim" and op.ok for c in op.r["claims"]]

    def move(self, f, claim, who, body, expect, **invoke):
        """As the holder would ask, with the holder's key."""
        self.client = self.holders.setdefault(who, Client(self.load.server, self.secrets.get(who)))
        body = dict(body or {}, claim_token=claim["token"])
        path = f"/v1/runs/{claim['run']}/{'start' if f == 'begin' else f}"
        self.post(f, path, body, run=claim["run"], epoch=claim["epoch"], expect=expect, **invoke)

    def stale_tokens(self):
        never = {"result": {"probe": "never sent before"}}
        bodies = {"complete": never, "fail": {"error": "probe"}}
        for claim, op in self.sample(self.tokens(), 150):
            f = self.random.choice(["begin", "heartbeat", "fail", "release", "complete"])
            sent = never if f == "complete" else {}
            self.move(f, claim, op.who, bodies.get(f), "stale", **sent)

    def completions(self):
        done = {(op.run, op.epoch): op for op in self.ops
                if op.f == "complete" and op.ok and not op.expect}
        granted = {(c["run"], c["epoch"]): (c, op.who) for c, op in self.tokens()}
        for at in self.sample(sorted(done.keys() & granted.keys()), 60):
            claim, who = granted[at]
            result = done[at].result
            self.move("complete", claim, who, {"result": result}, "repeat", result=result)
            other = {"probe": result}
            self.move("complete", claim, who, {"result": other}, "different", result=other)

    def keys(self):
        known = [op for op in self.ops if op.f == "create" and op.key and op.ok]
        for op in self.sample(known, 60):
            if op.expect == "mismatch":
                continue
            self.post("create", "/v1/tasks", op.sent, started, op.key, marker=op.marker,
                      sent=op.sent)
            other = dict(op.sent, description="another body")
            self.post("create", "/v1/tasks", other, started, op.key, marker=op.marker,
                      sent=other, expect="mismatch")

    def ended(self):
        """A canceled task is never started again; a run that has ended is never claimed."""
        canceled = [t for t in self.db.task if t["status"] == "canceled"]
        for task in self.sample(canceled, 20):
            ident = database.wire_id("task", task["id"])
            for f in "start", "retry":
                self.post(f, f"/v1/tasks/{ident}/{f}", {}, started, task=ident, expect="terminal")
        ended = [r for r in self.db.run if r["status"] in TERMINAL]
        for run in self.sample(ended, 20):
            ident = database.wire_id("run", run["id"])
            self.post("claim_one", f"/v1/runs/{ident}/claim", {"lease_seconds": 2}, task=ident,
                      expect="terminal")

    def resume(self):
        trees = [(tree, len(events)) for tree, events in sorted(self.db.events_of_tree.items())]
        for tree, head in self.sample(trees, 40):
            task = database.wire_id("task", tree)
            path = f"/v1/tasks/{task}/events/stream"
            last = self.random.randint(0, head - 1)
            ids = list(range(last + 1, head + 1))
            self.op("resume", lambda c: follow(c, path, last, len(ids)), lambda body: body,
                    stream=task, last=last, want="events", ids=ids)
            above = head + self.random.randint(1, 50)
            self.op("resume", lambda c: follow(c, path, above, 1), stream=task, last=above,
                    want=400)
        ended = [r for r in self.db.run if r["status"] in TERMINAL]
        for run in self.sample(ended, 40):
            self.resume_run(run)

    def resume_run(self, run):
        ident, task = (database.wire_id(p, run[f]) for p, f in (("run", "id"), ("task", "task_id")))
        path = f"/v1/tasks/{task}/runs/{ident}/events/stream"
        # its reviews come after its end, and are told to those who follow the task
        numbers = [e["seq"] for e in self.db.events_of_run[run["id"]] if not e["type"].startswith("run.review_")]
        last = self.random.choice([0] + numbers[:-1])
        ids = [n for n in numbers if n > last]
        self.op("resume", lambda c: follow(c, path, last, None), lambda body: body,
                stream=ident, last=last, want="events", ids=ids)
        self.op("resume", lambda c: follow(c, path, numbers[-1], None), lambda body: body,
                stream=ident, last=numbers[-1], want=204)

    def joined(self):
        """A parallel's output lists its branches in order, as they really ended."""
        parents = [self.db.runs[j["run_id"]] for j in self.db.join_point
                   if self.db.runs.get(j["run_id"], {}).get("status") == "completed"]
        for parent in self.sample(parents, 40):
            ident = database.wire_id("run", parent["id"])
            for join in self.db.join_point:
                children = self.db.children.get(parent["id"], [])
                if join["run_id"] == parent["id"] and children[0]["kind"] == "branch":
                    self.one_join(ident, join["step_index"], children)

    def one_join(self, ident, index, children):
        children = [c for c in children if c["parent_step_index"] == index]
        latest = max(c["attempt"] for c in children)
        expected = sorted([c["branch_index"], database.wire_id("run", c["id"]), c["status"]]
                          for c in children if c["attempt"] == latest)

        def branches(body):
            step = next(s for s in body["items"] if s["index"] == index)
            return {"children": expected, "branches": [
                [b["index"], b["run_id"], b["status"]] for b in step["output"]["branches"]]}

        self.op("joined", lambda c: c.get(f"/v1/runs/{ident}/steps"), branches, run=ident)


class Measured:
    """Something the checker found out by itself, in the shape of an answer."""

    def __init__(self, body, status=200, code=None):
        self.body, self.status, self.code = body, status, code


def follow(client, path, last, n):
    """The ids that a stream gives after `last`: n of them, or all until its end."""
    stream = client.stream(path, last, timeout=2)
    ids = []
    try:
        while stream.status == 200 and (n is None or len(ids) < n):
            frame = stream.next()
            if frame is None or frame[1] == "stream.end":
                break
            ids.append(frame[0])
    except TimeoutError:
        pass
    finally:
        stream.close()
    return Measured({"ids": ids}, stream.status, stream.code)


# ---- phases ----


def check_full(files, copy, facts):
    lines = read_lines(files.path("ledger.jsonl"), end=facts.get("ledger_end"))
    api = read_api(Client(files.server(), timeout=60)) if facts.get("api") else None
    return check(build_world(files, facts, database.load(copy), read_ops(lines), api))


def check_final(files, facts, seed):
    ops = read_ops(read_lines(files.path("ledger.jsonl")))
    before = database.load(database.copy_live(files.store, files.path("copy")))
    Probe(files, seed, ops, before).all()
    copy = database.copy_live(files.store, files.path("copy"))
    facts = dict(facts, quiet=True, final=True, now=time.time_ns() // 1000)
    ops += read_ops(read_lines(files.path("probe.jsonl")))
    api = read_api(Client(files.server(), timeout=60))
    world = build_world(files, facts, database.load(copy), ops, api)
    report_coverage(files, world)
    return check(world)


def report_coverage(files, w):
    """What the run has really exercised: a test that did nothing finds nothing."""
    idle = [number for number, material in (("I20", w.db.step), ("I21", w.db.join_point))
            if not material]
    with open(files.path("idle.json"), "w") as f:
        json.dump(idle, f)
    types = {}
    for e in w.db.event:
        types[e["type"]] = types.get(e["type"], 0) + 1
    forms = {f: sum(op.ok for op in ops) for f, ops in sorted(w.by.items())}
    unknown = sum(op.end == "info" for op in w.ops)
    print("acked by kind:", " ".join(f"{f}={n}" for f, n in forms.items()), f"unknown={unknown}")
    print("events:", " ".join(f"{t}={n}" for t, n in sorted(types.items())))
    print(f"tasks={len(w.db.task)} runs={len(w.db.run)} joins={len(w.db.join_point)}"
          f" witness lines={len(w.witness)} stream lines={len(w.views)}")


def report(files, found, seed):
    shown = {}
    known = {(v["invariant"], v["object"], v["text"])
             for v in read_lines(files.path("violations.jsonl"))}
    with open(files.path("violations.jsonl"), "a") as f:
        for number, obj, text in found:
            if (number, obj, text) in known:
                continue  # an earlier check has told it
            f.write(json.dumps({"invariant": number, "object": obj, "text": text}) + "\n")
            shown[number] = shown.get(number, 0) + 1
            if shown[number] <= SHOWN:
                print(f"VIOLATION {number} {obj} seed={seed}: {text}")
    for number, n in shown.items():
        if n > SHOWN:
            print(f"VIOLATION {number}: {n - SHOWN} more, see violations.jsonl")
    return 1 if found else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=["cycle", "full", "final"])
    parser.add_argument("--work", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--since", type=int, default=0)
    parser.add_argument("--copy")
    parser.add_argument("--facts", type=json.loads, default={})
    args = parser.parse_args()
    files = Files(args.work)
    try:
        if args.phase == "cycle":
            found = list(check_cycle(files, args.since))
        elif args.phase == "full":
            found = check_full(files, args.copy, args.facts)
        else:
            found = check_final(files, args.facts, args.seed)
    except Lost as e:
        found = [("UP", "server", f"did not answer the checker: {e}")]
    return report(files, found, args.seed)


if __name__ == "__main__":
    sys.exit(main())
