"""The load: writers, claimers, a decider and stream readers against a server that keeps dying, or several.

Every request goes through the ledger.  Commands come on standard input, one a line: pause, go, drain
(nothing new is made, everything open is finished) and stop; each is answered by one line.
"""

import argparse
import collections
import json
import os
import random
import sys
import threading
import time

from api import Client, Lost, Server
from ledger import Ledger, Notes

WRITERS, CLAIMERS, READERS = 6, 6, 6
LEASES = (2, 3, 5)
PRIORITIES = ("low", "medium", "high", "urgent")
WITNESS = "crash-witness.log"
MARK = 'echo "${{ run.id }} %d $(date +%%s%%N)" >> ' + WITNESS


def noop(**output):
    return {"action": "noop", "parameters": {"output": output or {"done": True}}}


DEFINITIONS = {
    "crash-steps": [
        {"id": "first", "action": "noop", "parameters": {"output": {"n": "${{ input.n }}"}}},
        {"id": "gate", "action": "conditional",
         "parameters": {"condition": "input.n % 2 == 0", "then_step_index": 2,
                        "else_step_index": 3}},
        noop(even=True),
        {"id": "mark", "action": "checkpoint", "parameters": {"label": "half"}},
        noop(last=True),
    ],
    "crash-parallel": [
        noop(),
        {"id": "fan", "action": "parallel", "parameters": {"join": "all", "branches": [
            {"name": "a", "steps": [noop(a=1), noop(a=2)]},
            {"name": "b", "steps": [{"action": "parallel", "parameters": {"branches": [
                {"name": "b0", "steps": [noop(b=0)]}, {"name": "b1", "steps": [noop(b=1)]}]}}]},
            {"name": "c", "steps": [noop(c=1)]},
        ]}},
        noop(joined=True),
    ],
    "crash-any": [
        {"id": "race", "action": "parallel", "parameters": {"join": "any", "branches": [
            {"name": "fast", "steps": [noop()]},
            {"name": "slow", "steps": [{"action": "delay", "parameters": {"seconds": 30}}]},
        ]}},
        noop(joined=True),
    ],
    "crash-each": [
        {"id": "each", "action": "for_each",
         "parameters": {"items": "${{ input.items }}", "as": "item", "max_concurrency": 2,
                        "steps": [{"action": "noop",
                                   "parameters": {"output": {"item": "${{ item }}"}}}]}},
        noop(joined=True),
    ],
    "crash-sub": [
        {"id": "below", "action": "sub_task",
         "parameters": {"referenced_task_id": "crash-steps", "input": {"n": "${{ input.n }}"}}},
        noop(joined=True),
    ],
    "crash-witness": [
        {"id": "one", "action": "execute_command", "parameters": {"command": MARK % 0}},
        noop(),
        {"id": "two", "action": "execute_command", "parameters": {"command": MARK % 2}},
    ],
    "crash-delay": [{"action": "delay", "parameters": {"seconds": 1}}, noop()],
    "crash-approval": [
        {"id": "ask", "action": "approval", "parameters": {"message": "go on?"}}, noop()],
    "crash-input": [
        {"id": "ask", "action": "wait_input"}, noop(),
        {"id": "each", "action": "parallel", "parameters": {"branches": [
            {"steps": [{"action": "wait_input", "parameters": {"name": "any"}}]},
            {"steps": [{"action": "wait_input", "parameters": {"name": "any"}}]},
        ]}},
        noop(joined=True),
    ],
}


