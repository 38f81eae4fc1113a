"""Every operation that the matrix tries: generators of three parts, divided by two yields.

Before the first yield the ground is prepared; between the yields the operation is asked for while a
failpoint is armed; after the second one nothing is armed, the server is up again and the operation
must come to its good end.  What is asked for and answered goes through the ledger of the crash
test, whose invariants judge it afterwards.
"""

import contextlib
import http.server
import json
import os
import sqlite3
import threading
import time

from api import Client, Lost
from database import id_number
from load import batch_result, claims_result, started
from points import EVER

OPERATIONS = {}
BESIDE = {}  # operation: another fault, (point, action, last hit), without which it would not come about
AT = {}  # operation that takes seconds: the points at which alone it is tried


def operation(f):
    OPERATIONS[f.__name__] = f
    return f


def keyed(a, f, path, body, read=None, **invoke):
    """A request with an Idempotency-Key: whatever became of the first one, asked again it is done once."""
    key = "key-" + a.ident()
    yield
    a.post(f, path, body, read, key, **invoke)
    yield
    for _ in range(2):
        end, answer = a.post(f, path, body, read, key, **invoke)
        assert end == "ok", (f, end, answer and answer.body)


def ask(f, *args, **more):
    """Asks; the answer may be lost."""
    with contextlib.suppress(Lost):
        f(*args, **more)


def body(a, start=True):
    """Marker and body of a task that is not tried again by itself."""
    marker = a.ident()
    sent = a.writer.body(marker, start)
    sent.pop("retry", None)
    return marker, sent


def made(a, start=True, **fields):
    """A task of its own: its ids."""
    marker, sent = body(a, start)
    sent.update(fields)
    end, answer = a.post("create", "/v1/tasks", sent, started, marker=marker, sent=sent)
    assert end == "ok", answer and answer.body
    return started(answer.body)


def claim_path(run):
    return f"/v1/runs/{run}/claim"


def claimed(a, lease=60, **fields):
    """A claim on a run of its own."""
    end, answer = a.as_claimer("claim", claim_path(made(a, **fields)["run"]), {"lease_seconds": lease})
    assert end == "ok", answer and answer.body
    return dict(claims_result(answer.body)["claims"][0], lease=lease)


# ---- tasks ----


@operation
def create_task(a):
    marker, sent = body(a)
    yield from keyed(a, "create", "/v1/tasks", sent, started, marker=marker, sent=sent)


@operation
def create_task_again(a):
    """Its transaction is run twice, the second time with savepoints."""
    yield from create_task(a)


BESIDE["create_task_again"] = "operation_done", "error", 1


@operation
def create_task_after_all(a):
    """Its commit fails and the database is opened again."""
    parts = create_task(a)
    next(parts)
    yield
    next(parts)
    a.back()
    yield
    next(parts, None)


BESIDE["create_task_after_all"] = "before_commit", "error", 1


@operation
def create_tasks(a):
    marker = a.ident()
    bodies = [a.writer.body(f"{marker}.{i}", i % 2 == 0) for i in range(5)]
    bodies[3]["title"] = " "
    yield from keyed(a, "batch", "/v1/tasks/batch", {"items": bodies}, batch_result, marker=marker,
                     bodies=bodies)


@operation
def patch_task(a):
    marker, sent = body(a)
    end, answer = a.post("create", "/v1/tasks", sent, started, marker=marker, sent=sent)
    task = started(answer.body)["task"]

    def patch(v):
        new = {"title": f"{marker} v{v}", "description": f"v{v}", "metadata": {"op": marker, "v": v}}
        return a.op("patch", lambda c: c.call("PATCH", f"/v1/tasks/{task}", new), task=task, v=v)[0]
    yield
    patch(1)
    yield
    assert patch(2) == "ok"


@operation
def start_task(a):
    task = made(a, start=False)["task"]
    yield from keyed(a, "start", f"/v1/tasks/{task}/start", {}, started, task=task)


@operation
def retry_task(a):
    claim = claimed(a, max_attempts=3)
    a.move("fail", claim, {"error": "first attempt"})
    yield from keyed(a, "retry", f"/v1/tasks/{claim['task']}/retry", {}, started, task=claim["task"])


