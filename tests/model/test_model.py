"""The comparer is compared: what is falsified is noticed, what is true is not, and a failure can be repeated."""
import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import run
from beside import Beside
from driver import RUNS, TASKS, APPROVALS, REVIEWS, Sequence

BATON = os.environ.get("BATON", str(HERE.parents[1] / "build" / "baton"))

# Every kind of record is there at the end.
OPS = [
    {"do": "create", "by": "ann", "as": "t0", "body": {"title": "x", "start": True, "required_capabilities": ["a"],
                                                     "review_policy": "always"}},
    {"do": "create", "by": "bot", "as": "t1", "body": {"title": "x", "approval_policy": "manual", "network_channel": "red"}},
    {"do": "child", "by": "ann", "as": "t2", "on": "t0", "body": {"title": "x", "start": True, "priority": "high"}},
    {"do": "pause", "by": "ann", "on": "t1", "body": {"reason": "lunch"}},
    {"do": "depend", "by": "ann", "on": "t1", "to": "t0", "body": {}},
    {"do": "approve", "by": "ann", "on": "t1", "body": {}},
    {"do": "claim", "by": "bot", "body": {"capabilities": ["a"], "max": 2}},
    {"do": "fail", "by": "bot", "on": "t2/1", "token": "t2/1@1", "body": {"error": "no", "kind": "policy"}},
    {"do": "complete", "by": "bot", "on": "t0/1", "token": "t0/1@1", "body": {"result": 1}},
    {"do": "retry", "by": "ann", "on": "t2", "body": {}},
    {"do": "bind", "by": "ann", "on": "t0/1~1.1", "body": {}},
    {"do": "verdict", "by": "ann", "on": "t0/1~1.1", "body": {"outcome": "rejected", "reason": "r", "confidence": 1,
                                                              "delivery_id": "d", "missing_work": ["more"]}},
    {"do": "ask", "by": "bot", "on": "t0/1", "body": {"attempt": 2}},
    {"do": "bind", "by": "ann", "on": "t0/1~1.2", "body": {}},
]


@pytest.fixture(scope="module")
def server():
    with run.serving(BATON, ["file"]) as places:
        yield run.connect(places)


class Liar(Sequence):
    """A sequence whose server lies about lists, or in its answers."""

    def __init__(self, server, path, lie):
        super().__init__(server)
        self.path, self.lie, self.lied = path, lie, False

    def get(self, paths):
        return [self.falsify(body) if self.path in path else body for path, body in zip(paths, super().get(paths))]

    def falsify(self, body):
        items = json.loads(body)["items"]
        before = json.dumps(items)
        self.lie(items)
        self.lied |= before != json.dumps(items)
        return json.dumps({"items": items}).encode()


def change(field, value):
    """A lie: the first record that has this field, or could have it, says something else."""
    def lie(items):
        for item in items:
            if item.get(field) != value:
                item[field] = value
                return
    return lie


def drop(field):
    def lie(items):
        for item in items:
            if item.pop(field, None):
                return
    return lie


def last_is_lost(items):
    del items[-1:]


def two_change_places(items):
    items[:2] = items[1::-1] if len(items) > 1 and items[0]["type"] != items[1]["type"] else items[:2]
    for item, number in zip(items, sorted(i["sequence"] for i in items)):
        item["sequence"] = number


TASK_LIES = {"title": "y", "metadata": {"y": 1}, "status": "pending", "draft": True, "priority": "low", "max_attempts": 9,
             "auto_enqueue_on_ready": True, "approval_policy": "some", "approval_state": "asked",
             "owner": {"kind": "human", "ref": "x"}, "network_channel": "green", "required_capabilities": ["x"],
             "preferred_capabilities": ["x"], "created_by": {"kind": "human", "ref": "x"}, "depth": 7, "child_count": 9,
             "dependency_count": 9, "unmet_dependency_count": 9, "current_run_id": "run_1", "paused": True,
             "effective_paused": True, "paused_by": {"kind": "human", "ref": "x"}, "paused_reason": "tea",
             "review_policy": "some", "review_id": "review_1", "review_round": 9, "review_circuit_at": "now",
             "closed_at": "now", "latest_sequence": 99}
REVIEW_LIES = {"status": "lost", "requested_by": {"kind": "human", "ref": "x"}, "reviewer": {"kind": "human", "ref": "x"},
               "outcome": "x", "no_continuation": "x"}
