#!/usr/bin/env python3
"""Crash test: load, random kill -9, restart; then a checker that shares no code with the server.

    run.py --baton build/baton --cycles 100 [--seed N] [--keep]

Load writes a ledger, one fsynced JSON line before each request (invoke) and one after (ok, fail,
info = nobody knows).  The checker reads the ledger, the API and a copy of the database and names the
violated invariant:

  I1 acknowledged work is readable    I2 refused work left nothing     I3 one object for one key
  I5 the storage is sound             I7 only published moves          I8 rows equal folded events
  I11 one live lease at a time        I13 stale tokens move nothing    I14 tokens are bound to a run
  I16 leases end or are offered again I17 one result for a run         I22 nothing ready is forgotten
  I27 event numbers have no gap       I29 streams are ordered, unique and complete
  I31 what was acknowledged is in a stream opened afterwards
"""
import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

INVARIANTS = ["I1", "I2", "I3", "I5", "I7", "I8", "I11", "I13", "I14", "I16", "I17", "I22", "I27",
              "I29", "I31"]
RUN = ["queued", "claimed", "starting", "running", "awaiting_approval", "awaiting_input",
       "awaiting_subtask", "awaiting_parallel", "sleeping", "completed", "failed", "canceled",
       "timed_out"]
TASK = ["draft", "pending", "blocked", "ready", "in_progress", "completed", "failed", "canceled"]
ENDED = {"completed", "failed", "canceled", "timed_out"}
WAITING = {"awaiting_approval", "awaiting_input", "awaiting_subtask", "awaiting_parallel", "sleeping"}
BAD_END = {"failed", "canceled", "timed_out"}
NEXT = {
    None: {"queued"},
    "queued": {"claimed"} | BAD_END,
    "claimed": {"starting", "queued", "completed"} | BAD_END,
    "starting": {"running", "queued", "completed"} | BAD_END,
    "running": WAITING | {"queued", "completed"} | BAD_END,
    **{w: {"queued"} | BAD_END for w in WAITING},
    **{e: set() for e in ENDED},
}
STATUS_OF = {10: "queued", 11: "claimed", 12: "starting", 13: "running", 19: "awaiting_approval",
             21: "awaiting_subtask", 22: "awaiting_parallel", 23: "sleeping", 24: "running",
             25: "queued", 26: "queued", 27: "queued", 28: "completed", 29: "failed",
             30: "canceled", 31: "timed_out"}
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def number(text):
    value = 0
    for c in text.split("_", 1)[1]:
        value = value * 32 + DIGITS.index(c)
    return value


def text(prefix, value):
    return prefix + "_" + "".join(DIGITS[value >> shift & 31] for shift in range(60, -1, -5))


class Ledger:
    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()
        self.rows = []

    def write(self, **row):
        with self.lock:
            self.file.write((json.dumps(row) + "\n").encode())
            os.fsync(self.file.fileno())
            self.rows.append(row)