def of_a_task(name, path, sent, before=None, **fields):
    """An operation on a task of its own, after another: (path, body)."""
    def does(a):
        task = made(a, **fields)["task"]
        if before:
            assert a.post(before[0], f"/v1/tasks/{task}/{before[0]}", before[1], task=task)[0] == "ok"
        yield from keyed(a, name, f"/v1/tasks/{task}/{path}", sent, task=task)
    does.__name__ = name
    return operation(does)


pause_task = of_a_task("pause_task", "pause", {"reason": "wait"})
resume_task = of_a_task("resume_task", "resume", {}, before=("pause", {"reason": "wait"}))
publish_task = of_a_task("publish_task", "publish", {}, start=False, draft=True)
approve_task = of_a_task("approve_task", "approve", {"comment": "go"}, start=False, approval_policy="manual")
reject_task = of_a_task("reject_task", "reject", {"comment": "no"}, start=False, approval_policy="manual")


@operation
def wait_for_task(a):
    task, needed = made(a, start=False)["task"], made(a)["task"]
    yield from keyed(a, "depend", f"/v1/tasks/{task}/dependencies", {"depends_on_task_id": needed}, task=task)


@operation
def end_what_others_wait_for(a):
    needed, waiting = claimed(a, review_policy="none"), [made(a, start=False)["task"] for _ in range(2)]
    for task in waiting:
        a.post("depend", f"/v1/tasks/{task}/dependencies", {"depends_on_task_id": needed["task"]}, task=task)
    yield
    a.move("complete", needed, {"result": 1}, result=1)
    yield
    a.complete(needed, 1)
    assert [a.client.get(f"/v1/tasks/{task}").body["status"] for task in waiting] == ["ready"] * 2


@operation
def cancel_task(a):
    task = claimed(a)["task"]
    yield from keyed(a, "cancel_task", f"/v1/tasks/{task}/cancel", {"reason": "asked"}, task=task)


@operation
def cancel_run(a):
    run = made(a)["run"]
    yield from keyed(a, "cancel_run", f"/v1/runs/{run}/cancel", {}, run=run)


@operation
def force_fail_run(a):
    run = made(a)["run"]
    yield from keyed(a, "force_fail", f"/v1/runs/{run}/force-fail", {"reason": "asked"}, run=run)
    assert a.run(run)["failure_kind"] == "operator_forced"


@operation
def force_fail_runs(a):
    runs = [made(a)["run"] for _ in range(3)]
    yield from keyed(a, "force_fail_runs", "/v1/runs/bulk/fail", {"run_ids": runs, "reason": "asked"})
    assert {a.run(run)["failure_kind"] for run in runs} == {"operator_forced"}


@operation
def force_fail_as_agent(a):
    """How often an agent does that is counted."""
    claim, agent = claimed(a), Client(a.load.server, key_of(a, a.ident())["key"])
    asked = f"/v1/runs/{claim['run']}/force-fail", {"reason": "asked"}
    yield
    ask(agent.post, *asked)
    yield
    assert agent.post(*asked).status in (200, 409)
    assert a.run(claim["run"])["failure_kind"] == "operator_forced"
    end, answer = a.move("complete", claim, {"result": 1}, result=1)
    assert answer.code == "stale_claim_token", (end, answer.body)


@operation
def force_release_run(a):
    run = claimed(a)["run"]
    yield from keyed(a, "force_release", f"/v1/runs/{run}/force-release", {}, run=run)
    assert a.run(run)["status"] == "queued"


@operation
def read_task(a):
    task = made(a)["task"]
    yield
    ask(a.client.get, f"/v1/tasks/{task}")
    yield
    assert a.client.get(f"/v1/tasks/{task}").status == 200


@operation
def follow_task(a):
    """What a stream shows, over its break, is the whole history once."""
    claim = claimed(a)
    seen = {}

    def follow(patience):
        stream = a.client.stream(f"/v1/tasks/{claim['task']}/events/stream", max(seen, default=None), patience)
        try:
            while "task.status_changed" not in seen.values() and (frame := stream.next()):
                assert frame[0] not in seen
                seen[frame[0]] = json.loads(frame[2])["type"]
        finally:
            stream.close()
    yield
    try:
        a.move("complete", claim, {"result": 1}, result=1)
        follow(0.5)
    except (Lost, TimeoutError):
        pass
    yield
    a.complete(claim, 1)
    follow(5)
    history = a.client.get(f"/v1/tasks/{claim['task']}/timeline?limit=500").body["items"]
    assert list(seen.items()) == [(e["sequence"], e["type"]) for e in history]


