"""Webhooks: who hears of what, signed, at least once, under the same id; and what is done about receivers that fail."""
import base64
import hashlib
import hmac
import json
import re
import sqlite3
import threading
import time

import pytest
from conftest import SLOW, Client, Server, number_of, wait_until
from web import Site, _Quiet

FAST = ("--egress-allow", "127.0.0.1", "--webhook-retry-seconds", "1", "--webhook-attempts", "3", "--concurrency", "0")


class Receiver(_Quiet):
    """Keeps what came, and answers as site.answer(request, number of times that id came) says: a status, or one with headers."""

    def do_POST(self):
        body = self.body()
        assert self.headers["content-type"] == "application/json"
        got = {**json.loads(body), "id": self.headers["webhook-id"], "sent": self.headers["webhook-timestamp"],
               "signature": self.headers["webhook-signature"], "path": self.path, "raw": body, "at": time.time()}
        with self.site.lock:
            self.site.requests.append(got)
            times = sum(r["id"] == got["id"] for r in self.site.requests)
        status = self.site.reply(got, times)
        status, *headers = status if isinstance(status, tuple) else (status,)
        self.answer(status, b"x" * self.site.size, headers)


@pytest.fixture
def site():
    with Site(Receiver) as site:
        site.lock, site.size = threading.Lock(), 0
        site.server.handle_error = lambda *_: None  # the other side may hang up
        site.reply = lambda request, times: 204
        yield site


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("webhooks") / "data", *FAST)
    yield server
    server.stop()


@pytest.fixture
def serve(tmp_path):
    """A server of the test's own, with further options; gone afterwards whatever happened."""
    made = []
    yield lambda *options: made.append(Server(tmp_path / "data", *options)) or made[-1]
    for server in made:
        if server.process.poll() is None:
            server.kill()


def hook(api, url, *events, **fields):
    return api.post("/v1/webhooks", {"url": url, **({"events": list(events)} if events else {}), **fields})


