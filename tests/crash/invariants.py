"""The invariants, one function each: a World goes in, violations come out.

A World is everything that was observed: the operations of the ledger, a snapshot of the database,
what the stream readers saw, what the API lists and the witness lines of commands.  The functions
only compare; they ask nobody.
"""

import collections
import json

from database import AUDIT_ACTION, HOLD_BACKOFF, id_number, wire_id

TERMINAL = {"completed", "failed", "canceled", "timed_out"}
LEASED = {"claimed", "starting", "running"}
WAITING = {"awaiting_approval", "awaiting_input", "awaiting_subtask", "awaiting_parallel",
           "sleeping"}
BADLY = {"failed", "canceled", "timed_out"}
NEXT = {
    None: {"queued"},
    "queued": {"claimed"} | BADLY,
    "claimed": {"starting", "queued", "completed"} | BADLY,
    "starting": {"running", "queued", "completed"} | BADLY,
    "running": WAITING | {"queued", "completed"} | BADLY,
    **{state: {"queued"} | BADLY for state in WAITING},
    **{state: set() for state in TERMINAL},
}
TARGET = {
    "run.queued": "queued",
    "run.claimed": "claimed",
    "run.starting": "starting",
    "run.started": "running",
    "run.resumed": "running",
    "run.awaiting_approval": "awaiting_approval",
    "run.awaiting_input": "awaiting_input",
    "run.awaiting_subtask": "awaiting_subtask",
    "run.awaiting_parallel": "awaiting_parallel",
    "run.sleeping": "sleeping",
    "run.released": "queued",
    "run.lease_expired": "queued",
    "run.recovered": "queued",
    "run.completed": "completed",
    "run.failed": "failed",
    "run.operator_forced_fail": "failed",
    "run.canceled": "canceled",
    "run.timed_out": "timed_out",
}
GIVES_BACK = {"run.released", "run.lease_expired", "run.recovered"}
ALIVE = {"run.claimed", "run.starting", "run.started", "run.resumed"}
HOLDER = {"begin", "heartbeat", "complete", "fail", "release"}
ENDS_LEASE = {"complete", "fail", "release"}
SECOND = 1_000_000
NANO = 1_000_000_000


class World:
    def __init__(self, ops=(), snapshot=None, views=(), api=None, witness=(), facts=None):
        self.ops = list(ops)
        self.db = snapshot
        self.views = list(views)
        self.api = api  # {"tasks": {id: task}, "runs": {id: run}} or None
        self.witness = list(witness)  # (run, step, nanoseconds)
        self.facts = facts or {}
        self._index()

    def _index(self):
        self.by = {}
        for op in self.ops:
            self.by.setdefault(op.f, []).append(op)
        self.claims, self.moves = {}, {}
        for op in self.by.get("claim", []):
            for claim in op.r.get("claims", []) if op.ok else []:
                self.claims.setdefault(claim["run"], []).append((claim["epoch"], op, claim))
        for op in self.ops:
            if op.f in HOLDER:
                self.moves.setdefault(op.run, []).append(op)
        self.creations = list(_creations(self.by))
        self.tasks_of_marker = {}
        for task in self.db.task if self.db else []:
            marker = task["identifier"] or task["title"].split()[0]
            self.tasks_of_marker.setdefault(marker, []).append(task)
        self.kept_keys = {}
        for row in self.db.idempotency if self.db else []:
            self.kept_keys.setdefault(row["key"], []).append(row)

    def run(self, wire):
        return self.db.runs.get(id_number(wire))

    def task(self, wire):
        return self.db.tasks.get(id_number(wire))

    def events(self, run):
        return self.db.events_of_run.get(run["id"], [])


class Creation:
    """One object that somebody asked for, once or several times with the same key."""

    def __init__(self, marker, body, key, started):
        self.marker, self.body, self.key, self.started = marker, body, key, started
        self.answers = []  # what acknowledgements said: {"task": …, "run": …}
        self.maybe = False
        self.refused = False

    def add(self, op, answer):
        if op.ok and answer and answer.get("task"):
            self.answers.append(answer)
        self.refused |= op.end == "fail" or (op.ok and not (answer or {}).get("task"))
        self.maybe |= op.end == "info"


def _creations(by):
    found = {}
    for op in by.get("create", []) + by.get("defrun", []):
        if op.expect == "mismatch":
            continue
        started = op.f == "defrun" or bool(op.sent.get("start"))
        c = found.setdefault(op.marker, Creation(op.marker, op.sent, op.key, started))
        c.add(op, op.r)
    for op in by.get("batch", []):
        if op.expect == "mismatch":
            continue
        for i, body in enumerate(op.bodies):
            marker = f"{op.marker}.{i}"
            c = found.setdefault(marker, Creation(marker, body, op.key, bool(body.get("start"))))
            c.add(op, op.r["items"][i] if op.ok else None)
    return found.values()


def payload(event):
    return json.loads(event["payload"]) if event.get("payload") else {}