@operation
def checkpoint(a):
    made(a)
    yield
    made_quietly(a)
    time.sleep(1.0)  # idle long enough that the log goes home
    yield
    made(a)


def made_quietly(a):
    marker, sent = body(a)
    a.post("create", "/v1/tasks", sent, started, marker=marker, sent=sent)


# ---- the scheduler ----


@operation
def pause_scheduler(a):
    run = made(a)["run"]
    yield from keyed(a, "pause_scheduler", "/v1/scheduler/pause", {"reason": "asked"})
    assert a.claim()[1].status == 204 and a.run(run)["status"] == "queued"
    assert a.client.post("/v1/scheduler/resume").status == 200


@operation
def resume_scheduler(a):
    run = made(a)["run"]
    assert a.client.post("/v1/scheduler/pause").status == 200
    yield from keyed(a, "resume_scheduler", "/v1/scheduler/resume", {})
    assert a.as_claimer("claim", claim_path(run), {"lease_seconds": 60})[0] == "ok"


@operation
def drain_scheduler(a):
    """Of every drain that has begun the end is told, also when nobody waits for it any more."""
    claim = claimed(a)
    asked = "/v1/scheduler/drain", {"timeout_seconds": 1}

    def told(what):
        return [e["type"] for e in a.client.all("/v1/scheduler/events")].count("scheduler.drain_" + what)
    yield
    waiting = threading.Thread(target=ask, args=(Client(a.load.server).post, *asked))
    waiting.start()
    time.sleep(0.05)
    a.move("complete", claim, {"result": 1}, result=1)
    waiting.join()
    yield
    a.complete(claim, 1)
    drain = a.client.post(*asked).body
    assert drain["completed"] == (drain["remaining_claims"] == 0), drain
    a.until(lambda: told("started") == told("completed") > 0, 5)
    assert a.client.post("/v1/scheduler/resume").status == 200
    claimed(a)


# ---- workspaces ----


def space(a):
    """The id of a workspace of its own, and the header that chooses it."""
    ident = a.client.post("/v1/workspaces", {"name": "w", "slug": a.ident()}).body["id"]
    return ident, {"X-Workspace-ID": ident}


def ended(a, there):
    """A task that has ended, in another workspace: nobody promises that it stays."""
    task = started(a.client.post("/v1/tasks", {"title": "t", "start": True}, headers=there).body)["task"]
    assert a.client.post(f"/v1/tasks/{task}/cancel", headers=there).status == 200
    return task


def row(a, sql, *args):
    with contextlib.closing(sqlite3.connect(f"file:{a.machine.data}/baton.db?mode=ro", uri=True)) as db:
        return db.execute(sql, args).fetchone()


@operation
def delete_workspace(a):
    """Nobody gets in any more, and nothing of it stays."""
    ident, there = space(a)
    task, key = ended(a, there), key_of(a, a.ident(), workspace_id=ident)["key"]
    assert a.client.call("PUT", "/v1/secrets/word", {"value": "secret" * 4}, headers=there).status == 204
    asked = "DELETE", "/v1/workspaces/" + ident
    yield
    ask(a.client.call, *asked)
    yield
    assert a.client.call(*asked).status in (204, 404)
    assert a.client.call(*asked).status == 404
    assert Client(a.load.server, key).get("/v1/tasks").status == 401
    assert a.client.get(f"/v1/tasks/{task}").status == 404
    rows = "SELECT count(*) FROM {} WHERE workspace_id = (SELECT id FROM name WHERE text = ?)"
    for table in "task", "run", "secret":
        a.until(lambda table=table: row(a, rows.format(table), ident) == (0,), 5)


@operation
def sweep_workspace(a):
    """The files of a deleted workspace are removed, ten seconds after it."""
    ident, there = space(a)
    write = {"action": "write_file", "parameters": {"path": "a.txt", "content": "text"}}
    made = a.client.post("/v1/definitions", {"name": "writes", "steps": [write]}, headers=there).body["id"]
    task = started(a.client.post(f"/v1/definitions/{made}/runs", headers=there).body)["task"]
    a.until(lambda: a.client.get(f"/v1/tasks/{task}").body["status"] == "completed", 10)
    assert a.client.call("DELETE", "/v1/workspaces/" + ident).status == 204
    time.sleep(9)

    def swept():
        return row(a, "SELECT swept_at FROM workspace WHERE id = (SELECT id FROM name WHERE text = ?)", ident)[0]
    yield
    a.until(swept, 8, may=True)
    yield
    a.until(swept, 20)
    assert not os.listdir(os.path.join(a.machine.data, "workspaces", ident))