class Server:
    def __init__(self, baton, data):
        self.baton, self.data = baton, data
        self.process = None

    def start(self, wait=True):
        listen = self.data / "listen"
        listen.unlink(missing_ok=True)
        with open(str(self.data) + ".log", "ab") as log:
            self.process = subprocess.Popen(
                [self.baton, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0"],
                stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 5
        while wait and time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError("the server does not start; see %s.log" % self.data)
            if listen.exists():
                self.port = int(listen.read_text().rsplit(":", 1)[1])
                self.key = (self.data / "admin.key").read_text()
                try:
                    if self.call("GET", "/readyz")[0] == 200:
                        return
                except OSError:
                    pass
            time.sleep(0.005)
        if wait:
            raise RuntimeError("the server is not ready within 5 s")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method, path, body=None, headers=None, connection=None):
        c = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        c.request(method, path, None if body is None else json.dumps(body),
                  {"Authorization": "Bearer " + self.key, **(headers or {})})
        answer = c.getresponse()
        data = answer.read()
        if not connection:
            c.close()
        return answer.status, (json.loads(data) if data else None)


class Load(threading.Thread):
    """One client: writes to the ledger what it asks for and what it is told."""

    def __init__(self, name, server, ledger, seed, gate):
        super().__init__(daemon=True)
        self.name, self.server, self.ledger, self.gate = name, server, ledger, gate
        self.random = random.Random(seed)
        self.n = 0
        self.held = {}     # run -> token
        self.old = []      # (run, token) given up
        self.tasks = []
        self.over = False

    def ask(self, op, method, path, body, **about):
        self.n += 1
        key = f"{self.name}-{self.n}"
        headers = {"Idempotency-Key": key} if about.pop("keyed", False) else {}
        row = dict(id=key, op=op, body=body, keyed=bool(headers), **about)
        self.ledger.write(kind="invoke", **row)
        try:
            status, answer = self.server.call(method, path, body, headers)
        except (OSError, http.client.HTTPException, ValueError):
            self.ledger.write(kind="info", id=key)
            return None, None
        self.ledger.write(kind="ok" if status < 300 else "fail", id=key, status=status,
                          answer=answer)
        return status, answer

    def create(self):
        body = {"title": f"{self.name} {self.n}", "start": self.random.random() < 0.8,
                "retry": {"delay_ms": 50, "jitter": 0}}
        keyed = self.random.random() < 0.5
        status, answer = self.ask("create", "POST", "/v1/tasks", body, keyed=keyed)
        if status == 201:
            self.tasks.append((answer.get("task") or answer)["id"])

    def batch(self):
        items = [{"title": f"{self.name} {self.n}.{i}", "start": True} for i in range(10)]
        self.ask("batch", "POST", "/v1/tasks/batch", {"items": items}, keyed=True)

    def claim(self):
        body = {"max": self.random.choice([1, 1, 10]),
                "lease_seconds": self.random.choice([1, 5, 30])}
        if self.random.random() < 0.2 and not self.held:
            body["session_id"] = self.name
        status, answer = self.ask("claim", "POST", "/v1/runs/claim", body)
        for claim in answer["claims"] if status == 200 else []:
            self.held[claim["run"]["id"]] = claim["claim_token"]

    def finish(self):
        if not self.held:
            return self.claim()
        run = self.random.choice(list(self.held))
        token = self.held[run]
        verb = self.random.choice(["complete"] * 5 + ["fail", "release", "heartbeat", "start"])
        body = {"claim_token": token}
        if verb == "complete":
            body["result"] = {"by": self.name, "n": self.n}
        if verb == "fail":
            body["error"] = "on purpose"
        status, _ = self.ask(verb, "POST", f"/v1/runs/{run}/{verb}", body, run=run)
        if status in (200, 409) and verb not in ("heartbeat", "start"):
            self.old.append((run, self.held.pop(run)))
            if verb == "complete" and status == 200 and self.random.random() < 0.3:
                self.ask("repeat", "POST", f"/v1/runs/{run}/complete", body, run=run)

    def stale(self):
        """A token that was given up, or belongs to another run, must move nothing."""
        if not self.old:
            return
        run, token = self.random.choice(self.old)
        foreign = self.random.random() < 0.5 and len(self.old) > 1
        if foreign:
            token = next(t for r, t in self.old if r != run) if any(
                r != run for r, _ in self.old) else "btk_" + "0" * 64
        self.ask("stale_foreign" if foreign else "stale", "POST", f"/v1/runs/{run}/fail",
                 {"claim_token": token, "error": "must not count"}, run=run)

    def meddle(self):
        if not self.tasks:
            return
        task = self.random.choice(self.tasks[-50:])
        verb = self.random.choice(["cancel", "retry", "patch", "start"])
        if verb == "patch":
            self.ask("patch", "PATCH", "/v1/tasks/" + task,
                     {"description": f"{self.name} {self.n}"}, task=task)
        else:
            self.ask(verb, "POST", f"/v1/tasks/{task}/{verb}", {}, task=task)

    def run(self):
        while not self.over:
            if not self.gate.wait(0.1):
                continue
            self.random.choice([self.create] * 3 + [self.batch] + [self.claim] * 2 +
                               [self.finish] * 8 + [self.stale, self.meddle])()


class Follower(threading.Thread):
    """Follows one tree over every restart by Last-Event-ID and keeps what it saw."""

    def __init__(self, server, task, gate):
        super().__init__(daemon=True)
        self.server, self.task, self.gate = server, task, gate
        self.seen, self.over = [], False

    def run(self):
        while not self.over:
            if not self.gate.wait(0.1):
                continue
            try:
                self.follow()
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.01)

    def follow(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=1)
        headers = {"Authorization": "Bearer " + self.server.key}
        if self.seen:
            headers["Last-Event-ID"] = str(self.seen[-1])
        c.request("GET", f"/v1/tasks/{self.task}/events/stream", headers=headers)
        answer = c.getresponse()
        while not self.over and answer.status == 200:
            line = answer.readline()
            if not line:
                return
            if line.startswith(b"id: "):
                self.seen.append(int(line[4:]))