def fold(events):
    """(status, claims, complaints) of a run's events."""
    status, epoch, complaints = None, 0, []
    for e in events:
        to = TARGET.get(e["type"])
        if not to:
            continue
        if to not in NEXT[status]:
            complaints.append(f"{status} -> {to} by {e['type']} at sequence {e['seq']}")
        elif e["type"] in GIVES_BACK and status not in LEASED:
            complaints.append(f"{e['type']} of a run that is {status} at sequence {e['seq']}")
        elif e["type"] == "run.queued" and status in LEASED:
            complaints.append(f"run.queued of a run that is {status} at sequence {e['seq']}")
        status = to
        epoch += e["type"] == "run.claimed"
    return status, epoch, complaints


def as_json(text):
    return json.loads(text) if text is not None else None


def _run(row):
    return wire_id("run", row["id"])


def _task(row):
    return wire_id("task", row["id"])


# ---- durability ----


def check_i1(w):
    """Every acknowledged create, update and move is there with the acknowledged fields."""
    for c in w.creations:
        for answer in c.answers:
            yield from _created(w, c, answer)
    yield from _patched(w)
    yield from _moved(w)
    sent = {wire_id("input", i["id"]): i for i in w.db.task_input}
    for op in w.by.get("input", []):
        if op.ok and sent.get(op.r["input"], {}).get("message") != op.marker:
            yield op.r["input"], f"acknowledged input {op.marker} of {op.task} is lost"


FIELDS = ("identifier", "max_attempts")


def _created(w, c, answer):
    row = w.task(answer["task"])
    if not row:
        yield answer["task"], f"acknowledged task {c.marker} is lost"
        return
    for field in FIELDS:
        if field in c.body and row[field] != c.body[field]:
            yield answer["task"], f"{field} is {row[field]!r}, acknowledged {c.body[field]!r}"
    if answer.get("run") and not w.run(answer["run"]):
        yield answer["run"], f"acknowledged run of {c.marker} is lost"
    if w.api:
        yield from _listed(w, c, answer, row)


def _listed(w, c, answer, row):
    shown = w.api["tasks"].get(answer["task"])
    if not shown:
        yield answer["task"], "acknowledged task is not in the API's list"
        return
    for field in FIELDS + ("priority",):
        if field in c.body and shown.get(field) != c.body[field]:
            yield answer["task"], f"API shows {field} {shown.get(field)!r}, not {c.body[field]!r}"
    if answer.get("run") and answer["run"] not in w.api["runs"]:
        yield answer["run"], "acknowledged run is not in the API's list"


def _version(row):
    metadata = as_json(row["metadata"]) or {}
    return {
        int(row["title"].rsplit(" v", 1)[1]) if " v" in row["title"] else None,
        int(row["description"][1:]) if row["description"] else None,
        metadata.get("v"),
    }


def _patched(w):
    patches = {}
    for op in w.by.get("patch", []):
        patches.setdefault(op.task, []).append(op)
    for task, ops in patches.items():
        row = w.task(task)
        if not row:
            continue  # its creation is judged above
        seen = _version(row)
        last = max([op.v for op in ops if op.ok], default=0)
        allowed = {op.v for op in ops if op.maybe and op.v >= last} | {last}
        if not seen <= allowed:
            yield task, f"has version {seen}, acknowledged {last}, possible {sorted(allowed)}"


AFTER = {"complete": "completed", "fail": "failed", "cancel_run": "canceled"}


def _moved(w):
    for op in w.ops:
        if not op.ok or op.expect:
            continue
        if op.f in AFTER:
            row = w.run(op.run)
            if not row or row["status"] != AFTER[op.f]:
                yield op.run, f"{op.f} was acknowledged, the run is {row and row['status']}"
        elif op.f == "cancel_task":
            row = w.task(op.task)
            if not row or row["status"] != "canceled":
                yield op.task, f"cancel was acknowledged, the task is {row and row['status']}"
        elif op.f in ("start", "retry"):
            if not w.run(op.r["run"]):
                yield op.r["run"], f"the run of an acknowledged {op.f} is lost"
    yield from _granted(w)


def _granted(w):
    for run, claims in w.claims.items():
        row = w.run(run)
        most = max(epoch for epoch, _, _ in claims)
        if not row or row["epoch"] < most:
            yield run, f"claim {most} was acknowledged, the run has epoch {row and row['epoch']}"
    for run, ops in w.moves.items():
        released = {op.epoch for op in ops if op.f == "release" and op.ok}
        row = w.run(run)
        if row and released:
            count = sum(e["type"] == "run.released" for e in w.events(row))
            if count < len(released):
                yield run, f"{len(released)} releases were acknowledged, {count} are recorded"


def _pieces(w, c):
    """How many of each kind of row belongs to a creation: all must be 1, or all 0."""
    rows = w.tasks_of_marker.get(c.marker, [])
    pieces = {"task": len(rows)}
    ids = [r["id"] for r in rows]
    events = [e for i in ids for e in w.db.events_of_tree.get(i, [])]
    pieces["task.created"] = sum(e["type"] == "task.created" for e in events)
    if c.started:
        first = [r for i in ids for r in w.db.runs_of_task.get(i, []) if r["attempt"] == 1]
        roots = [r for r in first if r["kind"] == "root"]
        pieces["run"] = len(roots)
        pieces["run.queued"] = sum(1 for r in roots if any(
            e["type"] == "run.queued" for e in w.events(r)))
    if c.key:
        pieces["idempotency"] = len(w.kept_keys.get(c.key, []))
    return pieces