AT["sweep_workspace"] = "workspace_purged", "files_swept"


@operation
def expire_tree(a):
    """A tree that has ended goes with all its rows, and the audit log says so once."""
    ident, there = space(a)
    task = ended(a, there)
    asked = "PATCH", "/v1/workspaces/" + ident, {"retention_seconds": 1}

    def is_gone():
        return a.client.get(f"/v1/tasks/{task}").status == 404
    yield
    ask(a.client.call, *asked)
    a.until(is_gone, 4, may=True)
    yield
    assert a.client.call(*asked).status == 200
    a.until(is_gone, 20)
    assert len(a.client.get("/v1/audit?action=tree.expired&workspace_id=" + ident).body["items"]) == 1
    a.until(lambda: row(a, "SELECT count(*) FROM event WHERE tree_id = ?", id_number(task)) == (0,), 5)


AT["expire_tree"] = "tree_expires", "tree_expired", "write"


# ---- claims ----


@operation
def claim_next(a):
    made(a)
    yield
    a.claim()
    yield
    assert a.claim()[0] == "ok"


@operation
def claim_this(a):
    run = made(a)["run"]
    yield
    a.as_claimer("claim", claim_path(run), {"lease_seconds": 60})
    yield
    # It is free, or held by whoever was told or not told so.
    end, answer = a.as_claimer("claim", claim_path(run), {"lease_seconds": 60})
    assert end == "ok" or answer.code == "lease_already_held", answer.body


@operation
def claim_waits(a):
    """A claim waits; a run comes."""
    a.empty_queue()
    yield
    waiting = a.in_background(lambda b: b.claim(wait_seconds=5))
    time.sleep(0.05)
    marker, sent = body(a)
    a.post("create", "/v1/tasks", sent, started, "key-" + marker, marker=marker, sent=sent)
    waiting.join()
    yield
    assert a.post("create", "/v1/tasks", sent, started, "key-" + marker, marker=marker, sent=sent)[0] == "ok"


@operation
def claim_and_leave(a):
    """A claim waits, its client leaves, a run comes: nobody holds it for long."""
    a.empty_queue()
    yield
    ask(a.claimer.post, "/v1/runs/claim", {"lease_seconds": 1, "wait_seconds": 20}, timeout=0.1)
    yield
    run = made(a)["run"]
    end, answer = a.as_claimer("claim", claim_path(run), {"lease_seconds": 60})
    assert end == "ok", answer.body


@operation
def claim_and_leave_late(a):
    """A claim is granted while its client leaves: it goes back, at the latest when its lease is over."""
    run = made(a)["run"]
    yield
    ask(a.claimer.post, claim_path(run), {"lease_seconds": 1}, timeout=0.1)
    a.until(lambda: a.run(run)["status"] == "queued" and a.run(run)["epoch"] == 1, 1, may=True)
    yield
    a.until(lambda: a.as_claimer("claim", claim_path(run), {"lease_seconds": 60})[0] == "ok", 20)


BESIDE["claim_and_leave_late"] = "after_commit", "stall", EVER


def held(f, sent=None, again="ok", **invoke):
    """A move of a lease's holder, asked again until it is known."""
    def moves(a):
        claim = claimed(a)
        yield
        first, _ = a.move(f, claim, sent, **invoke)
        yield
        end, answer = a.move(f, claim, sent, **invoke)
        # Of a move that was recorded the token is used up; only a completion may be repeated.
        assert end == "ok" or (again != "ok" and answer.code in again), (f, first, end, answer.body)
    moves.__name__ = f + "_run"
    return operation(moves)


held("begin", again=("invalid_transition",))
held("heartbeat", {"lease_seconds": 60})
held("complete", {"result": {"n": 1}}, result={"n": 1})
held("fail", {"error": "no"}, again=("invalid_transition", "stale_claim_token"))
held("release", {"reason": "no"}, again=("stale_claim_token",))