class Load:
    """What the threads share."""

    def __init__(self, args):
        self.seed = args.seed
        self.tag = args.tag
        self.server = Server(*args.data)
        self.ledger = Ledger(os.path.join(args.work, "ledger.jsonl"))
        self.notes = Notes(os.path.join(args.work, "views.jsonl"))
        self.go = threading.Event()
        self.draining = self.stopping = False
        self.busy = 0
        self.lock = threading.Lock()
        self.tasks = collections.deque(maxlen=300)  # recent tasks, for whoever wants one
        self.runs = collections.deque(maxlen=300)  # recent (task, run)
        self.failed = collections.deque(maxlen=100)
        self.keys = []
        self.definitions = {}
        self.next_definition_run = 0.0

    def prepare(self):
        """Definitions and the claimers' keys, before the first kill."""
        client = Client(self.server)
        for name, steps in DEFINITIONS.items():
            document = {"name": name, "retry": {"max_attempts": 3, "delay_ms": 50}, "steps": steps}
            answer = client.post("/v1/definitions", document)
            if answer.status == 404:
                break  # a server that has no definitions yet; the report says what that leaves out
            if answer.status == 409:
                answer = client.get(f"/v1/definitions/{name}")
            if answer.status not in (200, 201):
                sys.exit(f"definition {name}: {answer.status} {answer.body}")
            self.definitions[name] = answer.body["id"]
        for n in range(CLAIMERS):
            answer = client.post("/v1/keys", {
                "name": f"crash claimer {n}", "actor_kind": "automation", "ref": f"crash-{n}",
                "scopes": ["tasks:read", "runs:claim"]})
            if answer.status != 201:
                sys.exit(f"key: {answer.status} {answer.body}")
            self.keys.append(answer.body["key"])
        return {"definitions": self.definitions,
                "keys": {f"c{n}": key for n, key in enumerate(self.keys)}}


class Actor(threading.Thread):
    """A thread that repeats turn() while the gate is open, and writes down all it does."""

    def __init__(self, load, name, key=None):
        super().__init__(name=name, daemon=True)
        self.load = load
        self.who = name
        self.random = random.Random(f"{load.seed}/{name}")
        self.client = Client(load.server, key)
        self.n = 0

    def run(self):
        while not self.load.stopping:
            if not self.load.go.wait(0.2):
                continue
            if not self.load.server.address():
                time.sleep(0.005)
                continue
            with self.load.lock:
                self.load.busy += 1
            try:
                self.turn()
            except Lost:
                time.sleep(0.01)
            finally:
                with self.load.lock:
                    self.load.busy -= 1
            time.sleep(self.random.uniform(0.01, 0.06))

    def chance(self, p):
        return self.random.random() < p

    def recent(self, items, n):
        items = list(items)
        return items[-self.random.randint(1, min(n, len(items)))]

    def ident(self):
        self.n += 1
        return f"{self.load.tag}{self.who}-{self.n}"

    def op(self, f, send, read=None, ident=None, **invoke):
        """Does one request under the ledger's eyes: (how it ended, the answer or None)."""
        ident = ident or self.ident()
        self.load.ledger.append(
            {"op": ident, "p": "invoke", "t": time.monotonic_ns(), "f": f, **invoke})
        line, answer = {"op": ident, "p": "info"}, None
        try:
            answer = send(self.client)
            line.update(outcome(answer, read))
        except Lost as e:
            line["why"] = str(e)
        line["t"] = time.monotonic_ns()
        self.load.ledger.append(line)
        return line["p"], answer

    def post(self, f, path, body=None, read=None, key=None, **invoke):
        if key:
            invoke["key"] = key
        return self.op(f, lambda c: c.post(path, body, key=key), read, **invoke)


def outcome(answer, read=None):
    """A refusal has had no effect; a failure of the server says nothing."""
    if answer.status < 300:
        return {"p": "ok", "status": answer.status, "r": read(answer.body) if read else {}}
    if answer.status >= 500 or answer.status in (408, 429):
        return {"p": "info", "status": answer.status, "code": answer.code}
    return {"p": "fail", "status": answer.status, "code": answer.code}


def started(body):
    """The ids in an answer that holds a task, a run or both."""
    if "task" in body or "run" in body:
        return {name: body[name]["id"] for name in ("task", "run") if body.get(name)}
    return {"run" if body["id"].startswith("run_") else "task": body["id"]}


def batch_result(body):
    return {"items": [started({k: v for k, v in i.items() if k in ("task", "run")}) if i["ok"]
                      else {"code": i["error"]["code"]} for i in body["items"]]}