RUN_LIES = {"status": "lost", "attempt": 9, "epoch": 9, "priority": "low", "previous_run_id": "run_1", "failure_kind": "x",
            "error": "x", "result": 9, "claimed_by": {"kind": "human", "ref": "x"}, "session_id": "x",
            "network_channel": "green", "required_capabilities": ["x"], "preferred_capabilities": ["x"], "recoveries": 1,
            "started_at": "now", "ended_at": "now", "lease_until": "now"}
LIES = ([(TASKS, f"{k} of a task", change(k, v)) for k, v in TASK_LIES.items()] +
        [(RUNS, f"{k} of a run", change(k, v)) for k, v in RUN_LIES.items()] +
        [(REVIEWS, f"{k} of a review", change(k, v)) for k, v in REVIEW_LIES.items()] +
        [(path, f"a lost {field} of {path}", drop(field)) for path, field in (
            (TASKS, "parent_task_id"), (TASKS, "paused_by_task_id"), (RUNS, "ended_at"), (RUNS, "previous_run_id"),
            (REVIEWS, "continuation_run_id"))] +
        [(path, f"the last of {path}", last_is_lost) for path in (TASKS, RUNS, APPROVALS, REVIEWS, "/timeline", "/dependencies")] +
        [("/timeline", "the order of events", two_change_places), ("/timeline", "a type of an event", change("type", "x")),
         ("/timeline", "a number of an event", change("sequence", 99)),
         (APPROVALS, "status of an approval", change("status", "x")), (APPROVALS, "who asked", change("requested_by", None)),
         ("/dependencies", "on_failure", change("on_failure", "cancel")),
         ("/dependencies", "met", change("met", True))])


def test_what_is_true_is_no_disagreement(server):
    assert run.fails(server, OPS) is None


@pytest.mark.parametrize("path, sentence, lie", LIES, ids=[sentence for _, sentence, _ in LIES])
def test_what_is_falsified_is_a_disagreement(server, path, sentence, lie):
    liar = Liar(server, path, lie)
    with pytest.raises(run.Disagreement):
        liar.run(OPS)
    assert liar.lied


@pytest.mark.parametrize("edit", [
    lambda status, body: (status + 1, body), lambda status, body: (status, {**body, "code": "x"}),
    lambda status, body: (status, {**body, "claims": body["claims"][::-1]} if "claims" in body else body),
    lambda status, body: (status, {**body, "existing_run": True} if "existing_run" in body else body)])
def test_a_falsified_answer_is_a_disagreement(server, edit, monkeypatch):
    ask = Sequence.ask
    monkeypatch.setattr(Sequence, "ask", lambda self, op: edit(*ask(self, op)))
    assert run.fails(server, OPS)


def test_two_servers_that_say_the_same_are_no_disagreement(server):
    assert run.fails([server, server], OPS) is None


@pytest.mark.parametrize("true, false", [
    ('"updated_at"', '"changed_at"'), ('"origin"', '"source"'), ('"depth":1', '"depth":2'), ('"id 1"', '"id 2"')])
def test_what_one_of_two_servers_says_differently_is_a_disagreement(server, true, false):
    """Also where the model knows nothing of it."""
    pair = Beside([server, server])
    heard = pair.two[1].heard
    pair.two[1].heard = lambda: [(path, text.replace(true, false)) for path, text in heard()]
    with pytest.raises(run.Disagreement):
        pair.run(OPS)


def test_a_failure_shrinks_to_what_it_needs_and_is_told_in_a_line_that_repeats_it(server, monkeypatch):
    """The model forgets that a pause reaches down."""
    monkeypatch.setattr("model.Task.paused_by", property(lambda self: self if self.paused else None))
    ops = [*OPS[:3], {"do": "pause", "by": "bot", "on": "t0", "body": {"reason": "tea"}, "key": "k"}, *OPS[3:]]
    fewer, (at, said) = run.shrink(server, ops, run.fails(server, ops))
    assert [op["do"] for op in fewer] == ["create", "child", "pause"] and at == 2 and "effective_paused" in said
    assert "key" not in fewer[2] and fewer[0]["body"] == {"title": "x"}
    assert run.fails(server, json.loads(json.dumps(fewer))) == (at, said)


def test_a_seed_gives_the_same_operations_each_time():
    assert run.generate(7, 30) == run.generate(7, 30) != run.generate(8, 30)


