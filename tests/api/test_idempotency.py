"""Idempotency-Key: every route that writes answers the same request once more and does nothing."""
import itertools
import pathlib
import socket
import struct
import threading
import time

import pytest
from conftest import Client, Server, wait_until
from flows import definition, noop, run_of, types_of

WITHOUT = {"POST /v1/definitions/validate": "stores nothing", "PUT /v1/secrets/{name}": "docs/API.md says why"}
SECRETS = {"POST /v1/keys": "key", "POST /v1/webhooks": "secret"}
keys = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Nothing of its own happens here: what changes in its database was asked for."""
    server = Server(tmp_path_factory.mktemp("keyed") / "data", "--concurrency", "0", "--egress-allow", "127.0.0.1",
                    "--webhook-attempts", "1")
    yield server
    server.stop()


def keyed(api, method, path, body=None, key="k", **options):
    return api.request(method, path, body, headers={"Idempotency-Key": key}, **options)


def stored(server, *without):
    """All rows that requests make, by table; not what the tick does in its own time: the index of texts, and when a
    review is next offered to a session."""
    columns = {table: ", ".join(names - {"route_at"}) for table, names in server.columns().items()
               if table not in {"idempotency", "setting", "delivery", "searched", *without}}
    return {t: sorted(map(repr, server.rows(f"SELECT {names} FROM {t}"))) for t, names in columns.items()}


# ---- a request for every route: path and body ----

class Case:
    def __init__(self, api, capability):
        self.api, self.capability = api, capability

    def task(self, rest="", **fields):
        return f"/v1/tasks/{self.api.task(**fields)['id']}{rest}"

    def run(self, rest=""):
        made = self.api.started(required_capabilities=[self.capability])
        return f"/v1/runs/{made['run']['id']}{rest}"

    def claim(self):
        return self.api.claimed(self.capability)

    def held(self, verb, **fields):
        claim = self.claim()
        return f"/v1/runs/{claim['run']['id']}/{verb}", {"claim_token": claim["claim_token"], **fields}

    def item(self, **fields):
        claim = self.claim()
        return {"items": [{"run_id": claim["run"]["id"], "claim_token": claim["claim_token"], **fields}]}

    def failed(self):
        claim = self.claim()
        run = f"/v1/runs/{claim['run']['id']}"
        self.api.post(run + "/fail", {"claim_token": claim["claim_token"], "error": "x"}, 200)
        return claim["task"], run

    def waiting(self):
        return self.api.task(approval_policy="manual")["id"]

    def webhook(self, rest=""):
        made = self.api.post("/v1/webhooks", {"url": "http://127.0.0.1:8080/"})
        return f"/v1/webhooks/{made['id']}{rest}"

    def delivery(self):
        hook = self.webhook()
        self.api.task()
        sent = lambda: self.api.get(hook + "/deliveries?status=dead")["items"]
        return f"{hook}/deliveries/{wait_until(sent)[0]['id']}/replay"

    def definition(self, rest=""):
        return f"/v1/definitions/{self.api.post('/v1/definitions', definition(noop(1)))['id']}{rest}"

    def space(self):
        return "/v1/workspaces/" + self.api.post("/v1/workspaces", {"name": self.capability})["id"]

    def secret(self):
        self.api.request("PUT", "/v1/secrets/S", {"value": "a value"}, 204)
        return "/v1/secrets/S"


def claim_body(c):
    c.run()
    return {"capabilities": [c.capability]}


def of_session(c):
    return {"capabilities": [c.capability], "session_id": c.capability}


KEY = {"name": "k", "actor_kind": "human", "ref": "r", "scopes": ["tasks:read"]}
PATCH = {"title": "another", "priority": "high"}
def profile(c):
    path = c.task("/execution-profile")
    c.api.request("PUT", path, {"worker": {"agent_name": "a"}}, 200)
    return path


def consume(c):
    claim = c.claim()
    sent = c.api.post(f"/v1/tasks/{claim['task']['id']}/inputs", {"message": "go"})
    return f"/v1/runs/{claim['run']['id']}/inputs/{sent['id']}/consume", {"claim_token": claim["claim_token"]}


VERDICT = {"outcome": "approved", "confidence": 1, "reason": "good", "delivery_id": "one"}


def review(c):
    return "/v1/reviews/" + c.api.post(c.failed()[1] + "/reviews", {})["review"]["id"]


REQUESTS = {
    "POST /v1/definitions": lambda c: ("/v1/definitions", definition(noop(1))),
    "PUT /v1/definitions/{definition}": lambda c: (c.definition(), definition(noop(2))),
    "DELETE /v1/definitions/{definition}": lambda c: (c.definition(), None),
    "POST /v1/definitions/{definition}/runs": lambda c: (c.definition("/runs"), {}),
    "POST /v1/tasks": lambda c: ("/v1/tasks", {"title": "x", "start": True}),
    "POST /v1/tasks/batch": lambda c: ("/v1/tasks/batch", {"items": [{"title": "x"}, {"title": ""}]}),
    "PATCH /v1/tasks/{task}": lambda c: (c.task(), PATCH),
    "DELETE /v1/tasks/{task}": lambda c: (c.task(), None),
    "POST /v1/tasks/{task}/children": lambda c: (c.task("/children"), {"title": "below"}),
    "POST /v1/tasks/{task}/dependencies": lambda c: (c.task("/dependencies"), {"depends_on_task_id": c.api.task()["id"]}),
    "DELETE /v1/tasks/{task}/dependencies/{depends_on}": lambda c: (dependency(c), None),
    "POST /v1/tasks/{task}/publish": lambda c: (c.task("/publish", draft=True), {}),
    "POST /v1/tasks/{task}/approve": lambda c: (f"/v1/tasks/{c.waiting()}/approve", {}),
    "POST /v1/tasks/{task}/reject": lambda c: (f"/v1/tasks/{c.waiting()}/reject", {}),
    "POST /v1/tasks/{task}/pause": lambda c: (c.task("/pause"), {"reason": "later"}),
    "POST /v1/tasks/{task}/resume": lambda c: (c.task("/resume"), {}),
    "POST /v1/tasks/{task}/start": lambda c: (c.task("/start"), {}),
    "POST /v1/tasks/{task}/cancel": lambda c: (c.task("/cancel"), {}),
    "POST /v1/tasks/{task}/retry": lambda c: (f"/v1/tasks/{c.failed()[0]['id']}/retry", {}),
    "POST /v1/tasks/{task}/runs": lambda c: (c.task("/runs"), {}),
    "POST /v1/tasks/{task}/triage/read": lambda c: (c.task("/triage/read"), {}),
    "POST /v1/tasks/{task}/triage/archive": lambda c: (c.task("/triage/archive"), {}),
    "POST /v1/tasks/{task}/triage/dismiss": lambda c: (c.task("/triage/dismiss"), {}),
    "PUT /v1/tasks/{task}/execution-profile": lambda c: (c.task("/execution-profile"), {"worker": {"agent_name": "a"}}),
    "DELETE /v1/tasks/{task}/execution-profile": lambda c: (profile(c), None),
    "POST /v1/tasks/{task}/inputs": lambda c: (c.task("/inputs"), {"message": "go"}),
    "POST /v1/runs/{run}/inputs/{input}/consume": consume,
    "POST /v1/runs/{run}/reviews": lambda c: (c.failed()[1] + "/reviews", {}),
    "POST /v1/reviews/{review}/bind": lambda c: (review(c) + "/bind", {}),
    "POST /v1/reviews/{review}/verdict": lambda c: (review(c) + "/verdict", VERDICT),
    "POST /v1/runs/claim": lambda c: ("/v1/runs/claim", claim_body(c)),
    "POST /v1/runs/complete": lambda c: ("/v1/runs/complete", c.item(result=1)),
    "POST /v1/runs/heartbeat": lambda c: ("/v1/runs/heartbeat", c.item(lease_seconds=60)),
    "POST /v1/runs/{run}/claim": lambda c: (c.run("/claim"), {"capabilities": [c.capability]}),
    "POST /v1/runs/{run}/attach-session": lambda c: (c.run("/attach-session"), of_session(c)),
    "POST /v1/runs/{run}/start": lambda c: c.held("start"),
    "POST /v1/runs/{run}/heartbeat": lambda c: c.held("heartbeat", lease_seconds=60),
    "POST /v1/runs/{run}/complete": lambda c: c.held("complete", result={"a": 1}),
    "POST /v1/runs/{run}/fail": lambda c: c.held("fail", error="x"),
    "POST /v1/runs/{run}/release": lambda c: c.held("release"),
    "POST /v1/runs/{run}/cancel": lambda c: (c.run("/cancel"), {}),
    "POST /v1/runs/{run}/retry": lambda c: (c.failed()[1] + "/retry", {}),
    "POST /v1/runs/{run}/force-release": lambda c: (c.held("force-release")[0], {"reason": "x"}),
    "POST /v1/runs/{run}/force-fail": lambda c: (c.run("/force-fail"), {"reason": "x"}),
    "POST /v1/runs/bulk/release": lambda c: ("/v1/runs/bulk/release", {"run_ids": [c.claim()["run"]["id"]]}),
    "POST /v1/runs/bulk/fail": lambda c: ("/v1/runs/bulk/fail", {"run_ids": [c.claim()["run"]["id"]], "reason": "x"}),
    "POST /v1/approvals/{approval}/decide": lambda c: (approval(c), {"decision": "approve"}),
    "POST /v1/workspaces": lambda c: ("/v1/workspaces", {"name": "one more"}),
    "PATCH /v1/workspaces/{workspace}": lambda c: (c.space(), {"name": "another name"}),
    "DELETE /v1/workspaces/{workspace}": lambda c: (c.space(), None),
    "POST /v1/scheduler/pause": lambda c: ("/v1/scheduler/pause", {}),
    "POST /v1/scheduler/resume": lambda c: ("/v1/scheduler/resume", {}),
    "POST /v1/scheduler/drain": lambda c: ("/v1/scheduler/drain", {"timeout_seconds": 0}),
    "POST /v1/keys": lambda c: ("/v1/keys", KEY),
    "DELETE /v1/keys/{key}": lambda c: ("/v1/keys/" + c.api.post("/v1/keys", KEY)["id"], None),
    "DELETE /v1/secrets/{name}": lambda c: (c.secret(), None),
    "POST /v1/webhooks": lambda c: ("/v1/webhooks", {"url": "http://127.0.0.1:8080/"}),
    "PATCH /v1/webhooks/{webhook}": lambda c: (c.webhook(), {"description": "another"}),
    "DELETE /v1/webhooks/{webhook}": lambda c: (c.webhook(), None),
    "POST /v1/webhooks/{webhook}/deliveries/{delivery}/replay": lambda c: (c.delivery(), None),
}


def dependency(c):
    path, on = c.task("/dependencies"), c.api.task()["id"]
    c.api.post(path, {"depends_on_task_id": on})
    return f"{path}/{on}"


def approval(c):
    task = c.waiting()
    return next(f"/v1/approvals/{a['id']}/decide" for a in c.api.get("/v1/approvals")["items"] if a["task_id"] == task)


# Needs a run with an attention mark, which the tick makes: a test of its own.
ELSEWHERE = {"POST /v1/runs/{run}/recover"}


def test_every_route_that_writes_has_a_request_here(api):
    paths = api.get("/openapi.json")["paths"]
    routes = {f"{method.upper()} {path}": what for path, methods in paths.items() for method, what in methods.items()
              if method != "get"}
    takes = {name for name, what in routes.items() if "Idempotency-Key" in [p["name"] for p in what["parameters"]]}
    assert takes == set(REQUESTS) | ELSEWHERE and set(routes) - takes == set(WITHOUT)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_request_again_has_the_same_answer_and_does_nothing(server, api, capability, name):
    path, body = REQUESTS[name](Case(api, capability))
    method, options = name.split()[0], {}
    if method == "PUT":
        api.session.headers["If-Match"] = '"1"'
    first = keyed(api, method, path, body)
    assert first.status_code < 300 and "Idempotency-Replayed" not in first.headers, first.text
    before = stored(server)
    again = keyed(api, method, path, body)
    assert again.status_code == first.status_code and again.headers["Idempotency-Replayed"] == "true"
    if secret := SECRETS.get(name):
        whole = first.json()
        assert whole.pop(secret) and again.json() == whole
    else:
        assert again.text == first.text
    assert stored(server) == before
    other = keyed(api, method, path + "?another=request", body)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_mismatch"
    if name.startswith("POST /v1/scheduler"):
        api.post("/v1/scheduler/resume", {}, 200)


def test_a_run_is_recovered_once_with_one_key(tmp_path, capability):
    server = Server(tmp_path / "data", "--attention-seconds", "1")
    api = Client(server)
    run = api.claimed(capability)["run"]
    wait_until(lambda: run_of(api, run).get("attention") == "stuck", 30)
    first, again = (keyed(api, "POST", f"/v1/runs/{run['id']}/recover", {}, status=200) for _ in range(2))
    assert again.text == first.text and types_of(api, run).count("run.recovered") == 1
    server.stop()


# ---- secrets ----

def test_no_secret_of_an_answer_is_stored(server, api, capability):
    api.started(required_capabilities=[capability])
    token = keyed(api, "POST", "/v1/runs/claim", {"capabilities": [capability]}).json()["claims"][0]["claim_token"]
    texts = [token, keyed(api, "POST", "/v1/keys", KEY).json()["key"],
             keyed(api, "POST", "/v1/webhooks", {"url": "http://127.0.0.1:8080/"}).json()["secret"]]
    stored = b"".join(p.read_bytes() for p in pathlib.Path(server.data).glob("baton.db*"))
    assert [t for t in texts if t.encode() in stored] == [] and b"capabilities" in stored


def test_a_claim_made_twice_with_one_key_is_one_claim_whose_token_works(server, api, capability):
    made = [api.started(required_capabilities=[capability], metadata={"claim_token": "\x01 of mine"}) for _ in range(3)]
    body = {"capabilities": [capability], "max": 2}
    first = keyed(api, "POST", "/v1/runs/claim", body)
    api.server.kill()
    api.server.start()
    again = keyed(Client(server, headers={"X-Workspace-ID": api.session.headers["X-Workspace-ID"]}), "POST", "/v1/runs/claim", body)
    assert again.json() == first.json()
    claims = again.json()["claims"]
    assert [c["run"]["id"] for c in claims] == [m["run"]["id"] for m in made[:2]]
    assert [c["task"]["metadata"] for c in claims] == [{"claim_token": "\x01 of mine"}] * 2
    for claim in claims:
        api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    assert keyed(api, "POST", "/v1/runs/claim", body).json() == first.json()
    assert run_of(api, made[2]["run"])["status"] == "queued"
    api.problem("POST", "/v1/runs/claim", 422, "idempotency_mismatch", {**body, "max": 1}, headers={"Idempotency-Key": "k"})


def test_a_claim_that_found_nothing_leaves_its_key_free(api, capability):
    body = {"capabilities": [capability]}
    assert keyed(api, "POST", "/v1/runs/claim", body).status_code == 204
    run = api.started(required_capabilities=[capability])["run"]
    assert keyed(api, "POST", "/v1/runs/claim", body).json()["claims"][0]["run"]["id"] == run["id"]


def test_a_refused_request_leaves_its_key_free(api):
    task = api.task(draft=True)
    assert keyed(api, "POST", f"/v1/tasks/{task['id']}/start", {}).status_code == 409
    api.post(f"/v1/tasks/{task['id']}/publish", {}, 200)
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    assert keyed(api, "POST", f"/v1/tasks/{task['id']}/start", {}).status_code == 409
    assert keyed(api, "POST", f"/v1/tasks/{task['id']}/start", {}).headers.get("Idempotency-Replayed") is None


# ---- calls that wait ----

def background(job):
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def test_two_waiting_claims_with_one_key_take_one_run(api, capability):
    """The one that finds the answer of the other hands on the run that it was woken for."""
    body, answers = {"capabilities": [capability], "wait_seconds": 20}, []
    twins = [background(lambda: answers.append(keyed(api.again(), "POST", "/v1/runs/claim", body, timeout=60).json()["claims"]))
             for _ in range(2)]
    third = background(lambda: answers.append(api.again().claim(**body, max=1)))
    time.sleep(.3)  # so that they wait; what must hold does not depend on it
    made = [api.started(required_capabilities=[capability])["run"]["id"] for _ in range(2)]
    for thread in (*twins, third):
        thread.join(30)
    assert len(answers) == 3 and {a[0]["run"]["id"] for a in answers} == set(made)


def gone(api, body, key):
    """Asks, and is gone before the answer comes: what is left of the connection is reset."""
    host, port = api.server.address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.sendall((f"POST /v1/runs/claim HTTP/1.1\r\nHost: {api.server.address}\r\nIdempotency-Key: {key}\r\n"
               f"Authorization: {api.session.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n"
               f"X-Workspace-ID: {api.session.headers['X-Workspace-ID']}\r\n\r\n{body}").encode())
    return s


def test_a_claim_that_nobody_took_is_claimed_anew_by_the_same_request(api, capability):
    body = '{"capabilities": ["%s"]}' % capability
    for i in range(20):
        run = api.started(required_capabilities=[capability])["run"]
        s = gone(api, body, f"k{i}")
        time.sleep(i % 4 / 1000)
        s.close()
        again = lambda: api.request("POST", "/v1/runs/claim", data=body, headers={"Idempotency-Key": f"k{i}"})
        claim = wait_until(lambda: (a := again()).status_code == 200 and a.json()["claims"][0])
        assert claim["run"]["id"] == run["id"]
        holds = {"claim_token": claim["claim_token"]}
        ended = api.request("POST", f"/v1/runs/{run['id']}/complete", holds)
        assert ended.status_code == 200, (types_of(api, run), ended.text)


def test_a_drain_asked_for_again_waits_for_the_same_drain(own_server, capability):
    api = Client(own_server, headers={"X-Workspace-ID": "default"})
    claim, answers, body = api.claimed(capability), [], {"timeout_seconds": 60}
    drain = lambda: answers.append(keyed(api.again(), "POST", "/v1/scheduler/drain", body, timeout=60).json())
    began = lambda: [e["type"] for e in api.get("/v1/scheduler/events?limit=500")["items"]].count("scheduler.drain_started")
    before, first = began(), background(drain)
    wait_until(lambda: began() == before + 1)
    second = background(drain)
    time.sleep(.3)  # so that it waits too; if it comes later, it has the answer
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    first.join(30), second.join(30)
    api.post("/v1/scheduler/resume", {}, 200)
    assert len(answers) == 2 and answers[0] == answers[1] and answers[0]["completed"] and began() == before + 1


# ---- runs ----

def test_a_run_names_the_key_of_the_request_that_asked_for_it(api, capability):
    made = keyed(api, "POST", "/v1/tasks", {"title": "x", "start": True, "required_capabilities": [capability],
                                            "retry": {"max_attempts": 2}}, "create").json()
    assert run_of(api, made["run"])["idempotency_key"] == "create"
    claim = api.claim(capabilities=[capability])[0]
    keyed(api, "POST", f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "x"}, "fail")
    task = "/v1/tasks/" + made["task"]["id"]
    runs = api.get(task + "/runs")["items"]
    assert len(runs) == 2 and "idempotency_key" not in runs[0], "what a policy tries again nobody asked for"
    keyed(api, "POST", f"/v1/runs/{runs[0]['id']}/cancel", {}, "cancel")
    again = keyed(api, "POST", task + "/retry", {}, "retry").json()["run"]
    assert run_of(api, again)["idempotency_key"] == again["idempotency_key"] == "retry"
    for path, body, status in ((f"/v1/tasks/{api.task()['id']}/runs", {}, 201), (f"/v1/tasks/{api.task()['id']}/start", {}, 201),
                               (f"/v1/tasks/{api.task(draft=True)['id']}/publish", {}, 200),
                               (f"/v1/tasks/{api.task(approval_policy='manual')['id']}/approve", {}, 201)):
        answer = keyed(api, "POST", path, body, key := f"key-{next(keys)}", status=status).json()
        assert answer.get("run", answer)["idempotency_key"] == key
    assert "idempotency_key" not in api.started()["run"]