@operation
def complete_runs(a):
    claims = [claimed(a) for _ in range(3)]
    items = [{"run_id": c["run"], "claim_token": c["token"], "result": 1} for c in claims]
    yield
    ask(a.claimer.post, "/v1/runs/complete", {"items": items})
    yield
    for claim in claims:
        a.complete(claim, 1)


@operation
def lease_expires(a):
    claim = claimed(a, lease=1)
    yield
    a.until(lambda: a.run(claim["run"])["status"] == "queued", 3, may=True)
    yield
    a.until(lambda: a.run(claim["run"])["status"] == "queued", 20)  # a start gives it ten seconds


# ---- sessions ----


def key_of(a, session, **fields):
    return a.client.post("/v1/keys", {"name": session, "actor_kind": "agent_session", "ref": session,
                                      "scopes": ["tasks:read", "tasks:write", "runs:claim"], **fields}).body


def attach_path(run):
    return f"/v1/runs/{run}/attach-session"


@operation
def attach_session(a):
    """Who holds a run says which session works on it, and keeps the lease."""
    claim, session = claimed(a), a.ident()
    asked = "attach", attach_path(claim["run"]), {"session_id": session, "claim_token": claim["token"]}
    yield
    a.holder.post(*asked)
    yield
    end, answer = a.holder.post(*asked)
    assert end == "ok" or answer.code == "session_already_bound", answer.body
    assert a.run(claim["run"])["session_id"] == session
    events = [e["type"] for e in a.client.get(f"/v1/runs/{claim['run']}/events").body["items"]]
    assert events.count("run.session_bound") == 1
    a.complete(claim, 1)


@operation
def attach_session_to_queued_run(a):
    run, session = made(a)["run"], a.ident()
    asked = "claim", attach_path(run), {"session_id": session, "lease_seconds": 60}
    yield
    a.as_claimer(*asked)
    yield
    end, answer = a.as_claimer(*asked)
    assert end == "ok" or answer.code == "session_already_bound", answer.body
    assert a.run(run)["session_id"] == session


@operation
def end_session(a):
    """With its last key a session is over, and what it holds goes back."""
    session, run = a.ident(), made(a)["run"]
    key = key_of(a, session, session_id=session)
    assert Client(a.load.server, key["key"]).post(claim_path(run), {"lease_seconds": 60}).status == 200
    asked = "DELETE", "/v1/keys/" + key["id"]
    yield
    ask(a.client.call, *asked)
    yield
    assert a.client.call(*asked).status in (204, 404)
    assert a.run(run)["status"] == "queued"


# ---- definitions and what the worker does ----


@operation
def save_definition(a):
    document = {"name": "saved-" + a.ident(), "steps": [
        {"action": "sub_task", "parameters": {"referenced_task_id": "crash-steps"}}]}
    yield from keyed(a, "define", "/v1/definitions", document)


def performed(name, steps=None):
    """A run of one of the crash test's definitions, or of these steps, comes to its good end."""
    def runs(a):
        marker = a.ident()
        ident = a.define(marker, steps) if steps else a.load.definitions["crash-" + name]
        sent = {"title": marker, "input": {"n": 2, "items": [1, 2, 3]}}
        asked = f"/v1/definitions/{ident}/runs", sent, started, "key-" + marker
        yield
        end, answer = a.post("defrun", *asked, marker=marker, sent=sent, definition=name)
        if end == "ok":
            a.until(lambda: a.completed(answer.body["task"]["id"]), 3, may=True)
        yield
        end, answer = a.post("defrun", *asked, marker=marker, sent=sent, definition=name)
        assert end == "ok", answer.body
        a.until(lambda: a.completed(answer.body["task"]["id"]), 40)
    runs.__name__ = "run_" + name
    return operation(runs)


for definition in "steps", "parallel", "any", "each", "sub", "witness", "delay", "approval", "input":
    performed(definition)
performed("output", [{"action": "execute_command", "parameters": {"command": "echo a; sleep 0.05; echo b"}}])

SLEEPS = {"action": "delay", "parameters": {"seconds": 600}}