# What the operations of 1000 seeds must come to; what they do not come to is not tested.
REACHED = {
    *(("approve", c) for c in (None, "invalid_transition", "already_decided", "self_approval_denied", "permission_denied")),
    *(("cancel", c) for c in (None, "invalid_transition", "not_found", "idempotency_mismatch")),
    *(("child", c) for c in (None, "invalid_transition", "graph_limit_exceeded", "validation_failed", "permission_denied")),
    *(("claim", c) for c in (None, "active_lease_exists", "permission_denied")),
    *(("claim_run", c) for c in (None, "active_lease_exists", "permission_denied", "lease_already_held", "invalid_transition")),
    *(("complete", c) for c in (None, "stale_claim_token", "foreign_run", "invalid_transition", "not_found")),
    *(("create", c) for c in (None, "validation_failed", "unknown_field", "idempotency_mismatch")),
    *(("decide", c) for c in (None, "already_decided", "self_approval_denied", "not_found")),
    *(("delete", c) for c in (None, "validation_failed", "not_found")),
    *(("depend", c) for c in (None, "cycle_detected", "graph_limit_exceeded", "validation_failed", "not_found")),
    *((verb, c) for verb in ("fail", "release", "run_start", "heartbeat")
      for c in (None, "stale_claim_token", "invalid_transition")),
    *((verb, c) for verb in ("start", "enqueue", "publish", "reject", "retry", "run_retry", "run_cancel")
      for c in (None, "invalid_transition")),
    *(("patch", c) for c in (None, "immutable_field", "unknown_field", "validation_failed")),
    *(("pause", c) for c in (None, "reason_required", "invalid_transition")), ("resume", None), ("undepend", None),
    *(("ask", c) for c in (None, "validation_failed", "invalid_transition", "not_found")),
    *(("bind", c) for c in (None, "self_approval_denied", "permission_denied", "invalid_transition", "not_found")),
    *(("verdict", c) for c in (None, "validation_failed", "self_approval_denied", "permission_denied", "conflict",
                               "invalid_transition", "not_found")),
    ("undepend", "not_found"), ("list", None), ("batch", None), ("complete_many", None), ("heartbeat_many", None),
}


def test_random_operations_come_to_every_kind_of_answer():
    seen, replayed, waits, waits_for, judged = set(), 0, set(), set(), set()
    for seed in range(1000):
        model = run.Model()
        for op in run.generate(seed, 30):
            answer = model.apply(op)
            seen.add((op["do"], answer.code))
            replayed += answer.replayed is not None
        waits |= {code for t in model.all.values() for r in t.runs for code in model.reasons(r)}
        judged |= {(r.said["outcome"], r.no_continuation or r.next and r.round) for r in model.reviews.values() if r.said}
        judged |= {(r.status, r.attempt) for r in model.reviews.values() if not r.asked_by}
        waits_for |= {(how, other.status) for t in model.all.values() for other, how in t.needs.items()}
    assert REACHED - seen == set() and replayed > 100
    assert waits == {"blocked_by_dependency", "awaiting_approval", "paused", "backoff", "running", "terminal"}
    assert waits_for >= {(how, end) for how in ("block", "proceed", "cancel") for end in ("completed", "failed", "canceled")}
    assert judged >= {
        *((outcome, None) for outcome in ("approved", "blocked", "error", "timeout", "invalid_output")),
        *(("rejected", why) for why in (1, 2, "task_canceled", "open_run", "newer_run", "attempts_exhausted",
                                        "rounds_exhausted", "rapid_ends")), ("canceled", 1), ("recorded", 2)}


def test_the_model_is_small_and_does_no_input_or_output():
    text = (HERE / "model.py").read_text()
    assert len(text.splitlines()) <= 900
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in ast.walk(ast.parse(text))
             if isinstance(n, (ast.Import, ast.ImportFrom))}
    assert names == {"dataclasses", "typing"} and "open(" not in text and "print(" not in text


@pytest.mark.parametrize("n, more", [(60, []), (20, ["--beside"])], ids=["the model", "both engines"])
def test_random_sequences_agree(n, more):
    """A few in every run of the tests; CI, `make model-test` and `make beside-test` do many."""
    ended = subprocess.run([sys.executable, HERE / "run.py", "--baton", BATON, "--sequences", str(n), "--seed", "1", *more],
                           capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0 and f"{n} passed, 0 failed" in ended.stdout, ended.stdout + ended.stderr