def signature(secret, request):
    """By the standard's own words, not by ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = request["id"].encode() + b"." + request["sent"].encode() + b"." + request["raw"]
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def deliveries(api, webhook, **query):
    return api.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 500, **query})["items"]


def only(site, **fields):
    return [r for r in list(site.requests) if all(r[k] == v for k, v in fields.items())]


# The routes.

def test_a_webhook_is_made_shown_changed_and_deleted(api):
    made = hook(api, "https://example.com/in", "run.completed", "task.run.enqueued", description="mine")
    secret = made.pop("secret")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    assert made["enabled"] and made["events"] == ["run.completed", "task.run.enqueued"] and made["description"] == "mine"
    path = "/v1/webhooks/" + made["id"]
    assert api.get(path) == made and api.get("/v1/webhooks")["items"] == [made]
    changed = api.request("PATCH", path, {"url": "https://example.org/", "events": None, "enabled": False}, 200).json()
    assert changed["url"] == "https://example.org/" and "events" not in changed and not changed["enabled"]
    assert api.get(path) == changed and changed["description"] == "mine"
    api.request("DELETE", path, status=204)
    assert api.get("/v1/webhooks")["items"] == []
    for method, rest in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", "/deliveries")):
        assert api.problem(method, path + rest, 404, "not_found", {} if method == "PATCH" else None)["resource"] == "webhook"


@pytest.mark.parametrize("url", ["ftp://example.com/", "example.com", "http://", "https://user:secret@example.com/",
                                 "http://exa mple.com/", "file:///etc/passwd", "http://example.com\\@other/", ""])
def test_what_is_no_url_of_a_web_server_is_refused_at_once(api, url):
    assert api.problem("POST", "/v1/webhooks", 400, "validation_failed", {"url": url})["field"] == "url"


def test_a_port_of_another_service_is_refused_at_once(api):
    for port in (22, 25, 5432, 6379):
        api.problem("POST", "/v1/webhooks", 403, "permission_denied", {"url": f"http://example.com:{port}/"})


def test_what_cannot_be_heard_of_is_refused_by_name(api):
    for name in ("run.finished", "task.run.lease_extended"):
        problem = api.problem("POST", "/v1/webhooks", 400, "validation_failed",
                              {"url": "https://example.com/", "events": ["run.completed", name]})
        assert problem["field"] == "events" and name in problem["detail"]
    api.problem("POST", "/v1/webhooks", 400, "validation_failed", {})
    api.problem("POST", "/v1/webhooks", 400, "unknown_field", {"url": "https://example.com/", "secret": "mine"})


def test_a_workspace_has_at_most_32_webhooks(api):
    for _ in range(32):
        hook(api, "https://example.com/", enabled=False)
    assert api.problem("POST", "/v1/webhooks", 409, "conflict", {"url": "https://example.com/"})["limit"] == 32
    first = api.get("/v1/webhooks", params={"limit": 20})
    rest = api.get("/v1/webhooks", params={"limit": 20, "cursor": first["next_cursor"]})
    assert len({w["id"] for w in first["items"] + rest["items"]}) == 32 and rest["next_cursor"] is None


def test_webhooks_are_of_their_workspace_and_for_administrators(server, api):
    mine = hook(api, "https://example.com/")
    other = Client(server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})
    foreign = Client(server, key=Client(server).post("/v1/keys", {
        "name": "n", "actor_kind": "human", "ref": "n", "scopes": ["admin"], "workspace_id": other["id"]})["key"])
    path = "/v1/webhooks/" + mine["id"]
    for method, rest, body in (("GET", "", None), ("PATCH", "", {"enabled": False}), ("DELETE", "", None), ("GET", "/deliveries", None),
                               ("POST", "/deliveries/dlv_0000000000001/replay", None)):
        foreign.problem(method, path + rest, 404, "not_found", body)
    assert foreign.get("/v1/webhooks")["items"] == []
    weak = Client(server, key=api.key_for()["key"])
    weak.problem("GET", "/v1/webhooks", 403, "permission_denied")
    weak.problem("POST", "/v1/webhooks", 403, "permission_denied", {"url": "https://example.com/"})
    assert api.get(path)["enabled"]


def test_the_secret_is_neither_in_the_database_nor_in_any_answer(own_server):
    api = Client(own_server)
    secret = hook(api, "https://example.com/")["secret"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    told = api.request("GET", "/v1/webhooks").text
    own_server.stop()
    stored = b"".join(p.read_bytes() for p in own_server.data.glob("baton.db*"))
    assert key not in stored and secret.encode() not in stored and secret not in told
    assert key.hex() not in told and secret.removeprefix("whsec_") not in told


# What is sent.

def test_an_event_arrives_signed_as_the_standard_says(api, site):
    made = hook(api, site.url + "/in")
    started = api.started(title="told")
    wait_until(lambda: len(site.requests) >= 2)
    got = only(site, type="run.queued") or wait_until(lambda: only(site, type="run.queued"))
    assert {r["type"] for r in site.requests} == {e["type"] for e in api.get(f"/v1/tasks/{started['task']['id']}/timeline")["items"]}
    for request in list(site.requests):
        assert request["signature"] == signature(made["secret"], request)
        assert abs(int(request["sent"]) - time.time()) < 60 * SLOW
        assert "." not in request["id"] and request["path"] == "/in"
    data = got[0]["data"]
    assert got[0]["hook"] == "task.run.enqueued" and got[0]["timestamp"].endswith("Z")
    assert data["task_id"] == started["task"]["id"] and data["run_id"] == started["run"]["id"] and data["attempt"] == 1
    assert data["workspace_id"] == api.session.headers["X-Workspace-ID"]
    assert data["actor"] == {"kind": "human", "ref": "admin"} and data["run_status"] == "queued" and data["task_status"] == "ready"


def test_only_the_named_types_and_hook_points_are_sent(api, site, capability):
    made = hook(api, site.url, "task.created", "task.run.completed")
    claim = api.claimed(capability)
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"], "result": {}}, 200)
    wait_until(lambda: only(site, type="run.completed"))
    assert sorted(r["type"] for r in site.requests) == ["run.completed", "task.created"]
    done = wait_until(lambda: [d for d in deliveries(api, made, status="delivered")] if not deliveries(api, made, status="pending") else None)
    assert [d["id"] for d in done] == [r["id"] for r in sorted(site.requests, key=lambda r: r["id"], reverse=True)]
    assert all(d["attempts"] == 1 and d["response_status"] == 204 and d["finished_at"] and "body" not in d for d in done)


def test_another_workspace_hears_nothing(server, api, site):
    other = Client(server).post("/v1/workspaces", {"name": "o", "slug": "x-%d" % time.monotonic_ns()})
    theirs = Client(server, headers={"X-Workspace-ID": other["id"]})
    hook(api, site.url + "/mine", "task.created")
    hook(theirs, site.url + "/theirs", "task.created")
    first, second = api.task(), theirs.task()
    wait_until(lambda: len(site.requests) == 2)
    assert {(r["path"], r["data"]["task_id"]) for r in site.requests} == {("/mine", first["id"]), ("/theirs", second["id"])}


def test_what_happens_in_the_places_of_events_that_are_gone_is_heard(serve, site):
    """The newest events of all are of a workspace that is deleted; the next ones get their places in the log."""
    server = serve(*FAST)
    api = Client(server)
    hook(api, site.url, "task.canceled")
    api.task(title="it hears nothing of this one")
    other = api.post("/v1/workspaces", {"name": "w", "slug": "w"})["id"]
    for workspace, n in (other, 30), (None, 40):
        inside = Client(server, headers={"X-Workspace-ID": workspace} if workspace else {})
        made = [inside.task(title=str(n))["id"] for n in range(n)]
        for task in made:
            inside.request("POST", f"/v1/tasks/{task}/cancel", {}, 200)
        if workspace:
            time.sleep(1)  # the deliverer has looked at them
            newest = "SELECT max(pos) FROM event"
            before = server.rows(newest)[0][0]
            api.request("DELETE", "/v1/workspaces/" + other, status=204)
            wait_until(lambda: server.rows("SELECT 1 FROM workspace WHERE purged_at IS NOT NULL"), 30)
            assert before - server.rows(newest)[0][0] >= 60
    wait_until(lambda: len(site.requests) == 40)
    assert {r["data"]["task_id"] for r in site.requests} == set(made)


def test_webhooks_of_workspaces_in_which_nothing_happens_cost_next_to_nothing(serve, site):
    """The log is read once for all of them."""
    server = serve(*FAST)

    def hooked(name):
        space = Client(server).post("/v1/workspaces", {"name": name, "slug": name})["id"]
        hook(Client(server, headers={"X-Workspace-ID": space}), site.url, "task.created")
        return Client(server, headers={"X-Workspace-ID": space})

    def taken():
        began = server.cpu_seconds()
        for _ in range(60):
            Client(server).post("/v1/tasks/batch", {"items": [{"title": "t"}] * 500}, 200)
        heard = listener.task(title="heard")["id"]
        wait_until(lambda: site.requests and site.requests[-1]["data"]["task_id"] == heard)
        return server.cpu_seconds() - began

    listener = hooked("listener")
    alone = taken()
    for n in range(200):
        hooked(f"w{n}")
    beside = taken()
    print(alone, beside)
    assert beside < 1.5 * alone + 0.3


def test_a_deleted_tasks_events_arrive_with_its_end(api, site):
    made = hook(api, site.url, enabled=True)
    task = api.task(title="short")
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    told = wait_until(lambda: only(site, type="task.deleted"))[0]
    assert told["data"]["payload"] == {"title": "short"} and told["data"]["task_id"] == task["id"]
    wait_until(lambda: {r["type"] for r in site.requests} == {"task.created", "task.deleted"})
    assert len(deliveries(api, made)) == 2


def test_a_webhook_hears_of_what_comes_after_it_and_not_of_what_came_while_it_was_disabled(api, site):
    before = api.task()
    made = hook(api, site.url, "task.created")
    first = api.task()
    wait_until(lambda: site.requests)
    api.request("PATCH", "/v1/webhooks/" + made["id"], {"enabled": False}, 200)
    during = api.task()
    api.request("PATCH", "/v1/webhooks/" + made["id"], {"enabled": True}, 200)
    last = api.task()
    wait_until(lambda: len(site.requests) == 2)
    assert [r["data"]["task_id"] for r in site.requests] == [first["id"], last["id"]]
    assert before["id"] != during["id"]


def test_a_large_payload_is_left_out_and_said_so(api, site, capability):
    hook(api, site.url, "task.canceled", "task.created")
    task = api.task()
    api.post(f"/v1/tasks/{task['id']}/cancel", {"reason": "r" * 1000, "metadata": {"k": "x" * 16300}}, 200)
    told = wait_until(lambda: only(site, type="task.canceled"))[0]["data"]
    assert told["payload_omitted"] is True and "payload" not in told


# Receivers that fail.

def test_what_fails_comes_again_later_under_the_same_id_and_with_the_same_body(api, site):
    made = hook(api, site.url, "task.created")
    site.reply = lambda request, times: 500 if times < 3 else 200
    api.task()
    wait_until(lambda: len(site.requests) == 3, seconds=20)
    assert len({r["id"] for r in site.requests}) == 1 and len({r["raw"] for r in site.requests}) == 1
    gaps = [b["at"] - a["at"] for a, b in zip(site.requests, site.requests[1:])]
    assert gaps[0] > 0.75 and gaps[1] > 1.9, gaps
    assert all(r["signature"] == signature(made["secret"], r) for r in site.requests)
    done = wait_until(lambda: deliveries(api, made, status="delivered"))[0]
    assert done["attempts"] == 3 and "error" not in done


def test_after_the_last_attempt_a_delivery_is_dead_and_a_replay_sends_it_again(api, site):
    made = hook(api, site.url, "task.created")
    site.reply, site.size = (lambda request, times: 503), 3000
    api.task()
    dead = wait_until(lambda: deliveries(api, made, status="dead"), seconds=20)[0]
    assert dead["attempts"] == 3 and dead["response_status"] == 503 and "503" in dead["error"]
    assert dead["response"] == "x" * 1024 and dead["finished_at"] and "next_attempt_at" not in dead
    time.sleep(0.5)
    assert len(site.requests) == 3
    site.reply = lambda request, times: 200
    path = f"/v1/webhooks/{made['id']}/deliveries/{dead['id']}/replay"
    assert api.post(path, status=200)["status"] == "pending"
    done = wait_until(lambda: deliveries(api, made, status="delivered"))[0]
    assert done["id"] == dead["id"] and done["attempts"] == 1
    assert {r["id"] for r in site.requests} == {dead["id"]} and len({r["raw"] for r in site.requests}) == 1
    assert api.get(f"/v1/webhooks/{made['id']}")["enabled"]
    api.problem("POST", path.replace(dead["id"], "dlv_0000000000001"), 404, "not_found")
    other = hook(api, site.url)
    api.problem("POST", path.replace(made["id"], other["id"]), 404, "not_found")


def test_gone_disables_the_webhook_at_the_first_attempt(api, site):
    made = hook(api, site.url, "task.created")
    site.reply = lambda request, times: 410
    api.task()
    wait_until(lambda: not api.get("/v1/webhooks/" + made["id"])["enabled"])
    shown = api.get("/v1/webhooks/" + made["id"])
    assert "410" in shown["disabled_reason"]
    assert [(d["status"], d["attempts"]) for d in deliveries(api, made)] == [("dead", 1)]
    api.task()
    again = api.request("PATCH", "/v1/webhooks/" + made["id"], {"enabled": True}, 200).json()
    assert "disabled_reason" not in again and len(site.requests) == 1


def test_a_receiver_may_say_when_it_wants_to_be_asked_again(api, site):
    hook(api, site.url, "task.created")
    site.reply = lambda request, times: (429, ("Retry-After", "4")) if times == 1 else 200
    api.task()
    wait_until(lambda: len(site.requests) == 2, seconds=20)
    assert site.requests[1]["at"] - site.requests[0]["at"] >= 3.9


def test_a_redirect_is_a_failure_and_leads_nowhere(api, site):
    made = hook(api, site.url, "task.created")
    site.reply = lambda request, times: (307, ("Location", site.url + "/elsewhere"))
    api.task()
    failed = wait_until(lambda: [d for d in deliveries(api, made) if d["attempts"]])[0]
    assert failed["response_status"] == 307 and not only(site, path="/elsewhere")


def test_a_receiver_that_never_answers_does_not_hold_up_the_others(api, site):
    gate = threading.Event()
    site.reply = lambda request, times: 200 if request["path"] == "/quick" or gate.wait(60) else 200
    slow = [hook(api, site.url + "/slow", "task.created") for _ in range(3)]
    hook(api, site.url + "/quick", "task.created")
    began = time.time()
    tasks = {api.task()["id"] for _ in range(100)}
    try:
        wait_until(lambda: {r["data"]["task_id"] for r in only(site, path="/quick")} == tasks, seconds=8)
        assert only(site, path="/slow")
        failed = wait_until(lambda: [d for d in deliveries(api, slow[0]) if d["attempts"]], seconds=20)[0]
        assert "in time" in failed["error"] and "response_status" not in failed and 9000 < failed["duration_ms"]
        assert time.time() - began > 9
    finally:
        gate.set()
    for webhook in slow:
        api.request("DELETE", "/v1/webhooks/" + webhook["id"], status=204)


def test_a_huge_answer_is_not_read_to_its_end(api, site):
    site.size = 50 << 20
    made = hook(api, site.url, "task.created")
    site.reply = lambda request, times: 200
    api.task()
    done = wait_until(lambda: [d for d in deliveries(api, made, status="delivered") if "response" in d])[0]
    assert done["response"] == "x" * 1024


def test_nothing_is_sent_where_the_server_must_not_connect_to(own_server):
    """The default: loopback is closed to webhooks too."""
    api = Client(own_server)
    with Site(Receiver) as site:
        site.lock, site.size, site.reply = threading.Lock(), 0, lambda request, times: 200
        port = site.port
        made = [hook(api, f"http://{host}:{port}/", "task.created") for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]")]
        api.task()
        for webhook in made:
            failed = wait_until(lambda: [d for d in deliveries(api, webhook) if d["attempts"]])[0]
            assert "--egress-allow" in failed["error"] and failed["status"] == "pending"
        assert not site.requests


def test_an_answer_after_several_failures_brings_forward_what_waits(serve, site):
    server = serve("--egress-allow", "127.0.0.1", "--webhook-retry-seconds", "1")
    api = Client(server)
    hook(api, site.url, "task.created", "task.canceled")
    site.reply = lambda request, times: (503, ("Retry-After", "3600")) if request["type"] == "task.canceled" and times == 1 else \
        500 if times <= 3 else 200
    tasks = [api.task() for _ in range(5)]
    for task in tasks[1:]:
        api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    wait_until(lambda: len(only(site, type="task.canceled")) == 4)
    wait_until(lambda: len(only(site, type="task.canceled")) >= 8, seconds=20)
    assert len(only(site, type="task.created")) >= 4
    server.stop()


def test_metrics_tell_what_was_sent_failed_given_up_and_what_waits(serve, site):
    server = serve(*FAST)
    api = Client(server)

    def metric(name):
        text = api.request("GET", "/metrics", status=200).text
        return int(re.search(rf"^baton_webhook_{re.escape(name)} (\d+)$", text, re.M)[1])

    hook(api, site.url, "task.created")
    api.task()
    wait_until(lambda: metric('attempts_total{result="delivered"}') == 1 and metric("active") == 0)
    site.reply = lambda request, times: 500
    api.task()
    wait_until(lambda: metric("pending") == 1 and metric('attempts_total{result="failed"}') == 1)
    wait_until(lambda: metric("dead_total") == 1 and metric("pending") == 0, seconds=20)
    assert metric('attempts_total{result="failed"}') == 3
    server.stop()
    assert "delivery_dead" in open(server.log.name).read()


# Crashes, stops, retention.

def test_nothing_is_lost_and_ids_are_stable_when_the_server_is_killed_again_and_again(serve, site):
    server = serve(*FAST, "--webhook-attempts", "30")
    api = Client(server)
    made = hook(api, site.url, "task.created")
    site.reply = lambda request, times: 200 if hash(request["id"]) % 3 or times > 1 else 500
    tasks = set()
    for turn in range(6):
        for _ in range(20):
            tasks.add(api.task()["id"])
        seen = len(site.requests)
        wait_until(lambda: len(site.requests) > seen)
        server.kill()
        server.start()
        api = Client(server)
    wait_until(lambda: {r["data"]["task_id"] for r in site.requests} == tasks, seconds=30)
    wait_until(lambda: not deliveries(api, made, status="pending"), seconds=30)
    ids = {}
    for request in site.requests:
        ids.setdefault(request["data"]["task_id"], set()).add((request["id"], request["raw"]))
        assert request["signature"] == signature(made["secret"], request)
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same))[0] for same in ids.values()}) == len(tasks) == 120
    assert {d["status"] for d in deliveries(api, made)} == {"delivered"}
    server.stop()


def test_a_stop_lets_a_request_under_way_end_and_begins_no_other(serve, site):
    server = serve(*FAST)
    api = Client(server)
    made, gate = hook(api, site.url, "task.created"), threading.Event()
    site.reply = lambda request, times: 200 if gate.wait(9) else 500
    api.task()
    wait_until(lambda: site.requests)
    server.process.terminate()
    wait_until(lambda: "draining" in open(server.log.name).read())
    gate.set()
    assert server.process.wait(timeout=20 * SLOW) == 0
    server.start()
    assert [(d["status"], d["attempts"]) for d in deliveries(Client(server), made)] == [("delivered", 1)]
    assert len(site.requests) == 1
    server.stop()


def test_ended_deliveries_and_those_of_deleted_webhooks_go_in_time(serve, site):
    server = serve(*FAST)
    api = Client(server)
    kept, gone = hook(api, site.url, "task.created"), hook(api, site.url, "task.created")
    api.request("DELETE", "/v1/tasks/" + api.task()["id"], status=204)
    task = api.task()  # what is of interest after the deletion takes both webhooks past it
    wait_until(lambda: len(deliveries(api, kept, status="delivered")) == len(deliveries(api, gone, status="delivered")) == 2)
    api.request("DELETE", "/v1/webhooks/" + gone["id"], status=204)
    server.stop()
    with sqlite3.connect(server.data / "baton.db") as db:
        db.execute("UPDATE delivery SET finished_at = finished_at - 8 * 86400000000 WHERE task_id = ?", (number_of(task["id"]),))
    server.start()

    wait_until(lambda: [server.count(table) for table in ("delivery", "webhook", "deleted_task")] == [1, 1, 0])
    assert len(deliveries(Client(server), kept)) == 1
    server.stop()


# Before a claim.

class Policy(Receiver):
    """Answers questions as site.decide(question) says: a status, or what is to be sent as JSON."""

    def do_POST(self):
        raw = self.body()
        question = {**json.loads(raw), "id": self.headers["webhook-id"], "sent": self.headers["webhook-timestamp"],
                    "signature": self.headers["webhook-signature"], "raw": raw}
        self.site.requests.append(question)
        answer = self.site.decide(question)
        if isinstance(answer, int):
            return self.answer(answer)
        self.answer(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())


@pytest.fixture
def policy():
    with Site(Policy) as site:
        site.server.handle_error = lambda *_: None
        site.decide = lambda question: {"decision": "allow"}
        yield site


def claim(api, status, **fields):
    return api.request("POST", "/v1/runs/claim", {"capabilities": ["a", "b"], **fields}, status)


def test_a_policy_is_asked_before_a_claim_and_what_it_allows_is_claimed(api, policy):
    made = hook(api, policy.url, "task.run.pre_claim")
    run = api.started()["run"]["id"]
    claimed = claim(api, 200, lease_seconds=60).json()["claims"][0]["run"]
    assert claimed["id"] == run and claimed["attempt"] == 1
    question, = policy.requests
    assert question["signature"] == signature(made["secret"], question) and question["type"] == "task.run.pre_claim"
    data = question["data"]
    assert data["actor"] == {"kind": "human", "ref": "admin"} and data["capabilities"] == ["a", "b"]
    assert data["workspace_id"] == api.session.headers["X-Workspace-ID"] and data["lease_seconds"] == 60 and data["max"] == 1
    run = api.started()["run"]["id"]
    api.post(f"/v1/runs/{run}/claim", status=200)
    assert policy.requests[-1]["data"]["run_id"] == run
    assert deliveries(api, made) == []


def test_a_policy_that_denies_is_a_403_with_its_reason_and_nothing_is_claimed(api, policy):
    hook(api, policy.url, "task.run.pre_claim")
    policy.decide = lambda question: {"decision": "deny", "reason": "not on Sundays"}
    run = api.started()["run"]["id"]
    problem = api.problem("POST", "/v1/runs/claim", 403, "permission_denied", {})
    assert "not on Sundays" in problem["detail"]
    api.problem("POST", f"/v1/runs/{run}/claim", 403, "permission_denied", {})
    assert api.get("/v1/runs/" + run)["status"] == "queued"
    assert "run.claimed" not in [e["type"] for e in api.get(f"/v1/runs/{run}/events")["items"]]


def test_a_policy_may_narrow_a_claim_and_cannot_widen_it(api, policy):
    hook(api, policy.url, "task.run.pre_claim")
    for capability in "ab":
        api.started(title=capability, required_capabilities=[capability], priority="low")
    api.started(title="c", required_capabilities=["c"], priority="low")
    policy.decide = lambda question: {"decision": "allow", "capabilities": ["b", "c"]}
    first = claim(api, 200, max=10).json()["claims"]
    assert [c["task"]["title"] for c in first] == ["b"]
    policy.decide = lambda question: {"decision": "allow", "priority_min": "high"}
    claim(api, 204, max=10)
    policy.decide = lambda question: {"decision": "allow", "priority_min": "low"}
    claim(api, 204, max=10, priority_min="high")
    policy.decide = lambda question: {"decision": "allow", "capabilities": []}
    claim(api, 204, max=10)
    policy.decide = lambda question: {"decision": "allow"}
    assert [c["task"]["title"] for c in claim(api, 200, max=10).json()["claims"]] == ["a"]


@pytest.mark.parametrize("answer", [500, 204, 301, b"", b"{", b"[]", {"decision": "perhaps"}, {}, {"decision": "allow", "more": 1},
                                    b'{"decision":"allow"}' + b" " * 20000])
def test_what_is_no_answer_denies(api, policy, answer):
    hook(api, policy.url, "task.run.pre_claim")
    run = api.started()["run"]["id"]
    policy.decide = lambda question: answer
    problem = api.problem("POST", "/v1/runs/claim", 503, "unavailable", {})
    assert "policy" in problem["detail"] and api.get("/v1/runs/" + run)["status"] == "queued"


def test_a_policy_that_is_silent_denies_within_its_time_and_holds_nobody_else_up(server, api, policy):
    gate = threading.Event()
    hook(api, policy.url, "task.run.pre_claim")
    policy.decide = lambda question: {"decision": "allow"} if gate.wait(30) else 500
    run = api.started()["run"]["id"]
    other = Client(server, headers={"X-Workspace-ID": Client(server).post("/v1/workspaces", {
        "name": "o", "slug": "p-%d" % time.monotonic_ns()})["id"]})
    answers = []
    began = time.monotonic()
    asking = [threading.Thread(target=lambda: answers.append(api.again().request("POST", "/v1/runs/claim", {}))) for _ in range(20)]
    for thread in asking:
        thread.start()
    wait_until(lambda: policy.requests)
    other.started()
    assert other.claim()
    for thread in asking:
        thread.join()
    took = time.monotonic() - began
    gate.set()
    assert {a.status_code for a in answers} == {503} and all(a.json()["code"] == "unavailable" for a in answers)
    assert all("in time" in a.json()["detail"] and a.headers["Retry-After"] == "1" for a in answers)
    assert 0.5 <= took < 0.5 + 2 * SLOW and api.get("/v1/runs/" + run)["status"] == "queued"


def test_a_waiting_claim_is_asked_about_once(api, policy):
    hook(api, policy.url, "task.run.pre_claim")
    got = []
    waiting = threading.Thread(target=lambda: got.append(api.again().claim(wait_seconds=30)))
    waiting.start()
    wait_until(lambda: policy.requests)
    run = api.started()["run"]["id"]
    waiting.join()
    assert got[0][0]["run"]["id"] == run and len(policy.requests) == 1


def test_one_policy_of_a_workspace_and_none_while_it_is_disabled(api, policy):
    made = hook(api, policy.url, "task.run.pre_claim", "task.created")
    policy.decide = lambda question: {"decision": "deny"}
    body = {"url": policy.url, "events": ["task.run.pre_claim"]}
    assert api.problem("POST", "/v1/webhooks", 409, "conflict", body)["field"] == "events"
    api.started()
    api.problem("POST", "/v1/runs/claim", 403, "permission_denied", {})
    path = "/v1/webhooks/" + made["id"]
    api.request("PATCH", path, {"enabled": False}, 200)
    assert api.claim()
    second = api.post("/v1/webhooks", body)
    api.problem("PATCH", path, 409, "conflict", {"enabled": True})
    api.started()
    api.problem("POST", "/v1/runs/claim", 403, "permission_denied", {})
    api.request("DELETE", "/v1/webhooks/" + second["id"], status=204)
    assert api.claim()


def test_a_stop_answers_claims_that_are_asked_about(serve, policy):
    server = serve(*FAST)
    api, gate, answers = Client(server), threading.Event(), []
    hook(api, policy.url, "task.run.pre_claim")
    policy.decide = lambda question: {"decision": "allow"} if gate.wait(30) else 500
    thread = threading.Thread(target=lambda: answers.append(Client(server).request("POST", "/v1/runs/claim", {})))
    thread.start()
    wait_until(lambda: policy.requests)
    server.stop()
    thread.join()
    gate.set()
    assert answers[0].status_code == 503