class Writer(Actor):
    WEIGHTS = {
        "create": 14, "create_started": 34, "batch": 7, "definition_run": 12, "patch": 12,
        "start_again": 6, "cancel_task": 3, "cancel_run": 3, "retry": 5, "replay": 9, "mismatch": 2,
        "bad": 3, "tail": 4, "readback": 5,
    }

    def __init__(self, load, n):
        super().__init__(load, f"w{n}")
        self.own = collections.deque(maxlen=100)
        self.answered = set()  # markers of creations that were acknowledged
        self.keyed = collections.deque(maxlen=60)

    def turn(self):
        if self.load.draining:
            time.sleep(0.05)
            return
        names = list(self.WEIGHTS)
        name = self.random.choices(names, [self.WEIGHTS[n] for n in names])[0]
        getattr(self, name)()

    # -- making

    def body(self, marker, start):
        body = {
            "title": f"{marker} v0", "identifier": marker, "description": "v0",
            "priority": self.random.choice(PRIORITIES),
            "max_attempts": self.random.randint(1, 5),
            "metadata": {"op": marker, "v": 0, "fill": "x" * self.random.randint(0, 200)},
        }
        if start:
            body["start"] = True
        if self.chance(0.3):
            body["retry"] = {"max_attempts": 3, "delay_ms": self.random.choice([0, 50, 500])}
        if self.chance(0.2):
            body["review_policy"] = self.random.choice(["on_success", "on_failure", "always"])
        return body

    def create(self, start=False):
        marker = self.ident()
        self.send_create(marker, self.body(marker, start), f"key-{marker}" * self.chance(0.5))

    def create_started(self):
        self.create(start=True)

    def send_create(self, marker, body, key, first=True):
        end, answer = self.post("create", "/v1/tasks", body, started, key or None,
                                marker=marker, sent=body)
        if first:
            self.remember("send_create", marker, body, key)
        if end == "ok":
            self.answered.add(marker)
        if end == "ok":
            ids = started(answer.body)
            if first:
                self.own.append({"task": ids["task"], "marker": marker, "v": 0})
            self.made(ids)

    def made(self, ids):
        self.load.tasks.append(ids["task"])
        if "run" in ids:
            self.load.runs.append((ids["task"], ids["run"]))

    def remember(self, send, marker, body, key):
        if key:
            self.keyed.append((send, marker, body, key))

    def batch(self):
        marker, start = self.ident(), self.chance(0.6)
        bodies = [self.body(f"{marker}.{i}", start) for i in range(self.random.randint(2, 12))]
        if self.chance(0.2):
            self.random.choice(bodies)["title"] = "  "
        self.send_batch(marker, bodies, f"key-{marker}" * self.chance(0.5))

    def send_batch(self, marker, bodies, key, first=True):
        end, answer = self.post("batch", "/v1/tasks/batch", {"items": bodies}, batch_result,
                                key or None, marker=marker, bodies=bodies)
        if first:
            self.remember("send_batch", marker, bodies, key)
        for item in batch_result(answer.body)["items"] if end == "ok" else []:
            if "task" in item:
                self.made(item)

    def definition_run(self):
        with self.load.lock:
            if not self.load.definitions or time.monotonic() < self.load.next_definition_run:
                return
            self.load.next_definition_run = time.monotonic() + 0.1
        marker = self.ident()
        name = self.random.choice(list(self.load.definitions))
        body = {"title": marker, "input": {"n": self.random.randint(0, 9),
                                           "items": list(range(self.random.randint(1, 6)))}}
        self.send_definition_run(marker, (name, body), f"key-{marker}" * self.chance(0.5))

    def send_definition_run(self, marker, what, key, first=True):
        name, body = what
        end, answer = self.post(
            "defrun", f"/v1/definitions/{self.load.definitions[name]}/runs", body, started,
            key or None, marker=marker, sent=body, definition=name)
        if first:
            self.remember("send_definition_run", marker, what, key)
        if end == "ok":
            self.made(started(answer.body))

    def replay(self):
        """The same request with the same key, up to five times."""
        if self.keyed:
            send, marker, body, key = self.random.choice(self.keyed)
            for _ in range(self.random.randint(1, 5)):
                getattr(self, send)(marker, body, key, first=False)

    def mismatch(self):
        # While nobody knows whether the first body arrived, another one may still be the first.
        known = [k for k in self.keyed if k[0] == "send_create" and k[1] in self.answered]
        if not known:
            return
        _, marker, body, key = self.random.choice(known)
        other = dict(body, description="another body")
        self.post("create", "/v1/tasks", other, started, key, marker=marker, sent=other,
                  expect="mismatch")

    def bad(self):
        marker = self.ident()
        body = self.body(marker, self.chance(0.5))
        body.update(self.random.choice([
            {"title": "  "}, {"no_such_field": 1}, {"max_attempts": 0}, {"priority": "loud"}]))
        self.post("create", "/v1/tasks", body, started, marker=marker, sent=body)

    # -- changing

    def patch(self):
        if not self.own:
            return
        mine = self.random.choice(self.own)
        mine["v"] += 1
        v = mine["v"]
        body = {"title": f"{mine['marker']} v{v}", "description": f"v{v}",
                "metadata": {"op": mine["marker"], "v": v}}
        if self.chance(0.1):
            body["max_attempts"] = 99
        path = f"/v1/tasks/{mine['task']}"
        self.op("patch", lambda c: c.call("PATCH", path, body), task=mine["task"], v=v)

    def start_again(self):
        if self.own:
            task = self.random.choice(self.own)["task"]
            key = f"key-{self.ident()}" if self.chance(0.3) else None
            self.again("start", task, f"/v1/tasks/{task}/start", key)

    def retry(self):
        if self.load.failed:
            task = self.random.choice(self.load.failed)
            key = f"key-{self.ident()}" if self.chance(0.3) else None
            self.again("retry", task, f"/v1/tasks/{task}/retry", key)

    def again(self, f, task, path, key):
        for _ in range(self.random.randint(1, 3) if key else 1):
            end, answer = self.post(f, path, {}, started, key, task=task)
            if end == "ok":
                self.load.runs.append((task, started(answer.body)["run"]))

    def cancel_task(self):
        if self.load.tasks:
            task = self.random.choice(self.load.tasks)
            self.post("cancel_task", f"/v1/tasks/{task}/cancel", {"reason": "crash test"},
                      task=task)
            self.load.failed.append(task)

    def cancel_run(self):
        if self.load.runs:
            task, run = self.recent(self.load.runs, 8)
            self.post("cancel_run", f"/v1/runs/{run}/cancel", {}, run=run)
            self.load.failed.append(task)

    # -- looking

    def tail(self):
        """A page of the timeline has no hole, even while somebody appends."""
        if not self.load.tasks:
            return
        task, after = self.random.choice(self.load.tasks), self.random.choice([0, 0, 1, 2])
        path = f"/v1/tasks/{task}/timeline?after_sequence={after}&limit=500"
        self.op("tail", lambda c: c.get(path), seqs, task=task, after=after)

    def readback(self):
        """Acknowledge, then look: the event is there."""
        marker = self.ident()
        body = self.body(marker, True)
        end, answer = self.post("create", "/v1/tasks", body, started, marker=marker, sent=body)
        if end != "ok":
            return
        ids = started(answer.body)
        self.made(ids)
        how = self.random.choice(["timeline", "stream", "run events"])
        self.op("readback", lambda c: look(c, how, ids), found, task=ids["task"], how=how,
                wanted="run.queued")


