"""Asks a real server for what the model is asked, and reads back what everybody can see."""
import itertools
import json
import os
import socket
import time

from model import ACTORS, Model

TASKS, RUNS = "/v1/tasks?include_drafts=1&limit=500", "/v1/runs?limit=500"
APPROVALS, REVIEWS = "/v1/approvals?limit=500", "/v1/reviews?limit=500"

# operation: method and path; {on} and {to} are ids
ROUTES = {
    "create": ("POST", "/v1/tasks"), "child": ("POST", "/v1/tasks/{on}/children"), "patch": ("PATCH", "/v1/tasks/{on}"),
    "delete": ("DELETE", "/v1/tasks/{on}"), "depend": ("POST", "/v1/tasks/{on}/dependencies"),
    "undepend": ("DELETE", "/v1/tasks/{on}/dependencies/{to}"), "enqueue": ("POST", "/v1/tasks/{on}/runs"),
    "claim": ("POST", "/v1/runs/claim"), "claim_run": ("POST", "/v1/runs/{on}/claim"),
    "run_start": ("POST", "/v1/runs/{on}/start"), "run_cancel": ("POST", "/v1/runs/{on}/cancel"),
    "run_retry": ("POST", "/v1/runs/{on}/retry"), "decide": ("POST", "/v1/approvals/{on}/decide"),
    "ask": ("POST", "/v1/runs/{on}/reviews"), "bind": ("POST", "/v1/reviews/{on}/bind"),
    "verdict": ("POST", "/v1/reviews/{on}/verdict"),
    "send": ("POST", "/v1/tasks/{on}/inputs"), "consume": ("POST", "/v1/runs/{on}/inputs/{to}/consume"),
    "profile": ("PUT", "/v1/tasks/{on}/execution-profile"), "unprofile": ("DELETE", "/v1/tasks/{on}/execution-profile"),
    "batch": ("POST", "/v1/tasks/batch"), "list": ("GET", "/v1/tasks?limit=500"),
    "complete_many": ("POST", "/v1/runs/complete"), "heartbeat_many": ("POST", "/v1/runs/heartbeat"),
    **{verb: ("POST", "/v1/tasks/{on}/" + verb) for verb in
       ("publish", "start", "approve", "reject", "cancel", "pause", "resume", "retry")},
    **{verb: ("POST", "/v1/runs/{on}/" + verb) for verb in ("heartbeat", "complete", "fail", "release")},
}


# An id of the kind that such a name has, and that nothing has.
NOBODY = {"~": "review_0000000000001", "/": "run_0000000000001", "!": "appr_0000000000001",
          "?": "input_0000000000001", "": "task_0000000000001"}


IDLE = 30  # seconds after which a connection is not trusted: the server closes one that says nothing for a minute


class Disagreement(Exception):
    pass


class Connection:
    """HTTP/1.1 as Baton speaks it, kept alive: several requests may be sent before the first answer is read."""

    def __init__(self, address, head):
        self.address, self.head = address, f"Host: {address}\r\n{head}"
        self.open()

    def open(self):
        host, port = self.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file, self.used = self.socket.makefile("rb"), time.monotonic()

    def send(self, *requests):
        if time.monotonic() - self.used > IDLE:
            self.open()
        self.used, text = time.monotonic(), b""
        for method, path, body, extra in requests:
            data = b"" if body is None else json.dumps(body).encode()
            head = f"{method} {path} HTTP/1.1\r\n{self.head}{extra}"
            if body is not None:
                head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
            text += head.encode() + b"\r\n" + data
        self.socket.sendall(text)

    def answer(self):
        """Status and body of the next one."""
        line, length = self.file.readline(), 0
        if not line:
            raise ConnectionError("the server closed the connection")
        while (field := self.file.readline()) != b"\r\n":
            if field[:15].lower() == b"content-length:":
                length = int(field[15:])
        return int(line[9:12]), self.file.read(length)

    def ask(self, method, path, body=None, extra=""):
        self.send((method, path, body, extra))
        return self.answer()


class Server:
    """Connections of all actors; a workspace for each sequence."""

    def __init__(self, address, admin_key, keys):
        self.admin = Connection(address, f"Authorization: Bearer {admin_key}\r\n")
        self.actors = {name: Connection(address, f"Authorization: Bearer {key}\r\n") for name, key in keys.items()}
        self.reader = Connection(address, f"Authorization: Bearer {admin_key}\r\n")
        self.spaces = itertools.count()

    def workspace(self):
        slug = f"w-{os.getpid()}-{next(self.spaces)}"
        status, body = self.admin.ask("POST", "/v1/workspaces", {"name": slug, "slug": slug})
        assert status == 201, body
        return json.loads(body)["id"]