def check_i2(w):
    """A refused request has no effect; an unknown one is there entirely or not at all."""
    for c in w.creations:
        pieces = _pieces(w, c)
        counts = set(pieces.values())
        if c.answers:
            wrong = counts != {1}
        elif c.maybe and not c.refused:
            wrong = counts not in ({0}, {1})
        else:
            wrong = pieces["task"] != 0
        if not c.body.get("title", "x").strip():
            wrong = pieces["task"] != 0  # refused even if the key of its batch was kept
        if wrong:
            kind = "acknowledged" if c.answers else "unknown" if c.maybe else "refused"
            yield c.marker, f"{kind} creation left {pieces}"
    yield from _whole_batches(w)


def _whole_batches(w):
    for op in w.by.get("batch", []):
        if op.end != "info" or op.expect:
            continue
        valid = [i for i, body in enumerate(op.bodies) if body["title"].strip()]
        there = sum(bool(w.tasks_of_marker.get(f"{op.marker}.{i}")) for i in valid)
        if there not in (0, len(valid)):
            yield op.marker, f"{there} of {len(valid)} items of an unknown batch are there"


def check_i3(w):
    """One object for one Idempotency-Key; the same answer again; another body is refused."""
    groups = {}
    for op in w.ops:
        if op.key:
            groups.setdefault((op.f, op.key), []).append(op)
    for (f, key), ops in groups.items():
        answers = {(op.status, json.dumps(_identity(op), sort_keys=True))
                   for op in ops if op.ok and op.expect != "mismatch"}
        if len(answers) > 1:
            yield key, f"{f} was answered differently: {sorted(answers)[:3]}"
        if answers and len(w.kept_keys.get(key, [])) != 1:
            yield key, f"{len(w.kept_keys.get(key, []))} records of an acknowledged key"
        for op in ops:
            if op.expect == "mismatch" and answers and op.end != "info" and op.status != 422:
                yield key, f"another body with the same key was answered {op.status}"
    for c in w.creations:
        if c.key and len(w.tasks_of_marker.get(c.marker, [])) > 1:
            yield c.key, f"{len(w.tasks_of_marker[c.marker])} tasks for one key"
    for key, rows in w.kept_keys.items():
        scopes = [(r["workspace_id"], r["principal"], r["operation"]) for r in rows]
        if len(set(scopes)) != len(scopes):
            yield key, "several records in one scope"


def _identity(op):
    r = op.r
    if "items" in r:
        return [[i.get("task"), i.get("run")] for i in r["items"]]
    return [r.get("task"), r.get("run"), r.get("input")]


def check_i5(w):
    """The storage is sound."""
    for line in w.db.soundness:
        yield "baton.db", line


# ---- state machine ----


def check_i7(w):
    """Only published transitions; what has ended stays ended."""
    for run in w.db.run:
        for complaint in fold(w.events(run))[2]:
            yield _run(run), complaint
    for op in w.ops:
        if op.expect == "terminal" and op.ok:
            yield op.task, f"{op.f} of what has ended was accepted"
    for task in w.db.task:
        roots = [r for r in w.db.runs_of_task.get(task["id"], []) if r["kind"] == "root"]
        unended = [r for r in roots if r["status"] not in TERMINAL]
        if len(unended) > 1:
            yield _task(task), f"{len(unended)} open root runs"
        yield from _after_cancel(w, task)


def _after_cancel(w, task):
    ended = None
    for e in w.db.events_of_tree.get(task["tree_id"], []):
        if (e["task_id"] or e["tree_id"]) != task["id"]:
            continue
        if ended and e["type"] in ALIVE | {"task.status_changed", "run.queued"}:
            yield _task(task), f"{e['type']} at {e['seq']} after task.canceled at {ended}"
        if e["type"] == "task.canceled":
            ended = e["seq"]


def derive(task, roots):
    """The status that a task's root runs and its unmet dependencies and its approval give it."""
    waits = task.get("approval_policy") and task["approval_state"] != 2
    idle = "blocked" if task.get("unmet_deps") or waits else "ready"
    live = [r for r in roots if r["status"] not in TERMINAL]
    if task.get("review_id") and not live:
        return "blocked" if task["review_circuit_at"] else "in_review"
    if live:
        return idle if live[0]["status"] in ("queued", "claimed") else "in_progress"
    ended = [r for r in roots if r["status"] != "canceled"]
    if not ended:
        return idle
    last = max(ended, key=lambda r: r["attempt"])
    if last["status"] == "completed":
        return "completed"
    spent = max(r["attempt"] for r in roots) >= task["max_attempts"]
    return "failed" if spent else idle


def check_i8(w):
    """Rows equal the fold of their events (status, attempt, epoch, result), tasks what is derived."""
    for run in w.db.run:
        status, epoch, _ = fold(w.events(run))
        if status != run["status"]:
            yield _run(run), f"row says {run['status']}, events say {status}"
        if epoch != run["epoch"]:
            yield _run(run), f"row has epoch {run['epoch']}, events have {epoch} claims"
        for e in w.events(run):
            told = payload(e).get("epoch") if e["type"] == "run.claimed" else None
            if told is not None and told > run["epoch"]:
                yield _run(run), f"run.claimed tells of epoch {told}, the row of {run['epoch']}"
        if run["status"] != "completed" and run["result"] is not None:
            yield _run(run), f"a run that is {run['status']} has a result"
    for task in w.db.task:
        yield from _projected(w, task)
    yield from _unmet(w)
    yield from _results(w)
    if w.api:
        yield from _shown(w)