@operation
def cancel_definition_run(a):
    """A run with branches that sleep is canceled as a whole."""
    marker = a.ident()
    ident = a.define(marker, [
        {"action": "parallel", "parameters": {"branches": [{"steps": [SLEEPS]}, {"steps": [SLEEPS]}]}}])
    sent = {"title": marker, "input": {}}
    end, answer = a.post("defrun", f"/v1/definitions/{ident}/runs", sent, started, marker=marker, sent=sent,
                         definition=marker)
    ids = started(answer.body)
    a.until(lambda: len(a.client.get(f"/v1/runs?status=sleeping&parent_run_id={ids['run']}").body["items"]) == 2, 10)
    yield from keyed(a, "cancel_task", f"/v1/tasks/{ids['task']}/cancel", {}, task=ids["task"])


@operation
def send_input(a):
    """An input meets a run that waits for it."""
    marker = a.ident()
    ident = a.define(marker, [{"action": "wait_input"}])
    sent = {"title": marker, "input": {}}
    end, answer = a.post("defrun", f"/v1/definitions/{ident}/runs", sent, started, marker=marker, sent=sent,
                         definition=marker)
    ids = started(answer.body)
    a.until(lambda: a.run(ids["run"])["status"] == "awaiting_input", 10)
    yield from keyed(a, "input", f"/v1/tasks/{ids['task']}/inputs", {"message": marker},
                     lambda b: {"input": b["id"]}, task=ids["task"], marker=marker)
    a.until(lambda: a.run(ids["run"])["status"] == "completed", 40)


@operation
def consume_input(a):
    """A holder takes an input, and says so until it is known."""
    claim = claimed(a)
    marker = a.ident()
    end, answer = a.post("input", f"/v1/tasks/{claim['task']}/inputs", {"message": marker},
                         lambda b: {"input": b["id"]}, task=claim["task"], marker=marker)
    path = f"/v1/runs/{claim['run']}/inputs/{answer.body['id']}/consume"
    sent = {"claim_token": claim["token"]}
    yield
    try:
        a.claimer.post(path, sent)
    except Lost:
        pass
    yield
    answer = a.claimer.post(path, sent)
    assert answer.status == 200 and answer.body["run_id"] == claim["run"], answer.body


# ---- webhooks ----


@contextlib.contextmanager
def receiver(hear):
    """The address of a server that answers what hear(headers, body) gives."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(hear(self.headers, sent)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextlib.contextmanager
def webhook(a, event, hear):
    """A webhook's id, as long as it is wanted."""
    with receiver(hear) as url:
        hook = a.client.post("/v1/webhooks", {"url": url, "events": [event]}).body["id"]
        try:
            yield hook
        finally:
            a.client.call("DELETE", "/v1/webhooks/" + hook)


@operation
def deliver_event(a):
    """What is committed reaches a webhook, again and again under the same id."""
    ids = {}
    marker, sent = body(a)
    asked = "create", "/v1/tasks", sent, started, "key-" + marker

    def hear(headers, told):
        ids.setdefault(told["data"]["task_id"], set()).add(headers["webhook-id"])

    with webhook(a, "task.created", hear) as hook:
        yield
        a.post(*asked, marker=marker, sent=sent)
        a.until(lambda: ids, 3, may=True)
        yield
        end, answer = a.post(*asked, marker=marker, sent=sent)
        assert end == "ok", answer and answer.body
        a.until(lambda: started(answer.body)["task"] in ids, 20)
        a.until(lambda: all(d["status"] == "delivered" for d in
                            a.client.get(f"/v1/webhooks/{hook}/deliveries").body["items"]), 20)
        assert list(map(len, ids.values())) == [1], ids


@operation
def claim_with_policy(a):
    """A claim waits for what its workspace's policy says."""
    with webhook(a, "task.run.pre_claim", lambda *_: {"decision": "allow"}):
        yield from claim_this(a)


# ---- the server itself ----


@operation
def stop_and_start(a):
    """SIGTERM in the middle of a command."""
    a.definition_run("crash-witness")
    claim = claimed(a)
    yield
    a.stop()
    yield
    a.complete(claim, 1)


@operation
def kill_and_start(a):
    claim = claimed(a)
    a.definition_run("crash-witness")
    yield
    a.kill()
    yield
    a.complete(claim, 1)


@operation
def first_start(a):
    """The very first start of a data directory."""
    yield
    a.begin_anew()
    yield
    a.load.prepare_again()
    made(a)