def make_keys(address, admin_key):
    """One key for each actor; those from elsewhere have a workspace of their own."""
    admin = Connection(address, f"Authorization: Bearer {admin_key}\r\n")
    elsewhere = json.loads(admin.ask("POST", "/v1/workspaces", {"name": "elsewhere"})[1])["id"]
    keys = {}
    for name, actor in ACTORS.items():
        body = {"name": name, "actor_kind": actor.kind, "ref": actor.ref, "scopes": actor.scopes,
                "session_id": actor.session, "agent_name": actor.agent, "capabilities": actor.capabilities,
                "workspace_id": None if actor.here else elsewhere}
        status, made = admin.ask("POST", "/v1/keys", {k: v for k, v in body.items() if v is not None})
        assert status == 201, made
        keys[name] = json.loads(made)["key"]
    return keys


REFS = {(a.kind, a.ref): name for name, a in ACTORS.items()}


def actor_name(shown):
    if not shown or shown["kind"] == "daemon":
        return None
    return REFS.get((shown["kind"], shown["ref"]), json.dumps(shown))


def differ(what, expected, seen):
    """Nothing, or one sentence on the first difference."""
    if isinstance(expected, dict) and isinstance(seen, dict):
        for key in [*expected, *(k for k in seen if k not in expected)]:
            if key not in expected or key not in seen:
                return f"{what}: {key} is {'missing' if key not in seen else 'too many'}"
            if expected[key] != seen[key]:
                return differ(f"{what} {key}", expected[key], seen[key])
    return None if expected == seen else f"{what}: {json.dumps(seen)}, expected {json.dumps(expected)}"