def _projected(w, task):
    roots = [r for r in w.db.runs_of_task.get(task["id"], []) if r["kind"] == "root"]
    attempts = [r["attempt"] for r in roots]
    if attempts != list(range(1, len(roots) + 1)):
        yield _task(task), f"attempts of its root runs are {attempts}"
    if task["attempts"] != len(roots):
        yield _task(task), f"row counts {task['attempts']} attempts of {len(roots)}"
    events = [e for e in w.db.events_of_tree.get(task["tree_id"], [])
              if (e["task_id"] or e["tree_id"]) == task["id"]]
    canceled = any(e["type"] == "task.canceled" for e in events)
    published = any(e["type"] == "task.published" for e in events)
    draft = task["status"] == "draft" and not roots and not published
    want = "canceled" if canceled else "draft" if draft else derive(task, roots)
    if task["status"] != want:
        yield _task(task), f"stored status {task['status']}, derived {want}"
    if roots and task["last_run_id"] != roots[-1]["id"]:
        yield _task(task), f"last_run_id {task['last_run_id']} is not the newest attempt"


def _unmet(w):
    """The count in the row is that of the prerequisites that hold the task up."""
    counts = {}
    for edge in w.db.dependency:
        status = w.db.tasks[edge["depends_on_task_id"]]["status"]
        proceeds = edge["on_failure"] == 1 and status in ("failed", "canceled")
        if status != "completed" and not proceeds:
            counts[edge["task_id"]] = counts.get(edge["task_id"], 0) + 1
    for task in w.db.task:
        if task.get("unmet_deps", 0) != counts.get(task["id"], 0):
            yield _task(task), f"counts {task['unmet_deps']} unmet of {counts.get(task['id'], 0)}"


def _results(w):
    """An outside claimer's result is one that was sent, and the acknowledged one if one was."""
    for run, ops in w.moves.items():
        row = w.run(run)
        sent = [op for op in ops if op.f == "complete" and op.maybe and not op.expect]
        if not row or row["status"] != "completed":
            continue
        stored = as_json(row["result"])
        if stored not in [op.result for op in sent]:
            yield run, f"result {stored!r} was sent by nobody"
        for op in sent:
            if op.ok and op.result != stored:
                yield run, f"result {stored!r}, acknowledged {op.result!r}"
            shown = w.api and w.api["runs"].get(run)
            if op.ok and shown and shown.get("result") != op.result:
                yield run, f"API shows result {shown.get('result')!r}, not {op.result!r}"


def _shown(w):
    if not w.facts.get("quiet"):
        return
    for run in w.db.run:
        shown = w.api["runs"].get(_run(run))
        if not shown:
            yield _run(run), "is not in the API's list"
            continue
        for field in "status", "attempt", "epoch":
            if shown[field] != run[field]:
                yield _run(run), f"API shows {field} {shown[field]!r}, row has {run[field]!r}"
    for task in w.db.task:
        shown = w.api["tasks"].get(_task(task))
        if not shown or shown["status"] != task["status"]:
            yield _task(task), f"API shows {shown and shown['status']}, row has {task['status']}"


# ---- leases ----


def check_i11(w):
    """At most one live lease for a run, and for a session, at any instant."""
    for run, claims in w.claims.items():
        claims = sorted(claims, key=lambda c: (c[0], c[1].t0))
        for (e1, a, _), (e2, b, _) in zip(claims, claims[1:]):
            if e1 == e2:
                yield run, f"epoch {e1} was granted twice, by {a.id} and {b.id}"
            else:
                yield from _overlap(w, run, e1, a, e2, b)
    for run in w.db.run:
        status = None
        for e in w.events(run):
            if e["type"] == "run.claimed" and status in LEASED:
                yield _run(run), f"claimed at sequence {e['seq']} while it was held"
            status = TARGET.get(e["type"], status)
    for row in w.db.ready:
        run = w.db.runs.get(row["run"])
        if not run or run["status"] != "queued":
            yield wire_id("run", row["run"]), f"on offer although {run and run['status']}"
    yield from _sessions(w)


def _overlap(w, run, e1, a, e2, b):
    mine = [op for op in w.moves.get(run, []) if op.epoch == e1]
    if any(op.f in ENDS_LEASE and op.maybe and op.t0 < b.t1 for op in mine):
        return
    beats = [op for op in mine if op.f == "heartbeat" and op.ok]
    until = max([op.t0 for op in beats] + [a.t0]) + a.lease * NANO
    if b.t1 < until:
        yield run, (f"claims {e1} ({a.id}) and {e2} ({b.id}) overlap by"
                    f" {(until - b.t1) / NANO:.3f} s")


def _sessions(w):
    live = {}
    for run in w.db.run:
        until = run["lease_until"]
        if run["session_id"] and until and until > w.db.lease_clock + 2 * SECOND:
            live.setdefault(run["session_id"], []).append(_run(run))
    for runs in live.values():
        if len(runs) > 1:
            yield runs[0], f"one session holds {len(runs)} live leases: {runs[:3]}"


