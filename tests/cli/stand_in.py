#!/usr/bin/env python3
"""A server that plays runs from a script: what the commands show can then be compared letter by letter.

Speaks the part of the contract that following a run needs, on a Unix socket.  The input's member
`play` chooses the script.  State lives in a file, so that it can be killed and started again.
"""
import copy
import http.server
import json
import os
import pathlib
import re
import socketserver
import sys
import threading
import time

PAUSE = 0.02


def now():
    t = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + ".%06dZ" % (t % 1 * 1e6)


class World:
    def __init__(self, data):
        self.file = pathlib.Path(data) / "state.json"
        self.changed = threading.Condition(threading.RLock())
        self.state = {"definitions": {}, "runs": {}, "events": [], "calls": [], "left": {}}
        if self.file.exists():
            self.state = json.loads(self.file.read_text())
        for run in list(self.state["left"]):
            threading.Thread(target=self.play, args=(run,), daemon=True).start()

    def save(self):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.state))
        new.rename(self.file)
        self.changed.notify_all()

    def event(self, run, kind, **payload):
        with self.changed:
            task = self.state["runs"][run]["run"]["task_id"]
            self.state["events"].append({
                "sequence": len(self.state["events"]) + 1, "task_id": task, "run_id": run, "type": kind,
                "actor": {"kind": "daemon", "ref": "t"}, "payload": payload, "timestamp": now()})

    def add_run(self, task, script, steps, **fields):
        with self.changed:
            run = "run_%d" % (len(self.state["runs"]) + 1)
            self.state["runs"][run] = {
                "run": {"id": run, "task_id": task, "status": "queued", "queued_at": now(), **fields},
                "steps": [{"index": i, "id": s, "action": a, "status": "pending", "attempt": 0}
                          for i, (s, a) in enumerate(steps)]}
            self.state["left"][run] = script
            self.event(run, "run.queued", attempt=1)
            self.save()
        return run

    def step(self, run, index, status, **fields):
        step = self.state["runs"][run]["steps"][index]
        step.update(status=status, attempt=1, **fields)
        step["started_at" if status == "running" else "ended_at"] = now()
        self.event(run, "run.step_" + ("started" if status == "running" else status), step_index=index,
                   id=step["id"], action=step["action"], attempt=1)

    def end(self, run, status, **fields):
        self.state["runs"][run]["run"].update(status=status, ended_at=now(), **fields)
        self.event(run, "run." + status)

    def play(self, run):
        """One act after the other; each is stored with what it did."""
        while True:
            with self.changed:
                left = self.state["left"].get(run)
                if not left:
                    self.state["left"].pop(run, None)
                    return
                act = left.pop(0)
                if act[0] == "pause":
                    pass
                elif act[0] == "step":
                    self.step(run, act[1], act[2], **(act[3] if len(act) > 3 else {}))
                elif act[0] == "end":
                    self.end(run, act[1], **(act[2] if len(act) > 2 else {}))
                elif act[0] == "event":
                    self.event(run, act[1])
                elif act[0] == "child":
                    child = self.add_run(self.state["runs"][run]["run"]["task_id"], act[2], [["inner", "noop"]],
                                         parent_run_id=run, parent_step_index=1, kind="branch",
                                         **({"branch_index": act[1]} if act[1] else {}))
                    threading.Thread(target=self.play, args=(child,), daemon=True).start()
                self.save()
            time.sleep(act[1] if act[0] == "pause" else PAUSE)


STEPS = [["look", "execute_command"], ["fan", "parallel"], ["report", "write_file"]]
WELL = [["step", 0, "running"], ["step", 0, "completed"], ["step", 2, "running"],
        ["step", 2, "completed", {"input": {"path": "r.md", "content": "# Report\nall \x1b[31mgood\n"}}],
        ["end", "completed", {"result": {"n": 1}}]]