class Sequence:
    """One sequence in a workspace of its own: the model and the server side by side."""

    def __init__(self, server):
        self.server, self.model = server, Model()
        self.space = f"X-Workspace-ID: {server.workspace()}\r\n"
        self.ids, self.names, self.tokens, self.answers = {}, {}, {}, []
        self.read = {}       # root: events read so far
        self.bodies = {}     # path: the last answer, and what it says
        self.approvals, self.reviews = [], []

    def run(self, ops):
        for number, op in enumerate(ops):
            self.step(op)
        self.finish()

    def step(self, op):
        """One operation on both sides; what they say differently is a Disagreement."""
        request = self.request_of(op)  # what names and tokens stand for may have changed since it was asked first
        status, body = self.ask(op, request)
        answer = self.model.apply({**op, "request": request[1:]} if "key" in op else op)
        self.answers.append((status, body))
        if (status, body.get("code")) != (answer.status, answer.code):
            raise Disagreement(f"answered {status} {body.get('code') or ''}{': ' if body.get('detail') else ''}"
                               f"{body.get('detail', '')}, expected {answer.status} {answer.code or ''}")
        if answer.replayed is not None:
            self.agree("the answer of the first time", self.answers[answer.replayed][1], body)
        elif status < 300:
            self.learn(op, answer, body)
        if not op.get("quiet"):
            self.look()

    def agree(self, what, expected, seen):
        if said := differ(what, expected, seen):
            raise Disagreement(said)

    def request_of(self, op):
        method, path = ROUTES[op["do"]]
        path = path.format(on=self.id_of(op.get("on")), to=self.id_of(op.get("to")))
        path += "".join(f"&{k}={self.id_of(v) if k == 'parent_task_id' else v}" for k, v in op.get("where", {}).items())
        return method, path, self.body_of(op)

    def ask(self, op, request):
        (method, path, body), extra = request, self.space if ACTORS[op["by"]].here else ""
        if "key" in op:
            extra += f"Idempotency-Key: {op['key']}\r\n"
        status, text = self.server.actors[op["by"]].ask(method, path, body, extra)
        return status, json.loads(text) if text else {}

    def body_of(self, op):
        body = op.get("body")
        if op["do"] == "batch":
            return {"items": [item["body"] for item in op["items"]]}
        if "items" in op:
            return {"items": [{**item.get("body", {}), "run_id": self.id_of(item["on"]), **self.token_of(item)}
                              for item in op["items"]]}
        if "token" in op:
            return {**body, **self.token_of(op)}
        return {**body, "depends_on_task_id": self.id_of(op["to"])} if op["do"] == "depend" else body

    def token_of(self, op):
        return {"claim_token": self.tokens.get(op["token"], "nonsense")} if op["token"] else {}

    def id_of(self, name):
        return self.ids.get(name, next((id for mark, id in NOBODY.items() if mark in (name or "")), None))

    def learn(self, op, answer, body):
        """New ids and tokens; and what the answer itself shows must be what it says that it is."""
        if "as" in op:
            self.name(op["as"], body.get("task", body)["id"])
        if op["do"] == "list":
            self.agree("the list", list(answer.items), [self.names.get(t["id"], "?") for t in body["items"]])
        elif "items" in op:
            self.agree("the batch", list(answer.items), [i.get("error", {}).get("code") for i in body["items"]])
            for item, made in zip(op["items"], body["items"]):
                if "as" in item and made["ok"]:
                    self.name(item["as"], made["task"]["id"])
        elif "claims" in body:
            for claim in body["claims"]:
                self.tokens[f"{self.run_name(claim['run'])}@{claim['run']['epoch']}"] = claim["claim_token"]
            shown = [c["run"] for c in body["claims"]]
        else:
            shown = [r for r in [body.get("run", body.get("continuation_run", body))] if r.get("id", "").startswith("run_")]
        if answer.runs or "items" not in body:
            self.agree("the answer's runs", list(answer.runs), [self.run_name(r) for r in shown])
        if answer.existing is not None:
            self.agree("existing_run", answer.existing, body["existing_run"])

    def name(self, name, id):
        self.ids[name], self.names[id] = id, name

    def run_name(self, run):
        return f"{self.names.get(run['task_id'], '?')}/{run['attempt']}"

    # ---- what can be seen ----

    def look(self):
        """Tasks and runs; the events of trees in which something happened; approvals when they changed."""
        grown = [root for root, events in self.model.events.items() if len(events) != self.read.get(root, 0)]
        changed = [path for path, before, now in (
            (APPROVALS, self.approvals, self.model.approvals()), (REVIEWS, self.reviews, self.model.judged())) if before != now]
        paths = [TASKS, RUNS] + [f"/v1/tasks/{self.id_of(root)}/timeline?limit=500&after_sequence={self.read.get(root, 0)}"
                                 for root in grown] + changed
        bodies = self.get(paths)
        for root, body in zip(grown, bodies[2:]):
            self.look_at_events(root, json.loads(body)["items"])
        runs = self.said(RUNS, bodies[1], self.run_record)  # before the tasks and reviews, which name them
        for path, body in zip(changed, bodies[2 + len(grown):]):
            (self.look_at_approvals if path == APPROVALS else self.look_at_reviews)(body)
        self.agree("task", self.model.tasks(), self.said(TASKS, bodies[0], self.task_record))
        self.agree("run", self.model.runs(), runs)

    def get(self, paths):
        extra = self.space
        self.server.reader.send(*(("GET", path, None, extra) for path in paths))
        answers = [self.server.reader.answer() for _ in paths]
        for path, (status, body) in zip(paths, answers):
            if status != 200:
                raise Disagreement(f"GET {path}: {status} {body[:200]}")
        return [body for _, body in answers]

    def said(self, path, body, record):
        """The records of a list; one that has not changed is not read again."""
        if self.bodies.get(path, ("",))[0] != body:
            self.bodies[path] = body, dict(record(item) for item in json.loads(body)["items"])
        return self.bodies[path][1]

    def look_at_events(self, root, items):
        before = self.read.get(root, 0)
        expected = self.model.events[root][before:]
        self.agree(f"numbers of events of {root}", list(range(before + 1, before + len(items) + 1)),
                   [e["sequence"] for e in items])
        self.agree(f"events of {root}", [list(e) for e in expected],
                   [[self.names.get(e["task_id"], "?"), e["type"]] for e in items])
        self.read[root] = before + len(items)

    def look_at_approvals(self, body):
        expected, items, numbers = self.model.approvals(), json.loads(body)["items"], {}
        for a in reversed(items):
            task = self.names.get(a["task_id"], "?")
            numbers[task] = numbers.get(task, -1) + 1
            self.name(f"{task}!{numbers[task]}", a["id"])
        seen = [(self.names.get(a["task_id"], "?"), a["status"], actor_name(a["requested_by"]),
                 actor_name(a.get("decided_by"))) for a in reversed(items)]
        self.agree("approvals", [list(a) for a in expected], [list(a) for a in seen])
        self.approvals = expected

    def look_at_reviews(self, body):
        expected, items = self.model.judged(), json.loads(body)["items"]
        for r in items:
            self.name(f"{self.names.get(r['run_id'], '?')}~{r['review_round']}.{r['attempt']}", r["id"])
        seen = [(self.names[r["id"]], r["status"], actor_name(r["requested_by"]), actor_name(r.get("reviewer")),
                 r.get("outcome"), self.names.get(r.get("continuation_run_id")), r.get("no_continuation")) for r in items]
        self.agree("reviews", [list(r) for r in expected], sorted(list(r) for r in seen))
        self.reviews = expected

    def finish(self):
        """What is not read after each operation; and that nobody from elsewhere sees it."""
        self.look_at_approvals(self.get([APPROVALS])[0])
        runs = [r for t in self.model.all.values() for r in t.runs if r.status == "queued"]
        for run, body in zip(runs, self.get([f"/v1/runs/{self.ids[r.name]}/explain" for r in runs])):
            self.agree(f"why {run.name} waits", sorted(self.model.reasons(run)), sorted(
                {r["code"] for r in json.loads(body)["reasons"]} - {"queued_behind", "no_claimer"}))
        roots = [t for t in self.model.all.values() if t.children and not t.parent]
        for root, body in zip(roots, self.get([f"/v1/tasks/{self.ids[t.name]}/tree?limit=500" for t in roots])):
            self.agree(f"the tree of {root.name}", self.model.tree(root),
                       [self.names.get(t["id"], "?") for t in json.loads(body)["items"]])
        tasks = [t for t in self.model.all.values() if t.needs]
        for task, body in zip(tasks, self.get([f"/v1/tasks/{self.ids[t.name]}/dependencies" for t in tasks])):
            self.agree(f"dependencies of {task.name}", self.model.dependencies(task), {
                self.names[d["depends_on_task_id"]]: (d["on_failure"], d["met"]) for d in json.loads(body)["items"]})
        tasks = [t for t in self.model.all.values() if self.model.inputs(t)]
        for task, body in zip(tasks, self.get([f"/v1/tasks/{self.ids[t.name]}/inputs?limit=500" for t in tasks])):
            self.agree(f"inputs of {task.name}", [sent[1:] for sent in self.model.inputs(task)], [
                [i["status"], self.names.get(i.get("run_id"))] for i in json.loads(body)["items"]])
        if self.model.all:
            some = self.ids[next(reversed(self.model.all))]
            status, _ = self.server.actors["tom"].ask("GET", f"/v1/tasks/{some}")
            self.agree("a task of another workspace", 404, status)

    def task_record(self, t):
        name = self.names.get(t["id"], t["id"])
        return name, {
            "title": t["title"], "metadata": t.get("metadata"), "status": t["status"], "draft": t["draft"],
            "priority": t["priority"],
            "max_attempts": t["max_attempts"], "auto_enqueue_on_ready": t["auto_enqueue_on_ready"],
            "approval_policy": t["approval_policy"], "approval_state": t["approval_state"], "owner": t.get("owner"),
            "review_policy": t["review_policy"], "review_id": self.names.get(t.get("review_id"), t.get("review_id")),
            "review_round": t.get("review_round", 0), "review_circuit_at": "review_circuit_at" in t,
            "network_channel": t.get("network_channel"), "required_capabilities": t.get("required_capabilities", []),
            "preferred_capabilities": t.get("preferred_capabilities", []), "created_by": actor_name(t["created_by"]),
            "parent_task_id": self.names.get(t.get("parent_task_id")), "depth": t["depth"],
            "child_count": t.get("child_count", 0), "dependency_count": t.get("dependency_count", 0),
            "unmet_dependency_count": t.get("unmet_dependency_count", 0),
            "current_run_id": self.names.get(t.get("current_run_id"), t.get("current_run_id")), "paused": t["paused"],
            "effective_paused": t["effective_paused"], "paused_by_task_id": self.names.get(t.get("paused_by_task_id")),
            "paused_by": actor_name(t.get("paused_by")), "paused_reason": t.get("paused_reason"),
            "closed_at": "closed_at" in t, "latest_sequence": t["latest_sequence"]}

    def run_record(self, r):
        name = self.run_name(r)
        self.name(name, r["id"])
        return name, {
            "task_id": self.names.get(r["task_id"]), "status": r["status"], "attempt": r["attempt"], "epoch": r["epoch"],
            "priority": r["priority"], "previous_run_id": self.names.get(r.get("previous_run_id"), r.get("previous_run_id")),
            "failure_kind": r.get("failure_kind"), "error": r.get("error"), "result": r.get("result"),
            "claimed_by": actor_name(r.get("claimed_by")), "session_id": r.get("session_id"),
            "network_channel": r.get("network_channel"), "required_capabilities": r.get("required_capabilities", []),
            "preferred_capabilities": r.get("preferred_capabilities", []), "recoveries": r["recoveries"],
            "started_at": "started_at" in r, "ended_at": "ended_at" in r, "lease_until": "lease_until" in r}