def check_i13(w):
    """Nothing is accepted with a token that is not the current one."""
    for op in w.ops:
        if op.expect == "stale" and op.end != "info":
            if op.ok:
                yield op.run, f"{op.f} with a stale token was accepted ({op.id})"
            elif op.status != 409:
                yield op.run, f"{op.f} with a stale token was answered {op.status}, not 409"
        if op.f == "digest" and op.ok and op.r["before"] != op.r["after"]:
            yield "baton.db", f"refused and repeated requests changed rows ({op.about})"
    for run, ops in w.moves.items():
        later = [(epoch, op.t1) for epoch, op, _ in w.claims.get(run, [])]
        for op in ops:
            if op.ok and not op.expect and any(e > op.epoch and t1 < op.t0 for e, t1 in later):
                yield run, f"{op.f} of epoch {op.epoch} was accepted after a later claim ({op.id})"
        yield from _given_up(run, ops)


def _given_up(run, ops):
    """After an acknowledged release, fail or completion its token is good for nothing new."""
    for end in ops:
        if end.f not in ENDS_LEASE or not end.ok or end.expect:
            continue
        for op in ops:
            again = op.f == "complete" and end.f == "complete"
            if op.epoch == end.epoch and op.ok and not op.expect and op.t0 > end.t1 and not again:
                yield run, f"{op.f} was accepted after the {end.f} of the same claim ({op.id})"


def check_i14(w):
    """A token is good for its run and its holder only."""
    for op in w.ops:
        if op.expect in ("foreign_run", "foreign_holder") and op.end != "info":
            if op.ok:
                yield op.run, f"{op.f} with the token of another {op.expect[8:]} was accepted"
            elif op.status not in (403, 404, 409):
                yield op.run, f"{op.f} with a foreign token was answered {op.status}"


def check_i16(w):
    """Leased runs have an expiry, sleeping ones a timer; an expired lease is offered again."""
    for run in w.db.run:
        leased = run["status"] in LEASED
        if leased != (run["lease_until"] is not None):
            yield _run(run), f"{run['status']} with lease_until {run['lease_until']}"
        if leased and run["claim_token_hash"] is None:
            yield _run(run), f"{run['status']} without a token"
        if run["status"] == "sleeping" and run["wake_at"] is None:
            yield _run(run), "sleeping without a timer"
        if run["status"] == "queued" and run["hold"] & HOLD_BACKOFF and run["wake_at"] is None:
            yield _run(run), "held back without a timer"
        if leased and w.facts.get("boot") and run["executor"] == 0:
            yield from _orphan(w, run)


GRACE = 12 * SECOND  # the lease clock stands still for 10 s after a start; sweep; slow machine


def _orphan(w, run):
    since = max(w.facts["boot"], run["heartbeat_at"] or run["claimed_at"])
    late = w.facts["now"] - since - run["lease_us"] - GRACE - w.facts.get("stalls", 0) * 10 * SECOND
    if late > 0:
        yield _run(run), f"{run['status']}, lease over for {late / SECOND:.1f} s of uptime"


def check_i17(w):
    """One terminal result; the same completion again is a 200, another one a 409."""
    for run, ops in w.moves.items():
        taken = [op for op in ops if op.f == "complete" and op.ok and op.expect != "repeat"]
        results = {json.dumps(op.result, sort_keys=True) for op in taken}
        if len(results) > 1:
            yield run, f"{len(results)} different completions were accepted"
        ends = {op.f for op in ops if op.f in ("complete", "fail") and op.ok}
        if len(ends) > 1:
            yield run, "both a completion and a failure were accepted"
        for op in ops:
            if op.end == "info":
                continue
            if op.expect == "repeat" and op.status != 200:
                yield run, f"the identical completion was answered {op.status} {op.code}"
            if op.expect == "different" and op.status != 409:
                yield run, f"a different completion was answered {op.status}"
    for run in w.db.run:
        ends = [e["seq"] for e in w.events(run) if TARGET.get(e["type"]) in TERMINAL]
        if len(ends) > 1:
            yield _run(run), f"ended {len(ends)} times, at {ends}"


# ---- steps ----


def check_i20(w):
    """A step with a recorded result is never performed again in its run."""
    recorded = {}
    for run in w.db.run:
        for e in w.events(run):
            index = payload(e).get("step_index")
            at = (run["id"], index)
            if e["type"] == "run.step_started" and at in recorded:
                yield _run(run), f"step {index} started at {e['seq']} after its result was recorded"
            if e["type"] == "run.step_completed":
                if at in recorded:
                    yield _run(run), f"step {index} was recorded twice"
                recorded[at] = e["at"]
    for step in w.db.step:
        if (step["status"] == "completed") != ((step["run_id"], step["step_index"]) in recorded):
            yield wire_id("run", step["run_id"]), (
                f"step {step['step_index']} is {step['status']}, its events say otherwise")
    yield from _witnesses(w, recorded)
    yield from _taken(w)


def _taken(w):
    """An input is taken once, by a run of its task, and a step takes one."""
    takers = collections.Counter((i["run_id"], i["step_index"]) for i in w.db.task_input if i["run_id"])
    told = collections.Counter(payload(e)["input_id"] for e in w.db.event if e["type"] == "run.input_consumed")
    for row in w.db.task_input:
        name, run = wire_id("input", row["id"]), w.db.runs.get(row["run_id"])
        if told[name] != (row["status"] == "consumed"):
            yield name, f"is {row['status']}, its events tell of {told[name]} takers"
        if row["run_id"] and (not run or run["task_id"] != row["task_id"]):
            yield name, "was taken by a run of another task"
        if run and run["executor"] == 1 and takers[row["run_id"], row["step_index"]] > 1:
            yield name, f"step {row['step_index']} of {_run(run)} took another one too"