def seqs(body):
    return {"seqs": [e["sequence"] for e in body["items"]]}


def found(body):
    return {"found": body["found"]}


class Seen:
    """An answer that was made up from several."""

    def __init__(self, is_there):
        self.status, self.body, self.code = 200, {"found": is_there}, None


def look(client, how, ids, wanted="run.queued"):
    if how != "stream":
        path = {"timeline": f"/v1/tasks/{ids['task']}/timeline",
                "run events": f"/v1/runs/{ids['run']}/events"}[how]
        answer = client.get(path)
        if answer.status >= 500:
            raise Lost(str(answer.status))
        events = answer.body.get("items", [])
        return Seen(any(e["type"] == wanted and e.get("run_id") == ids["run"] for e in events))
    stream = client.stream(f"/v1/tasks/{ids['task']}/events/stream", timeout=client.server.silence)
    try:
        if stream.status >= 500:
            raise Lost(str(stream.status))
        while stream.status == 200:
            frame = stream.next()
            if frame is None:
                raise Lost("closed")
            event = json.loads(frame[2])
            if event["type"] == wanted and event.get("run_id") == ids["run"]:
                return Seen(True)
        return Seen(False)
    except TimeoutError:
        return Seen(False)
    finally:
        stream.close()


class Claimer(Actor):
    def __init__(self, load, n):
        super().__init__(load, f"c{n}", load.keys[n])
        self.number = n
        self.other = Client(load.server, load.keys[(n + 1) % len(load.keys)])
        self.with_session = n < 2
        self.sessions = 0

    def turn(self):
        lease = self.random.choice(LEASES)
        body = {"max": 1, "lease_seconds": lease}
        if self.load.draining:
            body["max"] = 100
        elif self.with_session:
            body["session_id"] = f"{self.load.tag}s{self.number}-{self.sessions}"
        elif self.chance(0.5):
            body["max"] = 10
        if self.chance(0.2):
            body["wait_seconds"] = 1
        end, answer = self.post("claim", "/v1/runs/claim", body, claims_result, who=self.who,
                                lease=lease, max=body["max"], session=body.get("session_id"))
        if end == "info":
            self.sessions += 1  # the lost lease binds the old session until it expires
        if end == "fail":
            self.sessions += answer.code == "active_lease_exists"
        held = claims_result(answer.body)["claims"] if end == "ok" and answer.body else []
        for claim in held:
            claim["lease"] = lease
        if self.load.draining:
            self.finish_all(held)
        elif len(held) > 1 and self.chance(0.3):
            self.finish_all(held)
        else:
            self.work(held, body.get("session_id"))

    def work(self, held, session):
        if session and held and self.chance(0.2):
            self.second_claim(session)
        for i, claim in enumerate(held):
            if len(held) > 1 and self.chance(0.05):
                self.foreign_run(claim, held[i - 1])
            if self.chance(0.03):
                self.foreign_holder(claim)
            plan = self.random.choices(
                [self.complete, self.start_complete, self.beat_complete, self.fail, self.release,
                 self.abandon], [40, 15, 15, 12, 14, 4])[0]
            plan(claim)
        if session and not self.chance(0.9):
            self.sessions += 1

    def move(self, f, claim, body=None, expect=None, client=None, token=None, **invoke):
        body = dict(body or {}, claim_token=token or claim["token"])
        if self.chance(0.3):
            headers = {"X-Claim-Token": body.pop("claim_token")}
        else:
            headers = None
        path = f"/v1/runs/{claim['run']}/{'start' if f == 'begin' else f}"
        if expect:
            invoke["expect"] = expect
        return self.op(f, lambda c: (client or c).post(path, body, headers=headers),
                       run=claim["run"], epoch=claim["epoch"], who=self.who,
                       lease=claim["lease"], **invoke)

    def result(self):
        return {"by": self.who, "n": self.n, "text": "é" * self.random.randint(0, 30)}

    def until_known(self, f, claim, body, **invoke):
        """Repeats a request whose end is unknown, across restarts; sometimes with another result."""
        for _ in range(6):
            end, answer = self.move(f, claim, body, **invoke)
            if end != "info" or self.load.stopping:
                return end, invoke
            for _ in range(200):
                if self.load.server.address() or self.load.stopping:
                    break
                time.sleep(0.01)
            time.sleep(0.05)
            if f == "complete" and self.chance(0.2):
                body = {"result": self.result()}
                invoke = {"result": body["result"]}
        return "info", invoke

    def complete(self, claim):
        result = self.result()
        end, sent = self.until_known("complete", claim, {"result": result}, result=result)
        if end != "ok":
            return
        if self.chance(0.3):
            self.move("complete", claim, {"result": sent["result"]}, "repeat",
                      result=sent["result"])
        if self.chance(0.3):
            other = dict(sent["result"], other=True)
            self.move("complete", claim, {"result": other}, "different", result=other)
        if self.chance(0.15):
            self.stale(claim)

    def start_complete(self, claim):
        self.move("begin", claim)
        self.complete(claim)

    def beat_complete(self, claim):
        for _ in range(self.random.randint(1, 3)):
            self.move("heartbeat", claim, {"lease_seconds": claim["lease"]})
        self.complete(claim)

    def fail(self, claim):
        end, _ = self.until_known("fail", claim, {"error": "crash test says no"})
        if end == "ok":
            self.load.failed.append(claim["task"])
            if self.chance(0.4):
                self.stale(claim)

    def release(self, claim):
        end, _ = self.move("release", claim, {"reason": "crash test"})
        if end == "ok" and self.chance(0.6):
            self.stale(claim)

    def abandon(self, claim):
        pass

    def stale(self, claim):
        """The lease is known to be over: nothing may be accepted any more."""
        for f in self.random.sample(["heartbeat", "fail", "release", "begin", "complete"], 2):
            result = {"stale": self.n}
            body = {"complete": {"result": result}, "fail": {"error": "stale"}}.get(f)
            self.move(f, claim, body, "stale", result=result)

    def foreign_run(self, claim, other):
        self.move("heartbeat", claim, {}, "foreign_run", token=other["token"])

    def foreign_holder(self, claim):
        f = self.random.choice(["heartbeat", "begin"])
        self.move(f, claim, {}, "foreign_holder", client=self.other)

    def second_claim(self, session):
        body = {"max": 1, "lease_seconds": 2, "session_id": session}
        self.post("claim", "/v1/runs/claim", body, claims_result, who=self.who, lease=2, max=1,
                  session=session)

    def finish_all(self, held):
        """All of them in one request; each item is an operation of its own."""
        if not held:
            return
        items, idents = [], []
        for claim in held:
            ident, result = self.ident(), self.result()
            self.load.ledger.append({
                "op": ident, "p": "invoke", "t": time.monotonic_ns(), "f": "complete",
                "run": claim["run"], "epoch": claim["epoch"], "who": self.who, "result": result})
            items.append({"run_id": claim["run"], "claim_token": claim["token"], "result": result})
            idents.append(ident)
        lines = [{"op": ident, "p": "info"} for ident in idents]
        try:
            answer = self.client.post("/v1/runs/complete", {"items": items})
            if answer.status == 200:
                for line, item in zip(lines, answer.body["items"]):
                    line.update({"p": "ok", "status": 200} if item["ok"] else {
                        "p": "fail", "status": item["error"]["status"],
                        "code": item["error"]["code"]})
            elif answer.status < 500:
                for line in lines:
                    line.update(p="fail", status=answer.status, code=answer.code)
        except Lost:
            pass
        for line in lines:
            line["t"] = time.monotonic_ns()
            self.load.ledger.append(line)