class Checker:
    def __init__(self, seed):
        self.seed, self.violations = seed, collections.Counter()

    def wrong(self, invariant, what, detail):
        self.violations[invariant] += 1
        print(f"VIOLATION {invariant} {what}: {detail} (seed {self.seed})", flush=True)

    def database(self, path):
        db = sqlite3.connect(path)
        db.row_factory = sqlite3.Row
        for row in db.execute("PRAGMA integrity_check"):
            if row[0] != "ok":
                self.wrong("I5", "database", row[0])
        self.check_trees(db)
        self.check_runs(db)
        self.check_tasks(db)
        for row in db.execute("SELECT key, count(*) n FROM idempotency GROUP BY workspace_id,"
                              " principal, operation, key HAVING n > 1"):
            self.wrong("I3", row["key"], "kept twice")
        return db

    def check_trees(self, db):
        query = ("SELECT t.id, t.seq, count(e.seq) n, min(e.seq) low, max(e.seq) high FROM tree t"
                 " LEFT JOIN event e ON e.tree_id = t.id GROUP BY t.id")
        for row in db.execute(query):
            if not (row["n"] == row["seq"] == row["high"] and row["low"] == 1):
                self.wrong("I27", text("task", row["id"]), dict(row))
        for row in db.execute("SELECT count(*) n FROM event WHERE tree_id NOT IN (SELECT id FROM tree)"):
            if row["n"]:
                self.wrong("I2", "event", f"{row['n']} events without a tree")

    def check_runs(self, db):
        folded = collections.defaultdict(lambda: [None, 0])
        for row in db.execute("SELECT run_id, type, seq FROM event WHERE run_id IS NOT NULL"
                              " ORDER BY tree_id, seq"):
            state, to = folded[row["run_id"]], STATUS_OF.get(row["type"])
            if to is None:
                continue
            if to not in NEXT[state[0]]:
                self.wrong("I7", text("run", row["run_id"]), f"{state[0]} -> {to}")
            state[0] = to
            state[1] += row["type"] == 11
        ready = {row["run"] for row in db.execute("SELECT run FROM ready")}
        open_roots = collections.Counter()
        for row in db.execute("SELECT * FROM run"):
            name, status = text("run", row["id"]), RUN[row["status"]]
            if folded[row["id"]] != [status, row["epoch"]]:
                self.wrong("I8", name, f"row {status}/{row['epoch']} events {folded[row['id']]}")
            if (row["id"] in ready) != (status == "queued" and row["hold"] == 0):
                self.wrong("I22", name, f"{status} hold {row['hold']} ready {row['id'] in ready}")
            if status in ("claimed", "starting", "running") and row["lease_until"] is None:
                self.wrong("I16", name, f"{status} without a lease")
            if status == "queued" and row["hold"] & 4 and row["wake_at"] is None:
                self.wrong("I16", name, "backoff without an end")
            if (status in ENDED) != (row["ended_at"] is not None):
                self.wrong("I8", name, f"{status} ended_at {row['ended_at']}")
            open_roots[row["task_id"]] += status not in ENDED and row["kind"] == 0
        for task, n in open_roots.items():
            if n > 1:
                self.wrong("I11", text("task", task), f"{n} open runs")

    def check_tasks(self, db):
        runs = collections.defaultdict(list)
        for row in db.execute("SELECT id, task_id, status, attempt FROM run WHERE kind = 0 ORDER BY id"):
            runs[row["task_id"]].append((RUN[row["status"]], row["attempt"]))
        for row in db.execute("SELECT * FROM task"):
            want, have = self.derive(row, runs[row["id"]]), TASK[row["status"]]
            if want != have:
                self.wrong("I8", text("task", row["id"]), f"stored {have}, facts give {want}")

    @staticmethod
    def derive(row, runs):
        stored = TASK[row["status"]]
        if stored in ("draft", "canceled"):
            return stored
        live = [s for s, _ in runs if s not in ENDED]
        if live:
            return "ready" if live[-1] in ("queued", "claimed") else "in_progress"
        ended = [s for s, _ in runs if s != "canceled"]
        if not ended:
            return "ready"
        if ended[-1] == "completed":
            return "completed"
        spent = max(a for _, a in runs) >= row["max_attempts"]
        return "failed" if spent else "ready"

    def ledger(self, rows, db, server):
        answers = {r["id"]: r for r in rows if r["kind"] != "invoke"}
        tasks = {r["id"]: r for r in db.execute("SELECT * FROM task")}
        runs = {r["id"]: r for r in db.execute("SELECT * FROM run")}
        titles = collections.Counter(t["title"] for t in tasks.values())
        completions = collections.defaultdict(list)
        for row in (r for r in rows if r["kind"] == "invoke"):
            end = answers.get(row["id"], {"kind": "info"})
            check = getattr(self, "after_" + row["op"], None)
            if check:
                check(row, end, tasks, runs, titles)
            if row["op"] == "complete" and end["kind"] == "ok":
                completions[row["run"]].append(row["body"]["result"])
        for run, results in completions.items():
            if any(r != results[0] for r in results):
                self.wrong("I17", run, f"two results were accepted: {results}")
            if json.loads(runs[number(run)]["result"] or "null") != results[0]:
                self.wrong("I1", run, "the accepted result is not the stored one")
        self.replay(rows, answers, server)

    def after_create(self, row, end, tasks, runs, titles):
        title, started = row["body"]["title"], row["body"]["start"]
        if end["kind"] == "ok":
            task = (end["answer"].get("task") or end["answer"])["id"]
            if number(task) not in tasks or tasks[number(task)]["title"] != title:
                self.wrong("I1", task, "an acknowledged task is gone")
            elif started and number(end["answer"]["run"]["id"]) not in runs:
                self.wrong("I1", end["answer"]["run"]["id"], "an acknowledged run is gone")
        if end["kind"] == "fail" and titles[title]:
            self.wrong("I2", title, "a refused create left a task")
        if titles[title] > 1:
            self.wrong("I3", title, f"created {titles[title]} times")

    def after_batch(self, row, end, tasks, runs, titles):
        there = sum(titles[i["title"]] for i in row["body"]["items"])
        want = {"ok": {len(row["body"]["items"])}, "fail": {0},
                "info": {0, len(row["body"]["items"])}}[end["kind"]]
        if there not in want:
            self.wrong("I2" if end["kind"] != "ok" else "I1", row["id"], f"{there} of a batch")

    def after_claim(self, row, end, tasks, runs, titles):
        for claim in (end["answer"] or {}).get("claims", []) if end["kind"] == "ok" else []:
            if runs[number(claim["run"]["id"])]["epoch"] < claim["run"]["epoch"]:
                self.wrong("I1", claim["run"]["id"], "a granted claim is forgotten")

    def after_stale(self, row, end, tasks, runs, titles):
        if end["kind"] == "ok" or runs[number(row["run"])]["error"] == "must not count":
            self.wrong("I13", row["run"], "a stale token moved the run")

    def after_stale_foreign(self, row, end, tasks, runs, titles):
        if end["kind"] == "ok" or runs[number(row["run"])]["error"] == "must not count":
            self.wrong("I14", row["run"], "another run's token moved the run")

    def after_repeat(self, row, end, tasks, runs, titles):
        if end["kind"] == "fail" and end["status"] < 500:
            self.wrong("I17", row["run"], f"an identical completion was refused: {end['answer']}")

    def after_patch(self, row, end, tasks, runs, titles):
        if end["kind"] == "ok" and tasks[number(row["task"])]["description"] is None:
            self.wrong("I1", row["task"], "an acknowledged patch is gone")

    def replay(self, rows, answers, server):
        """The same key and body again: the same answer; another body: refused."""
        keyed = [r for r in rows if r["kind"] == "invoke" and r["keyed"] and r["op"] == "create" and
                 answers.get(r["id"], {}).get("kind") == "ok"]
        for row in random.Random(self.seed).sample(keyed, min(100, len(keyed))):
            headers = {"Idempotency-Key": row["id"]}
            _, again = server.call("POST", "/v1/tasks", row["body"], headers)
            if again != answers[row["id"]]["answer"]:
                self.wrong("I3", row["id"], "another answer for the same key")
            status, _ = server.call("POST", "/v1/tasks", {"title": "another"}, headers)
            if status != 422:
                self.wrong("I3", row["id"], f"another body got {status}")

    def leases(self, rows):
        """Between two grants of a run its first lease must have ended."""
        grants = collections.defaultdict(set)
        for row in rows:
            for claim in (row.get("answer") or {}).get("claims", []) if row["kind"] == "ok" else []:
                epoch = claim["run"]["epoch"]
                if epoch in grants[claim["run"]["id"]]:
                    self.wrong("I11", claim["run"]["id"], f"epoch {epoch} was granted twice")
                grants[claim["run"]["id"]].add(epoch)

    def streams(self, followers, db):
        for f in followers:
            head = db.execute("SELECT seq FROM tree WHERE id = ?", [number(f.task)]).fetchone()[0]
            if f.seen != sorted(set(f.seen)):
                self.wrong("I29", f.task, "events out of order or repeated")
            if f.seen != list(range(1, len(f.seen) + 1)):
                self.wrong("I29", f.task, f"a gap: {f.seen}")
            if len(f.seen) != head:
                self.wrong("I31", f.task, f"saw {len(f.seen)} of {head} events")