def _witnesses(w, recorded):
    seen = {}
    for run, step, nanoseconds in w.witness:
        seen.setdefault((id_number(run), step), []).append(nanoseconds // 1000)
    for at, times in seen.items():
        late = [t for t in times if at in recorded and t > recorded[at]]
        if late:
            yield wire_id("run", at[0]), (
                f"step {at[1]} was performed {(max(late) - recorded[at]) / 1000:.1f} ms after its"
                " result was recorded")
    if not w.facts.get("witnessed"):
        return
    for step in w.db.step:
        at = (step["run_id"], step["step_index"])
        run = w.db.runs.get(at[0])
        definition = run and run["definition_id"]
        if definition != w.facts["witnessed"] or run["kind"] != "root":
            continue
        if step["status"] == "completed" and at[1] in w.facts["steps"] and at not in seen:
            yield wire_id("run", at[0]), f"step {at[1]} has a result but left no trace"


def _joined(w):
    """(parent, join row, the newest child of each branch) of every join."""
    for join in w.db.join_point:
        parent = w.db.runs.get(join["run_id"])
        children = [c for c in w.db.children.get(join["run_id"], [])
                    if c["parent_step_index"] == join["step_index"]]
        newest = {}
        for c in children:  # another round, or a child's own next attempt, takes its branch's place
            if c["branch_index"] not in newest or newest[c["branch_index"]]["id"] < c["id"]:
                newest[c["branch_index"]] = c
        yield parent, join, list(newest.values())


def _decided(join, children):
    good = sum(c["status"] == "completed" for c in children)
    bad = sum(c["status"] in BADLY for c in children)
    if good + bad == len(children) or (join["any_one"] and good):
        return True
    return bool(not join["any_one"] and join["fail_fast"] and bad)


def check_i21(w):
    """A join fires once, and counts what really happened to its children."""
    for run in w.db.run:
        waits = wakes = 0
        for e in w.events(run):
            waits += e["type"] in ("run.awaiting_parallel", "run.awaiting_subtask")
            wakes += e["type"] == "run.queued" and payload(e).get("reason") == "joined"
        if wakes > waits:
            yield _run(run), f"waited for children {waits} times, was woken {wakes} times"
    for parent, join, children in _joined(w):
        name = wire_id("run", join["run_id"])
        if not parent:
            yield name, "a join without a parent"
            continue
        branches = [c["branch_index"] for c in children]
        if len(set(branches)) != len(branches) or len(branches) != join["total"]:
            yield name, f"step {join['step_index']} has branches {branches} of {join['total']}"
        good = sum(c["status"] == "completed" for c in children)
        if join["completed"] != good:
            yield name, f"join counts {join['completed']} completed children of {good}"
        if join["completed"] + join["failed"] + join["pending"] != join["total"]:
            yield name, f"join does not add up: {join}"
    for op in w.by.get("joined", []):
        if op.ok and op.r["branches"] != op.r["children"]:
            yield op.run, f"joined output {op.r['branches']}, children {op.r['children']}"


def check_i22(w):
    """Nothing waits for what has come already."""
    offered = {(row["run"], row["lane"], row["queued_at"]) for row in w.db.ready}
    for run in w.db.run:
        due = run["status"] == "queued" and run["hold"] == 0
        if due and (run["id"], run["lane"], run["queued_at"]) not in offered:
            yield _run(run), "queued, held by nothing, and not on offer"
        if w.facts.get("now") and w.facts.get("boot"):
            yield from _overslept(w, run)
        if w.facts.get("final") and run["status"] not in TERMINAL:
            yield _run(run), f"still {run['status']} (hold {run['hold']}) after everything ended"
    for run in w.db.run:
        yield from _held(w, run)
    held = {row["run"] for row in w.db.ready} & {
        r["id"] for r in w.db.run if r["status"] == "queued" and r["hold"]}
    for run in held:
        yield wire_id("run", run), "on offer although held"
    for parent, join, children in _joined(w):
        waiting = parent and parent["status"] in ("awaiting_parallel", "awaiting_subtask")
        if waiting and parent["current_step"] == join["step_index"] and _decided(join, children):
            yield _run(parent), f"waits for step {join['step_index']} whose children have decided"
    for approval in w.db.approval:
        run = w.db.runs.get(approval["run_id"])
        settled = approval["status"] in ("approved", "denied", "expired")
        if settled and run and run["status"] == "awaiting_approval" and \
                run["current_step"] == approval["step_index"]:
            yield _run(run), f"waits for an approval that is {approval['status']}"
    asked = {(s["run_id"], s["step_index"]): (as_json(s["input"]) or {}).get("name")
             for s in w.db.step if s["status"] == "waiting"}
    lying = {(i["task_id"], i["name"]) for i in w.db.task_input if i["status"] == "pending"}
    for run in w.db.run:
        at = run["id"], run["current_step"]
        if run["status"] == "awaiting_input" and (run["task_id"], asked.get(at)) in lying:
            yield _run(run), "waits for an input that lies there"


HOLD_BLOCKED, HOLD_PAUSED = 1, 2


def _held(w, run):
    """A queued run is held while its task is paused, a root run also while its task is blocked."""
    task = w.db.tasks.get(run["task_id"])
    if run["status"] != "queued" or not task or "paused_n" not in task:
        return
    blocked = task["unmet_deps"] or (task["approval_policy"] and task["approval_state"] != 2)
    want = (HOLD_BLOCKED if blocked and run["kind"] == "root" else 0) | (
        HOLD_PAUSED if task["paused_n"] else 0)
    if run["hold"] & (HOLD_BLOCKED | HOLD_PAUSED) != want:
        yield _run(run), f"hold is {run['hold']}, its task asks for {want}"


def _overslept(w, run):
    timed = run["status"] == "sleeping" or (
        run["status"] == "queued" and run["hold"] & HOLD_BACKOFF)
    if timed and run["wake_at"]:
        late = w.facts["now"] - max(run["wake_at"], w.facts["boot"])
        if late > 2 * SECOND:
            yield _run(run), f"{run['status']}, should be awake for {late / SECOND:.1f} s"


def check_i24(w):
    """When a run or task has ended, nothing below it lives or comes to life."""
    for parent, children in w.db.children.items():
        above = w.db.runs.get(parent)
        if not above or above["status"] not in TERMINAL:
            continue
        end = max([e["seq"] for e in w.events(above) if TARGET.get(e["type"]) in TERMINAL],
                  default=None)
        for child in children:
            if child["status"] not in TERMINAL:
                yield _run(child), f"{child['status']} although its parent is {above['status']}"
            for e in w.events(child):
                if end is not None and e["seq"] > end and e["type"] in ALIVE | {"run.queued"}:
                    yield _run(child), f"{e['type']} at {e['seq']}, its parent ended at {end}"
    for task in w.db.task:
        if task["status"] != "canceled":
            continue
        for run in w.db.runs_of_task.get(task["id"], []):
            if run["status"] not in TERMINAL:
                yield _run(run), f"{run['status']} although its task is canceled"


# ---- events and streams ----


def check_i27(w):
    """Numbers are 1,2,3,… per tree and become visible in that order; every tree has some."""
    for tree, events in w.db.events_of_tree.items():
        numbers = [e["seq"] for e in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield wire_id("task", tree), f"{len(numbers)} events, numbers end {numbers[-3:]}"
    for task in w.db.task:
        if task["tree_id"] not in w.db.events_of_tree:
            yield _task(task), "its tree has no events"
    for op in w.by.get("tail", []):
        if op.ok:
            want = list(range(op.after + 1, op.after + 1 + len(op.r["seqs"])))
            if op.r["seqs"] != want:
                yield op.task, f"a page after {op.after} shows {op.r['seqs'][:8]}"


class Chain:
    """What one reader saw of one stream, over all its connections."""

    def __init__(self, line):
        self.stream, self.id, self.task = line["stream"], line["id"], line["task"]
        self.sessions = []

    def connect(self, line):
        self.sessions.append({"last": line["last"], "status": line["status"],
                              "code": line.get("code"), "events": [], "end": None})

    def stored(self, w):
        events = w.db.events_of_tree.get(id_number(self.task), [])
        if self.stream == "run":
            run = id_number(self.id)
            return [e for e in events if e["run_id"] == run]
        return events


def _chains(views):
    chains = {}
    for line in views:
        if "stream" in line:
            chain = chains.setdefault(line["chain"], Chain(line))
            chain.connect(line)
        elif line["chain"] in chains:
            session = chains[line["chain"]].sessions[-1]
            if "end" in line:
                session["end"] = line["end"]
            else:
                session["events"].append(line)
    return chains.values()


def _differs(seen, stored):
    if seen["type"] != stored["type"]:
        return f"type {seen['type']}, stored {stored['type']}"
    run = wire_id("run", stored["run_id"]) if stored["run_id"] else None
    if seen.get("run") != run:
        return f"run {seen.get('run')}, stored {run}"
    if "payload" in seen and (seen["payload"] or {}) != payload(stored):
        return f"payload {seen['payload']}, stored {stored['payload']}"
    return None


def check_i29(w):
    """Streams are ordered, unique, reliable, atomic (whole, as stored) and bookmarkable."""
    for chain in _chains(w.views):
        stored = chain.stored(w)
        place = {e["seq"]: i for i, e in enumerate(stored)}
        last = 0
        for session in chain.sessions:
            for n, seen in enumerate(session["events"]):
                if seen["ev"] <= last and n:
                    yield chain.id, f"event {seen['ev']} after {last}: not ordered or not unique"
                if seen["ev"] not in place:
                    yield chain.id, f"event {seen['ev']} was shown, is not in the history"
                    continue
                if n and place[seen["ev"]] != place.get(last, -1) + 1 and seen["ev"] > last:
                    yield chain.id, f"from {last} to {seen['ev']}: an event is missing"
                wrong = _differs(seen, stored[place[seen["ev"]]])
                if wrong:
                    yield chain.id, f"event {seen['ev']}: {wrong}"
                last = seen["ev"]
            yield from _stream_end(chain, session)


def _stream_end(chain, session):
    if session["end"] == "stream.end" and session["events"]:
        last = session["events"][-1]["type"]
        if chain.stream == "run" and TARGET.get(last) not in TERMINAL:
            yield chain.id, f"stream.end after {last}"


def check_i30(w):
    """Resuming at n gives exactly n+1, n+2, …; above the head is refused, never silence."""
    answers = (200, 204, 503) if w.facts.get("outages") else (200, 204)
    for chain in _chains(w.views):
        numbers = [e["seq"] for e in chain.stored(w)]
        for session in chain.sessions:
            last = session["last"] or 0
            if session["status"] not in answers:
                yield chain.id, f"resuming at {last} was answered {session['status']}"
            elif session["status"] == 200 and session["events"]:
                first = session["events"][0]["ev"]
                want = next((n for n in numbers if n > last), None)
                if first != want:
                    yield chain.id, f"resumed at {last}, got {first}, next is {want}"
    for op in w.by.get("resume", []):
        if op.end == "info":
            continue
        if op.want == "events":
            if op.r.get("ids") != op.ids:
                yield op.stream, f"resumed at {op.last}: {op.r.get('ids')}, history {op.ids}"
        elif op.status != op.want:
            yield op.stream, f"resumed at {op.last}: answered {op.status}, not {op.want}"


def check_i31(w):
    """Who looks after an acknowledgement sees its event."""
    for op in w.by.get("readback", []):
        if op.ok and not op.r["found"]:
            yield op.task, f"{op.wanted} was acknowledged, not seen after it ({op.how})"


def check_i44(w):
    """A decision, pause or deletion has one row of the audit log, and rows tell of nothing else; they form a chain."""
    names = set(AUDIT_ACTION.values())
    done = collections.Counter((wire_id("task", e["task_id"] or e["tree_id"]), e["type"])
                               for e in w.db.event if e["type"] in names)
    done.update((wire_id("appr", a["id"]), "approval." + a["status"])
                for a in w.db.approval if a["run_id"] and "approval." + a["status"] in names)
    done.update((wire_id("review", r["id"]), "review.recorded") for r in w.db.review if r["status"] == "recorded")
    told = collections.Counter((r["resource"], r["action"]) for r in w.db.audit if r["action"] in names)
    for what in sorted((done - told) + (told - done)):
        yield what[0], f"{what[1]}: happened {done[what]} times, told {told[what]} times"
    previous = "0" * 64
    for row in sorted(w.db.audit, key=lambda r: r["id"]):
        if row["previous"] != previous:
            yield row["resource"], f"row {row['id']} of the audit log does not follow the one before it"
        previous = row["hash"]


def check_reviews(w):
    """A task waits for an open review of its newest run, or for a person; rejected work goes on once; a session judges one run."""
    reviews = {r["id"]: r for r in w.db.review}
    for task in w.db.task:
        if not task.get("review_id"):
            continue
        review = reviews.get(task["review_id"])
        if not review or review["run_id"] != task["last_run_id"]:
            yield _task(task), "waits for a review that is not of its newest run"
        elif (review["status"] in ("requested", "in_review")) == bool(task["review_circuit_at"]):
            yield _task(task), f"waits for a review that is {review['status']}"
    judging = collections.Counter((r["workspace_id"], r["session_id"]) for r in reviews.values()
                                  if r["status"] == "in_review" and r["session_id"])
    for (_, session), n in judging.items():
        if n > 1:
            yield f"session {session}", f"judges {n} runs at a time"
    for review in reviews.values():
        rejected = review["status"] == "recorded" and review["outcome"] == "rejected"
        if rejected != bool(review["continuation_run_id"] or review["no_continuation"]):
            yield wire_id("review", review["id"]), "a rejection is followed up, or it says why not; nothing else is"
        told = collections.Counter(e["type"] for e in w.db.events_of_run.get(review["run_id"], [])
                                   if payload(e).get("review_id") == wire_id("review", review["id"]))
        if not told["run.review_requested"] or told["run.review_recorded"] != (review["status"] == "recorded"):
            yield wire_id("review", review["id"]), f"is {review['status']}, its events are {dict(told)}"


def check_up(w):
    """The server is ready within 5 s of every start, unless more is allowed, and never ends by itself."""
    for boot in w.facts.get("boots", []):
        if boot.get("ready") is None:
            yield f"start {boot['n']}", boot.get("why", "did not become ready")
        elif boot["ready"] > w.facts.get("ready", 5):
            yield f"start {boot['n']}", f"ready after {boot['ready']:.1f} s"
        if boot.get("died"):
            yield f"start {boot['n']}", f"ended by itself: {boot['died']}"


CHECKS = {
    "I1": check_i1, "I2": check_i2, "I3": check_i3, "I5": check_i5, "I7": check_i7,
    "I8": check_i8, "I11": check_i11, "I13": check_i13, "I14": check_i14, "I16": check_i16,
    "I17": check_i17, "I20": check_i20, "I21": check_i21, "I22": check_i22, "I24": check_i24,
    "I27": check_i27, "I29": check_i29, "I30": check_i30, "I31": check_i31, "I44": check_i44, "REVIEWS": check_reviews, "UP": check_up,
}


def check(world):
    """[(invariant, object, text)]: what is violated."""
    return [(number, obj, text) for number, f in CHECKS.items() for obj, text in f(world)]