def claims_result(body):
    return {"claims": [
        {"run": c["run"]["id"], "task": c["task"]["id"], "epoch": c["run"]["epoch"],
         "attempt": c["run"]["attempt"], "token": c["claim_token"]}
        for c in body.get("claims", [])]}


def answer_inputs(actor):
    """Sends an input to whoever waits for one, now and then the same request again."""
    answer = actor.client.get("/v1/runs?status=awaiting_input&limit=50")
    for run in answer.body.get("items", []) if answer.status == 200 else []:
        marker = actor.ident()
        body = {"message": marker, **({"name": "any"} if run["kind"] == "branch" else {})}
        for _ in range(actor.random.randint(1, 2)):
            actor.post("input", f"/v1/tasks/{run['task_id']}/inputs", body, lambda b: {"input": b["id"]},
                       "key-" + marker, task=run["task_id"], marker=marker)


class Decider(Actor):
    """Says yes or no to what waits for an approval or a review, and something to what waits for an input."""

    def turn(self):
        time.sleep(0.1)
        answer_inputs(self)
        self.judge()
        answer = self.client.get("/v1/approvals?status=pending&limit=50")
        for approval in answer.body.get("items", []) if answer.status == 200 else []:
            decision = self.random.choice(["approve", "approve", "deny"])
            path = f"/v1/approvals/{approval['id']}/decide"
            for _ in range(self.random.randint(1, 2)):
                self.post("decide", path, {"decision": decision}, approval=approval["id"],
                          decision=decision)

    def judge(self):
        answer = self.client.get("/v1/reviews?status=requested&limit=20")
        for review in answer.body.get("items", []) if answer.status == 200 else []:
            outcome_ = self.random.choice(["approved", "approved", "rejected", "rejected", "error", "blocked"])
            verdict = {"outcome": outcome_, "confidence": 1, "reason": "crash", "delivery_id": self.ident()}
            if outcome_ == "rejected":
                verdict["next_round_guidance"] = "once more"
            for _ in range(self.random.randint(1, 2)):
                self.post("verdict", f"/v1/reviews/{review['id']}/verdict", verdict, review=review["id"])


