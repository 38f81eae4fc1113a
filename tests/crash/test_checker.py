"""The checker's own test: a small history without fault passes; each planted fault is found.

    python3 -m pytest tests/crash/test_checker.py
"""

import copy
import json
import os
import sqlite3
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import database
from database import Snapshot, wire_id
from invariants import CHECKS, NANO, World, check, fold
from ledger import Ledger, read_lines, read_ops


def task_id(n):
    return wire_id("task", n)


def run_id(n):
    return wire_id("run", n)


class Story:
    """A hand-made history: what was asked, what was answered and what is stored."""

    def __init__(self):
        self.lines, self.views, self.witness = [], [], []
        self.rows = {name: [] for name in database.TABLES}
        self.soundness, self.facts, self.clock, self.ops = [], {}, 1000 * NANO, 0
        self.api = None

    # -- the ledger

    def op(self, f, end="ok", status=200, code=None, r=None, wait=NANO // 1000, **invoke):
        self.ops += 1
        name = f"o{self.ops}"
        self.clock += wait
        self.lines.append({"op": name, "p": "invoke", "t": self.clock, "f": f, **invoke})
        self.clock += NANO // 1000
        self.lines.append({"op": name, "p": end, "t": self.clock, "status": status, "code": code,
                           "r": r or {}})

    def last(self, f, **invoke):
        """The (invoke, answer) lines of the last operation that looks like this."""
        want = dict(invoke, f=f)
        for i in range(len(self.lines) - 2, -1, -2):
            if want.items() <= {k: v for k, v in self.lines[i].items()
                                if not isinstance(v, (dict, list))}.items():
                return self.lines[i], self.lines[i + 1]
        raise KeyError(f)

    # -- the rows

    def event(self, tree, kind, run=None, **payload):
        seq = 1 + sum(e["tree_id"] == tree for e in self.rows["event"])
        self.rows["event"].append({
            "tree_id": tree, "seq": seq, "task_id": None, "run_id": run, "type": kind,
            "at": self.clock // 1000, "payload": json.dumps(payload) if payload else None})

    def task(self, n, marker, **more):
        self.rows["task"].append(dict({
            "id": n, "tree_id": n, "identifier": marker, "title": f"{marker} v0",
            "description": "v0", "metadata": json.dumps({"op": marker, "v": 0}), "status": "ready",
            "max_attempts": 3, "attempts": 0, "last_run_id": None}, **more))
        self.event(n, "task.created")

    def run(self, n, task, attempt=1, **more):
        self.rows["run"].append(dict({
            "id": n, "task_id": task, "kind": "root", "status": "queued", "attempt": attempt,
            "epoch": 0, "executor": 0, "parent_run_id": None, "parent_step_index": 0,
            "branch_index": 0, "current_step": 0, "definition_id": None, "result": None,
            "lease_until": None, "lease_us": 0, "claim_token_hash": None, "heartbeat_at": None,
            "claimed_at": None, "session_id": None, "wake_at": None, "hold": 0, "lane": 1,
            "queued_at": n}, **more))
        if not more.get("parent_run_id"):
            self.find("task", task)["attempts"] += 1
            self.find("task", task)["last_run_id"] = n
        self.event(task, "run.queued", n, attempt=attempt)

    def find(self, table, n):
        return next(r for r in self.rows[table] if r["id"] == n)

    def claimed(self, n, epoch):
        run = self.find("run", n)
        run.update(status="claimed", epoch=epoch, lease_until=900, lease_us=5_000_000,
                   claim_token_hash=b"x", heartbeat_at=5, claimed_at=5)
        self.event(run["task_id"], "run.claimed", n, epoch=epoch)

    def begun(self, n, again=False):
        run = self.find("run", n)
        run["status"] = "running"
        self.event(run["task_id"], "run.starting", n)
        self.event(run["task_id"], "run.resumed" if again else "run.started", n)

    def moved(self, n, status, kind, task_status=None, **payload):
        run = self.find("run", n)
        run.update(status=status, lease_until=None, claim_token_hash=None)
        self.event(run["task_id"], kind, n, **payload)
        if task_status:
            self.find("task", run["task_id"]).update(status=task_status)

    def step(self, n, index):
        task = self.find("run", n)["task_id"]
        self.event(task, "run.step_started", n, step_index=index)
        self.event(task, "run.step_completed", n, step_index=index)
        self.rows["step"].append({"run_id": n, "step_index": index, "status": "completed"})

    def take(self, n, epoch, who="c0", **more):
        run = self.find("run", n)
        claim = {"run": run_id(n), "task": task_id(run["task_id"]), "epoch": epoch, "token": "t"}
        self.op("claim", r={"claims": [claim]}, who=who, lease=5, **more)
        self.claimed(n, epoch)

    def hold(self, f, n, epoch, **more):
        self.op(f, run=run_id(n), epoch=epoch, who="c0", lease=5, **more)

    def offer(self, n):
        run = self.find("run", n)
        self.rows["ready"].append({"lane": run["lane"], "queued_at": run["queued_at"], "run": n})

    def review(self, n, run, **more):
        self.rows["review"].append(dict({
            "id": n, "run_id": run, "workspace_id": 1, "session_id": None, "status": "requested",
            "outcome": "none", "continuation_run_id": None, "no_continuation": None}, **more))
        self.event(self.find("run", run)["task_id"], "run.review_requested", run, review_id=wire_id("review", n))

    def audited(self, resource, action):
        rows = self.rows["audit"]
        rows.append({"id": len(rows), "resource": resource, "action": action, "hash": "%064d" % (len(rows) + 1),
                     "previous": rows[-1]["hash"] if rows else "0" * 64})

    def kept(self, key):
        self.rows["idempotency"].append({"workspace_id": 1, "principal": 1, "operation": "create",
                                         "key": key})

    # -- the streams

    def connect(self, chain, n, last, status=200, stream="task", run=None):
        self.views.append({"chain": chain, "stream": stream, "task": task_id(n), "last": last,
                           "id": run_id(run) if run else task_id(n), "status": status})

    def show(self, chain, tree, *numbers):
        for e in self.rows["event"]:
            if e["tree_id"] == tree and e["seq"] in numbers:
                self.views.append({
                    "chain": chain, "ev": e["seq"], "type": e["type"],
                    "run": run_id(e["run_id"]) if e["run_id"] else None,
                    "payload": json.loads(e["payload"] or "{}")})

    def world(self):
        snapshot = Snapshot(soundness=self.soundness, lease_clock=100, **copy.deepcopy(self.rows))
        return World(read_ops(self.lines), snapshot, self.views, self.api, self.witness, self.facts)


def body(marker, **more):
    return dict({"title": f"{marker} v0", "identifier": marker, "max_attempts": 3}, **more)


def tell():
    s = Story()
    plain_run(s)
    released_run(s)
    joined_run(s)
    canceled_task(s)
    others(s)
    return s


def plain_run(s):
    """Task 1, run 11: created with a key, asked for twice, completed once; patched."""
    made = {"task": task_id(1), "run": run_id(11)}
    for _ in range(2):
        s.op("create", status=201, r=made, marker="m1", key="k1", sent=body("m1", start=True))
    s.op("create", "fail", 422, marker="m1", key="k1", sent=body("m1", x=1), expect="mismatch")
    s.op("readback", r={"found": True}, task=task_id(1), wanted="run.queued", how="stream")
    s.kept("k1")
    s.task(1, "m1")
    s.run(11, 1)
    s.op("patch", task=task_id(1), v=1)
    s.event(1, "task.updated")
    s.find("task", 1).update(title="m1 v1", description="v1", metadata='{"v": 1}')
    s.take(11, 1)
    s.hold("heartbeat", 11, 1)
    s.hold("complete", 11, 1, result={"a": 1})
    s.moved(11, "completed", "run.completed", "completed")
    s.find("run", 11)["result"] = '{"a": 1}'
    s.hold("complete", 11, 1, result={"a": 1}, expect="repeat")
    s.hold("complete", 11, 1, result={"a": 2}, expect="different", end="fail", status=409)
    s.connect("v1", 1, None)
    s.show("v1", 1, 1, 2)
    s.connect("v1", 1, 2)
    s.show("v1", 1, 3, 4, 5)
    s.op("tail", r={"seqs": [2, 3, 4]}, task=task_id(1), after=1)
    s.op("resume", r={"ids": [4, 5]}, stream=task_id(1), last=3, want="events", ids=[4, 5])


def released_run(s):
    """Task 2, run 12: released, its old token refused, claimed again, now held."""
    s.op("create", status=201, r={"task": task_id(2), "run": run_id(12)}, marker="m2",
         sent=body("m2", start=True))
    s.task(2, "m2")
    s.run(12, 2)
    s.take(12, 1)
    s.hold("release", 12, 1)
    s.moved(12, "queued", "run.released")
    s.hold("heartbeat", 12, 1, expect="stale", end="fail", status=409)
    s.take(12, 2, who="c1", session="s1")
    s.find("run", 12)["session_id"] = 1
    s.hold("heartbeat", 12, 2, expect="foreign_holder", end="fail", status=403)


def joined_run(s):
    """Task 3, run 13 with the branches 14 and 15, joined and completed by the worker."""
    s.op("defrun", status=201, r={"task": task_id(3), "run": run_id(13)}, marker="m3",
         sent={"title": "m3"})
    s.task(3, None, title="m3", description=None)
    s.run(13, 3, executor=1, definition_id=7)
    s.claimed(13, 1)
    s.begun(13)
    s.step(13, 0)
    s.moved(13, "awaiting_parallel", "run.awaiting_parallel")
    for n in 14, 15:
        s.run(n, 3, executor=1, kind="branch", parent_run_id=13, parent_step_index=1,
              branch_index=n - 14)
    for n in 14, 15:
        s.claimed(n, 1)
        s.begun(n)
        s.moved(n, "completed", "run.completed")
    s.rows["join_point"].append({"run_id": 13, "step_index": 1, "any_one": 0, "fail_fast": 1,
                                 "total": 2, "pending": 0, "completed": 2, "failed": 0})
    s.moved(13, "queued", "run.queued", reason="joined")
    s.claimed(13, 2)
    s.begun(13, again=True)
    s.event(3, "run.step_completed", 13, step_index=1)
    s.rows["step"].append({"run_id": 13, "step_index": 1, "status": "completed"})
    s.moved(13, "completed", "run.completed", "completed")
    s.find("run", 13)["current_step"] = 1
    s.witness.append((run_id(13), 0, 1000))
    joined = [[0, run_id(14), "completed"], [1, run_id(15), "completed"]]
    s.op("joined", r={"branches": joined, "children": joined}, run=run_id(13))


def canceled_task(s):
    """Task 4, run 16 with the branch 17: canceled together."""
    s.op("create", status=201, r={"task": task_id(4), "run": run_id(16)}, marker="m4",
         sent=body("m4", start=True))
    s.task(4, "m4")
    s.run(16, 4)
    s.claimed(16, 1)
    s.begun(16)
    s.moved(16, "awaiting_parallel", "run.awaiting_parallel")
    s.run(17, 4, kind="branch", parent_run_id=16)
    s.op("cancel_task", task=task_id(4))
    s.moved(16, "canceled", "run.canceled")
    s.moved(17, "canceled", "run.canceled")
    s.event(4, "task.canceled")
    s.find("task", 4).update(status="canceled")
    s.op("retry", "fail", 409, task=task_id(4), expect="terminal")


def reviewed_run(s):
    """Task 8: run 21 was rejected, its continuation 22 is judged by session 4."""
    s.op("create", status=201, r={"task": task_id(8), "run": run_id(21)}, marker="m8", sent=body("m8", start=True))
    s.task(8, "m8")
    s.run(21, 8)
    s.claimed(21, 1)
    s.moved(21, "completed", "run.completed", "in_review")
    s.review(31, 21, status="recorded", outcome="rejected", continuation_run_id=22, session_id=4)
    s.event(8, "run.review_recorded", 21, review_id=wire_id("review", 31))
    s.audited(wire_id("review", 31), "review.recorded")
    s.run(22, 8, attempt=2)
    s.claimed(22, 1)
    s.moved(22, "completed", "run.completed", "in_review")
    s.review(32, 22, status="in_review", session_id=4)
    s.find("task", 8).update(review_id=32, review_circuit_at=None)


def others(s):
    """Refused and unknown requests, a free run (task 5, run 18), a sleeping one (task 6, run 19)."""
    s.op("create", "fail", 400, marker="bad", sent=body("bad"))
    s.op("create", "info", None, marker="lost", key="k2", sent=body("lost", start=True))
    s.op("batch", "info", None, marker="b", bodies=[body("b.0"), body("b.1", title=" ")])
    s.op("batch", r={"items": [{"task": task_id(5), "run": run_id(18)}, {"code": "x"}]},
         marker="c", bodies=[body("c.0", start=True), body("c.1", title=" ")])
    s.task(5, "c.0")
    s.run(18, 5)
    s.offer(18)
    s.op("create", status=201, r={"task": task_id(6), "run": run_id(19)}, marker="m6",
         sent=body("m6", start=True))
    s.task(6, "m6")
    s.run(19, 6)
    s.claimed(19, 1)
    s.begun(19)
    s.moved(19, "sleeping", "run.sleeping")
    s.find("run", 19)["wake_at"] = 5
    s.find("task", 6).update(status="in_progress")
    s.op("digest", r={"before": "x", "after": "x"}, about="keys")
    reviewed_run(s)
    s.facts = {"boots": [{"n": 1, "ready": 0.2}]}


# ---- the faults ----

PLANTED = []


def plant(number):
    def note(f):
        PLANTED.append(pytest.param(number, f, id=f"{number}: {f.__name__.replace('_', ' ')}"))
        return f
    return note


def drop_task(s, n):
    for table in s.rows:
        s.rows[table] = [r for r in s.rows[table]
                         if n not in (r.get("task_id"), r.get("tree_id"))
                         and not (table == "task" and r["id"] == n)]


@plant("I1")
def acked_task_lost(s):
    drop_task(s, 5)


@plant("I1")
def acked_run_lost(s):
    s.rows["run"] = [r for r in s.rows["run"] if r["id"] != 18]


@plant("I1")
def acked_field_changed(s):
    s.find("task", 1)["max_attempts"] = 9


@plant("I1")
def acked_patch_lost(s):
    s.find("task", 1).update(title="m1 v0", description="v0", metadata='{"v": 0}')


@plant("I1")
def patch_half_there(s):
    s.find("task", 1)["description"] = "v0"


@plant("I1")
def acked_completion_lost(s):
    s.find("run", 11)["status"] = "claimed"


@plant("I1")
def acked_claim_lost(s):
    s.find("run", 12)["epoch"] = 1


@plant("I1")
def acked_task_not_listed(s):
    s.api = {"tasks": {}, "runs": {}}


@plant("I2")
def refused_create_has_effect(s):
    s.task(9, "bad")


@plant("I2")
def unknown_create_without_its_run(s):
    s.task(9, "lost")
    s.kept("k2")


@plant("I2")
def unknown_create_without_its_key(s):
    s.task(9, "lost")
    s.run(29, 9)
    s.offer(29)


@plant("I2")
def unknown_create_left_its_key_only(s):
    s.kept("k2")


@plant("I2")
def task_without_created_event(s):
    s.rows["event"] = [e for e in s.rows["event"] if e["tree_id"] != 5]


@plant("I2")
def refused_item_of_a_batch_there(s):
    s.task(9, "c.1")


@plant("I3")
def two_tasks_for_a_key(s):
    s.task(9, "m1")


@plant("I3")
def replay_answered_with_another_object(s):
    s.last("create", marker="m1", key="k1")
    answers = [line for line in s.lines if line.get("r", {}).get("task") == task_id(1)]
    answers[1]["r"] = {"task": task_id(2), "run": run_id(12)}


@plant("I3")
def replay_answered_with_another_status(s):
    [line for line in s.lines if line.get("r", {}).get("task") == task_id(1)][1]["status"] = 200


@plant("I3")
def another_body_accepted(s):
    s.last("create", expect="mismatch")[1].update(p="fail", status=409)


@plant("I3")
def key_forgotten(s):
    s.rows["idempotency"] = []


@plant("I5")
def storage_unsound(s):
    s.soundness = ["integrity_check: row 7 missing from index"]


@plant("I7")
def ended_run_revived(s):
    s.event(1, "run.queued", 11)
    s.find("run", 11)["status"] = "queued"


@plant("I7")
def starting_skipped(s):
    s.rows["event"] = [e for e in s.rows["event"]
                       if not (e["run_id"] == 19 and e["type"] == "run.starting")]


@plant("I7")
def two_open_root_runs(s):
    s.run(29, 5, attempt=2)
    s.offer(29)


@plant("I7")
def canceled_task_started_again(s):
    s.last("retry", expect="terminal")[1].update(p="ok", status=201, r={"run": run_id(16)})


@plant("I8")
def status_is_not_the_fold(s):
    s.find("run", 18)["status"] = "failed"


@plant("I8")
def epoch_is_not_the_number_of_claims(s):
    s.find("run", 12)["epoch"] = 3


@plant("I8")
def attempt_skipped(s):
    s.find("run", 18)["attempt"] = 2


@plant("I8")
def task_status_not_derived(s):
    s.find("task", 1)["status"] = "in_progress"


@plant("I8")
def result_that_nobody_sent(s):
    s.find("run", 11)["result"] = '{"a": 3}'


@plant("I8")
def newest_attempt_forgotten(s):
    s.find("task", 2)["last_run_id"] = None


@plant("I11")
def one_epoch_granted_twice(s):
    s.op("claim", r=s.last("claim", who="c1")[1]["r"], who="c3", lease=5)


@plant("I11")
def claimed_again_before_the_lease_was_over(s):
    s.lines = [line for line in s.lines if not (
        line["p"] == "invoke" and line["f"] == "release")]


@plant("I11")
def claimed_twice_in_a_row(s):
    s.claimed(12, 3)


@plant("I11")
def held_run_on_offer(s):
    s.offer(12)


@plant("I11")
def session_with_two_leases(s):
    for n in 12, 18:
        s.find("run", n).update(session_id=1, lease_until=900_000_000)


@plant("I13")
def stale_heartbeat_accepted(s):
    s.last("heartbeat", expect="stale")[1].update(p="ok", status=200)


@plant("I13")
def stale_heartbeat_answered_strangely(s):
    s.last("heartbeat", expect="stale")[1].update(status=404)


@plant("I13")
def old_epoch_accepted_after_a_later_claim(s):
    s.hold("heartbeat", 12, 1)


@plant("I13")
def refusals_changed_rows(s):
    s.last("digest")[1]["r"]["after"] = "y"


@plant("I14")
def token_of_another_holder_accepted(s):
    s.last("heartbeat", expect="foreign_holder")[1].update(p="ok", status=200)


@plant("I16")
def leased_without_expiry(s):
    s.find("run", 12)["lease_until"] = None


@plant("I16")
def lease_on_a_queued_run(s):
    s.find("run", 18)["lease_until"] = 7


@plant("I16")
def sleeping_without_timer(s):
    s.find("run", 19)["wake_at"] = None


@plant("I16")
def lease_never_expires(s):
    s.facts.update(boot=1_000_000, now=60_000_000)


@plant("I17")
def two_different_completions(s):
    s.last("complete", expect="different")[1].update(p="ok", status=200)


@plant("I17")
def identical_completion_refused(s):
    s.last("complete", expect="repeat")[1].update(p="fail", status=409)


@plant("I17")
def completed_and_failed(s):
    s.hold("fail", 11, 1)


@plant("I17")
def ended_twice(s):
    s.event(1, "run.failed", 11)


@plant("I20")
def recorded_step_started_again(s):
    s.event(3, "run.step_started", 13, step_index=0)


@plant("I20")
def step_recorded_twice(s):
    s.event(3, "run.step_completed", 13, step_index=0)


@plant("I20")
def command_performed_after_its_record(s):
    s.witness.append((run_id(13), 0, (s.clock // 1000 + 500) * 1000))


@plant("I20")
def step_row_without_its_event(s):
    s.rows["step"].append({"run_id": 13, "step_index": 5, "status": "completed"})


@plant("I20")
def recorded_command_left_no_trace(s):
    s.facts.update(witnessed=7, steps=[0])
    s.witness.clear()


@plant("I21")
def join_fired_twice(s):
    s.event(3, "run.queued", 13, reason="joined")


@plant("I21")
def join_counts_wrongly(s):
    s.rows["join_point"][0].update(completed=1, failed=1)


@plant("I21")
def branch_started_twice(s):
    s.find("run", 15)["branch_index"] = 0


@plant("I21")
def joined_output_differs(s):
    s.last("joined")[1]["r"]["branches"] = []


@plant("I22")
def queued_but_not_on_offer(s):
    s.rows["ready"] = []


@plant("I22")
def parent_waits_for_ended_children(s):
    s.find("run", 13)["status"] = "awaiting_parallel"


@plant("I22")
def overslept(s):
    s.facts.update(boot=1_000_000, now=4_000_000)


@plant("I22")
def something_still_open_at_rest(s):
    s.facts["final"] = True


@plant("I24")
def child_outlives_its_parent(s):
    s.find("run", 17)["status"] = "running"


@plant("I24")
def child_started_after_the_cancel(s):
    s.event(4, "run.claimed", 17)


@plant("I27")
def number_missing(s):
    s.rows["event"] = [e for e in s.rows["event"] if (e["tree_id"], e["seq"]) != (1, 3)]


@plant("I27")
def number_twice(s):
    s.rows["event"].append(dict(s.rows["event"][0]))


@plant("I27")
def events_of_a_tree_lost(s):
    s.rows["event"] = [e for e in s.rows["event"] if e["tree_id"] != 2]


@plant("I27")
def page_with_a_hole(s):
    s.last("tail")[1]["r"]["seqs"] = [2, 4]


@plant("I29")
def event_shown_twice(s):
    s.show("v1", 1, 5)


@plant("I29")
def event_left_out(s):
    s.views = [v for v in s.views if v.get("ev") != 4]


@plant("I29")
def event_that_was_never_stored(s):
    s.views.append(dict(s.views[-1], ev=77))


@plant("I29")
def event_shown_differently(s):
    s.views[-1]["type"] = "run.failed"


@plant("I29")
def stream_ended_before_the_run(s):
    s.connect("v2", 5, None, stream="run", run=18)
    s.show("v2", 5, 2)
    s.views.append({"chain": "v2", "end": "stream.end"})


@plant("I30")
def resumed_too_late(s):
    s.views = [v for v in s.views if v.get("ev") != 3]


@plant("I30")
def shown_number_refused_after_a_restart(s):
    s.connect("v1", 1, 5, status=400)


@plant("I30")
def probe_resumed_wrongly(s):
    s.last("resume")[1]["r"]["ids"] = [5]


@plant("I30")
def number_above_the_head_accepted(s):
    s.op("resume", stream=task_id(1), last=99, want=400)


@plant("I31")
def not_seen_after_the_ack(s):
    s.last("readback")[1]["r"]["found"] = False


@plant("UP")
def slow_start(s):
    s.facts["boots"].append({"n": 2, "ready": 5.5})


@plant("UP")
def no_start(s):
    s.facts["boots"].append({"n": 2, "ready": None})


@plant("UP")
def died_alone(s):
    s.facts["boots"].append({"n": 2, "ready": 0.1, "died": "status -6"})


def test_a_history_without_fault_passes():
    assert check(tell().world()) == []


@pytest.mark.parametrize("number, fault", PLANTED)
def test_finds(number, fault):
    story = tell()
    fault(story)
    found = check(story.world())
    assert number in {n for n, _, _ in found}, found


@plant("I8")
def prerequisites_counted_wrongly(s):
    s.find("task", 5).update(unmet_deps=1, status="blocked")


@plant("I22")
def free_although_its_task_is_paused(s):
    s.find("task", 5).update(paused_n=1, unmet_deps=0, approval_policy=0, approval_state=0)


@plant("I44")
def paused_and_not_told(s):
    s.event(5, "task.paused")


@plant("I44")
def told_of_a_deletion_that_was_none(s):
    s.audited(task_id(5), "task.deleted")


@plant("I44")
def a_row_that_follows_none(s):
    s.rows["audit"].append({"id": 1, "resource": "key_1", "action": "?1", "previous": "1" * 64, "hash": "2"})


def sent(s, n, task, status="pending", run=None, step=0):
    s.rows["task_input"].append({"id": n, "task_id": task, "status": status, "name": None, "run_id": run,
                                 "step_index": step, "message": f"m{n}"})


@plant("I1")
def an_acknowledged_input_is_lost(s):
    s.op("input", r={"input": wire_id("input", 80)}, task=task_id(5), marker="m80")


@plant("I3")
def a_key_makes_two_inputs(s):
    for n in 80, 81:
        sent(s, n, 5)
        s.op("input", r={"input": wire_id("input", n)}, task=task_id(5), marker=f"m{n}", key="k80")
    s.kept("k80")


@plant("I20")
def an_input_is_taken_and_nobody_tells(s):
    sent(s, 80, s.rows["run"][0]["task_id"], "consumed", s.rows["run"][0]["id"])


@plant("I20")
def an_input_is_taken_twice(s):
    run = s.rows["run"][0]
    sent(s, 80, run["task_id"], "consumed", run["id"])
    for _ in range(2):
        s.event(run["task_id"], "run.input_consumed", run["id"], input_id=wire_id("input", 80))


@plant("I22")
def a_run_waits_for_an_input_that_lies_there(s):
    sent(s, 80, 5)
    s.find("run", 18)["status"] = "awaiting_input"
    s.rows["step"].append({"run_id": 18, "step_index": 0, "status": "waiting", "input": "{}"})


@plant("REVIEWS")
def task_waits_for_a_review_that_is_over(s):
    s.find("review", 32).update(status="canceled")


@plant("REVIEWS")
def session_judges_two_runs(s):
    s.review(33, 11, status="in_review", session_id=4)


@plant("REVIEWS")
def rejection_without_continuation(s):
    s.find("review", 31)["continuation_run_id"] = None


@plant("REVIEWS")
def verdict_without_event(s):
    s.rows["event"] = [e for e in s.rows["event"] if e["type"] != "run.review_recorded"]


@plant("I8")
def task_completed_although_it_is_judged(s):
    s.find("task", 8)["status"] = "completed"


def test_every_invariant_has_a_planted_fault():
    assert {p.values[0] for p in PLANTED} == set(CHECKS)


def test_half_a_batch_is_found():
    story = tell()
    story.op("batch", "info", None, marker="h", bodies=[body("h.0"), body("h.1")])
    story.task(9, "h.0")
    assert ("I2", "h") in {(n, obj) for n, obj, _ in check(story.world())}


def test_the_fold_counts_claims_and_complains_once():
    events = [{"type": t, "seq": i, "run_id": 1} for i, t in enumerate(
        ["run.queued", "run.claimed", "run.released", "run.claimed", "run.completed", "run.failed"])]
    status, epoch, complaints = fold(events)
    assert (status, epoch, len(complaints)) == ("failed", 2, 1)


def test_ledger_lines_are_read_back_and_a_torn_one_is_left_out(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append({"op": "a", "p": "invoke", "t": 1, "f": "create"})
    ledger.append({"op": "a", "p": "ok", "t": 2, "status": 201})
    ledger.append({"op": "b", "p": "invoke", "t": 3, "f": "create"})
    with open(path, "ab") as f:
        f.write(b'{"op":"b","p":"o')
    a, b = read_ops(read_lines(path))
    assert a.ok and a.status == 201
    assert b.end == "info" and b.maybe


def test_ids_have_their_text_form_and_back():
    for number in 1, 31, 1 << 40, (1 << 62) + 12345:
        assert database.id_number(wire_id("task", number)) == number
    assert wire_id("run", 1) == "run_0000000000001"


def test_a_damaged_file_is_reported_not_raised(tmp_path):
    path = tmp_path / "baton.db"
    path.write_bytes(b"this is no database at all" * 100)
    assert database.load(path).soundness


def test_the_digest_sees_a_changed_row(tmp_path):
    path = tmp_path / "baton.db"
    db = sqlite3.connect(path)
    for table in database.STATE_TABLES:
        db.execute(f"CREATE TABLE {table} (id INTEGER, text TEXT)")
    db.execute("INSERT INTO task VALUES (1, 'a')")
    db.commit()
    before = database.digest(path)
    db.execute("UPDATE task SET text = 'b'")
    db.commit()
    assert database.digest(path) != before