def copy_database(server):
    path = tempfile.mktemp(suffix=".db")
    source, copy = sqlite3.connect(server.data / "baton.db"), sqlite3.connect(path)
    source.backup(copy)
    source.close(), copy.close()
    return path


def quiesce(server):
    """No clients any more: every lease ends and every run is offered again or ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = []
        for status in ("claimed", "starting", "running"):
            held += server.call("GET", f"/v1/runs?status={status}&limit=500")[1]["items"]
        if not held:
            return True
        time.sleep(0.5)
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--baton", default="build/baton")
    parser.add_argument("--cycles", type=int, default=15)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    home = pathlib.Path(tempfile.mkdtemp(prefix="baton-crash-"))
    print(f"seed {options.seed}, data {home}", flush=True)
    server = Server(os.path.abspath(options.baton), home / "data")
    ledger, gate = Ledger(home / "ledger.jsonl"), threading.Event()
    checker, kills = Checker(options.seed), 0
    server.start()
    followed = [server.call("POST", "/v1/tasks", {"title": f"followed {i}"})[1]["id"]
                for i in range(4)]
    clients = [Load(f"c{i}", server, ledger, dice.random(), gate) for i in range(8)]
    followers = [Follower(server, task, gate) for task in followed]
    for i, client in enumerate(clients):
        client.tasks.append(followed[i % 4])
    for thread in clients + followers:
        thread.start()
    for cycle in range(options.cycles):
        gate.set()
        time.sleep(dice.uniform(0.02, 0.8) if dice.random() < 0.7 else dice.uniform(1, 3))
        server.kill()
        gate.clear()
        kills += 1
        while dice.random() < 0.2:
            server.start(wait=False)
            time.sleep(dice.uniform(0, 0.1))
            server.kill()
            kills += 1
        server.start()
        if cycle % 10 == 9:
            path = copy_database(server)
            checker.database(path).close()
            os.unlink(path)
    gate.set()
    time.sleep(1)
    for client in clients:
        client.over = True
    for client in clients:
        client.join()
    if not quiesce(server):
        checker.wrong("I16", "runs", "leases did not end within 60 s of uptime")
    time.sleep(1)
    path = copy_database(server)
    db = checker.database(path)
    checker.streams(followers, db)
    checker.ledger(ledger.rows, db, server)
    checker.leases(ledger.rows)
    for follower in followers:
        follower.over = True
    server.kill()
    kinds = collections.Counter(r["kind"] for r in ledger.rows)
    acked = kinds["ok"]
    print(f"{options.cycles} cycles, {kills} kills, {acked} acknowledged operations,"
          f" {kinds['fail']} refused, {kinds['info']} unknown,"
          f" {sum(checker.violations.values())} violations", flush=True)
    failed = len(checker.violations)
    if not failed and not options.keep:
        shutil.rmtree(home)
    os.unlink(path)
    print(f"{len(INVARIANTS) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not acked else 0)


if __name__ == "__main__":
    main()