class Reader(Actor):
    """Follows a stream over disconnections and restarts, noting every whole frame."""

    def __init__(self, load, n):
        super().__init__(load, f"r{n}")
        self.chains = 0

    def turn(self):
        if self.load.draining and self.chance(0.7):
            time.sleep(0.2)
        pick = self.pick()
        if not pick:
            time.sleep(0.05)
            return
        kind, ident, task, path = pick
        self.chains += 1
        self.chain = f"{self.load.tag}{self.who}-{self.chains}"
        self.line = {"chain": self.chain, "stream": kind, "id": ident, "task": task}
        self.last = None
        until = time.monotonic() + self.random.uniform(0.5, 6)
        while time.monotonic() < until and not self.load.stopping and self.load.go.is_set():
            if not self.load.server.address():
                time.sleep(0.01)
                continue
            try:
                if not self.session(path, until):
                    return
            except Lost:
                time.sleep(0.01)

    def pick(self):
        if self.load.runs and self.chance(0.4):
            task, run = self.recent(self.load.runs, 6)
            return "run", run, task, f"/v1/tasks/{task}/runs/{run}/events/stream"
        if self.load.tasks:
            task = self.recent(self.load.tasks, 6)
            return "task", task, task, f"/v1/tasks/{task}/events/stream"
        return None

    def session(self, path, until):
        """One connection; false when there is nothing more to come."""
        stream = self.client.stream(path, self.last, timeout=0.4)
        note = self.load.notes.append
        note(dict(self.line, last=self.last, status=stream.status, code=stream.code))
        end = "left"
        try:
            if stream.status == 503:
                raise Lost("503")
            if stream.status != 200:
                return False
            while time.monotonic() < until and not self.chance(0.05):
                frame = stream.next()
                if frame is None:
                    end = "closed"
                    break
                ident, name, data = frame
                if name == "stream.end":
                    end = name
                    return False
                event = json.loads(data)
                note({"chain": self.chain, "ev": ident, "type": name,
                      "run": event.get("run_id"), "payload": event.get("payload"),
                      "sequence": event["sequence"]})
                self.last = ident
            return True
        except TimeoutError:
            end = "quiet"
            return self.chance(0.5)
        except Lost:
            end = "lost"
            raise
        finally:
            note({"chain": self.chain, "end": end})
            stream.close()


def settle(load):
    """Waits until no thread is in the middle of something."""
    for _ in range(3000):
        with load.lock:
            if not load.busy:
                return
        time.sleep(0.005)


def give_up(failure):
    """A load that has lost a thread is no load any more."""
    threading.__excepthook__(failure)
    os._exit(1)


def main():
    threading.excepthook = give_up
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--tag", default="")
    load = Load(parser.parse_args())
    print(json.dumps(load.prepare()), flush=True)
    actors = [Writer(load, n) for n in range(WRITERS)] + \
             [Claimer(load, n) for n in range(CLAIMERS)] + \
             [Reader(load, n) for n in range(READERS)] + [Decider(load, "d0")]
    for actor in actors:
        actor.start()
    for command in sys.stdin:
        command = command.strip()
        if command in ("go", "drain"):
            load.draining = command == "drain"
            load.go.set()
        if command in ("pause", "stop"):
            load.go.clear()
            settle(load)
        print(command, flush=True)
        if command == "stop":
            load.stopping = True
            break


if __name__ == "__main__":
    main()