SCRIPTS = {
    "well": WELL,
    "fail": [["step", 0, "running"], ["step", 0, "failed"], ["end", "failed", {"error": "it \x1b]0;broke"}]],
    "cancel": [["end", "canceled"]],
    "timeout": [["end", "timed_out"]],
    "slow": [["step", 0, "running"], ["pause", 3]] + WELL[1:],
    "for ever": [["step", 0, "running"], ["pause", 600]],
    "branches": [["step", 0, "running"], ["step", 0, "completed"], ["step", 1, "running"],
                 ["child", 0, [["step", 0, "running"], ["pause", 0.3], ["step", 0, "completed"], ["end", "completed"]]],
                 ["child", 1, [["step", 0, "running"], ["pause", 0.4], ["step", 0, "completed"], ["end", "completed"]]],
                 ["pause", 0.8], ["step", 1, "completed"], ["end", "completed"]],
    "approval": [["step", 0, "running"], ["event", "run.awaiting_approval"], ["pause", 0.3],
                 ["event", "run.approval_resolved"], ["step", 0, "completed"], ["end", "completed"]],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def address_string(self):
        return "local"

    def answer(self, status, value=None):
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status, code, detail):
        self.answer(status, {"title": code, "status": status, "code": code, "detail": detail})

    def handle_one(self):
        world = self.server.world
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with world.changed:
            if self.command != "GET":
                world.state["calls"].append([self.command, self.path, body, dict(self.headers)])
            for pattern, function in ROUTES:
                m = re.fullmatch(pattern, self.command + " " + path)
                if m:
                    streams = function(self, world, query, body, *m.groups())
                    break
            else:
                return self.problem(404, "not_found", "no such route")
        if streams:
            streams()

    do_GET = do_POST = do_PUT = handle_one

    # -- routes --

    def ready(self, world, query, body):
        self.answer(200, {})

    def get_definition(self, world, query, body, name):
        found = world.state["definitions"].get(name.removeprefix("def_"))
        self.answer(200, found) if found else self.problem(404, "not_found", "no such definition")

    def put_definition(self, world, query, body, name=None):
        name = (name or (re.search(r"^name: *(\S+)", body, re.M) or re.search("name=([^&]*)", query))[1])
        name = name.removeprefix("def_")
        old = world.state["definitions"].get(name)
        if old and self.command == "POST":
            return self.problem(409, "conflict", "the name is taken")
        if self.command == "PUT" and self.headers.get("If-Match") != '"%d"' % old["version"]:
            return self.problem(412, "version_mismatch", "another version")
        spec = json.loads(body) if body.lstrip().startswith("{") else {"text": body}
        world.state["definitions"][name] = new = {
            "id": "def_" + name, "name": name, "version": old["version"] + 1 if old else 1, "spec": spec}
        world.save()
        self.answer(200 if old else 201, new)

    def post_run(self, world, query, body, name):
        if name.removeprefix("def_") not in world.state["definitions"]:
            return self.problem(404, "not_found", "no such definition")
        play = json.loads(body or "{}").get("input", {}).get("play", "well")
        task = "task_%d" % (len(world.state["runs"]) + 1)
        run = world.add_run(task, copy.deepcopy(SCRIPTS[play]), STEPS)
        threading.Thread(target=world.play, args=(run,), daemon=True).start()
        self.answer(201, {"task": {"id": task}, "run": world.state["runs"][run]["run"]})

    def get_run(self, world, query, body, run):
        self.answer(200, world.state["runs"][run]["run"])

    def get_steps(self, world, query, body, run):
        self.answer(200, {"items": world.state["runs"][run]["steps"], "next_cursor": None})

    def get_approvals(self, world, query, body):
        self.answer(200, {"items": [{"id": "appr_7", "status": "pending", "summary": "may I?"}], "next_cursor": None})

    def stream(self, world, query, body, task, run=None):
        last = self.headers.get("Last-Event-ID")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return lambda: self.follow(world, task, run, int(last or 0))

    def follow(self, world, task, run, last):
        sent = 0
        while True:
            with world.changed:
                events = [e for e in world.state["events"] if e["task_id"] == task and e["sequence"] > last
                          and run in (None, e["run_id"])]
                if not events:
                    world.changed.wait(0.2)
                    continue
            for e in events:
                last = e["sequence"]
                self.wfile.write(("id: %d\r\nevent: %s\ndata: %s\n\n" % (last, e["type"], json.dumps(e))).encode())
                if run and e["type"] in ("run.completed", "run.failed", "run.canceled", "run.timed_out"):
                    self.wfile.write(b"event: stream.end\ndata: {}\n\n")
                    return
                sent += 1
                if sent == 3:  # breaks off in the middle of an event
                    self.wfile.write(b"id: 999\nda")
                    return


ROUTES = [
    ("GET /(?:readyz|livez)", Handler.ready),
    ("GET /v1/definitions/([^/]+)", Handler.get_definition),
    ("POST /v1/definitions", Handler.put_definition),
    ("PUT /v1/definitions/([^/]+)", Handler.put_definition),
    ("POST /v1/definitions/([^/]+)/runs", Handler.post_run),
    ("GET /v1/runs/([^/]+)", Handler.get_run),
    ("GET /v1/runs/([^/]+)/steps", Handler.get_steps),
    ("GET /v1/approvals", Handler.get_approvals),
    ("GET /v1/tasks/([^/]+)/events/stream", Handler.stream),
    ("GET /v1/tasks/([^/]+)/runs/([^/]+)/events/stream", Handler.stream),
]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, data):
        path = os.path.join(data, "baton.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.world = World(data)
        super().__init__(path, Handler)

    def handle_error(self, *args):
        pass


if __name__ == "__main__":
    Server(sys.argv[sys.argv.index("--data") + 1]).serve_forever()
