"""The description says all that the server takes and answers, and no more."""
import json

import pytest
import requests
from conftest import Client, Server, wait_until
from description import Description
from flows import action, noop
from jsonschema import ValidationError


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("described") / "data", "--egress-allow", "127.0.0.1")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def described(served):
    return Description.of(served.url)


def test_every_route_says_what_it_answers(described):
    for (method, path), operation in described.operations().items():
        done = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
        assert done and set(operation["responses"]) - set(done) == {"4XX", "5XX"}, (method, path)
        for status, answer in done.items():
            assert (status == "204") == ("content" not in answer), (method, path)
            for media, content in answer.get("content", {}).items():
                assert content["schema"], (method, path, media)


def test_every_object_has_members(described):
    for name, schema in described.document["components"]["schemas"].items():
        assert schema["type"] == "object", name
        assert schema["properties"] or name in ("Empty", "OpenApiDocument"), name
        assert set(schema.get("required", [])) <= set(schema["properties"]), name


def parameters(described, method, path):
    return {p["name"]: p for p in described.operations()[method, path]["parameters"]}


def test_pages_and_filters_are_described(described):
    for (method, path), operation in described.operations().items():
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if "next_cursor" in schema.get("properties", {}):
            named = parameters(described, method, path)
            assert named["limit"]["schema"]["minimum"] == 1 and "cursor" in named, path
    tasks = parameters(described, "get", "/v1/tasks")
    assert tasks["limit"]["schema"] == {"type": "integer", "format": "int64", "minimum": 1, "maximum": 500, "default": 50}
    assert tasks["status"]["schema"]["enum"][0] == "draft" and tasks["include_drafts"]["schema"]["type"] == "boolean"
    assert tasks["parent_task_id"]["schema"]["pattern"].startswith("^task_")
    assert "descending" in parameters(described, "get", "/v1/tasks/{task}/timeline")
    assert "gateway_id" not in parameters(described, "get", "/v1/runs")


def test_headers_are_described_where_they_are_read(described):
    headers = {"Idempotency-Key": ("post", "/v1/tasks"), "If-Match": ("put", "/v1/definitions/{definition}"),
               "Last-Event-ID": ("get", "/v1/tasks/{task}/events/stream"), "X-Claim-Token": ("post", "/v1/runs/{run}/complete"),
               "X-Workspace-ID": ("get", "/v1/tasks")}
    for name, (method, path) in headers.items():
        assert parameters(described, method, path)[name]["in"] == "header"
        assert name not in parameters(described, "get", "/livez")
    assert parameters(described, "put", "/v1/definitions/{definition}")["If-Match"]["required"]
    assert "Idempotency-Key" not in parameters(described, "get", "/v1/tasks")


def test_a_key_and_its_scopes_are_described(described):
    scheme = described.document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operations = described.operations()
    assert operations["post", "/v1/runs/claim"]["security"] == [{"key": ["runs:claim"]}]
    assert operations["get", "/livez"]["security"] == []


def test_a_problem_names_every_code(described):
    problem = described.document["components"]["schemas"]["Problem"]
    assert {"not_found", "stale_claim_token", "storage_full"} <= set(problem["properties"]["code"]["enum"])
    assert "ok" not in problem["properties"]["code"]["enum"]
    assert set(problem["required"]) == {"type", "title", "status", "code", "detail"}


def test_what_a_body_may_say_is_what_the_reader_takes(served, described):
    """Each bound of the description is the server's own: what breaks it is refused by both."""
    api = Client(served)
    create = described.operations()["post", "/v1/tasks"]["requestBody"]["content"]["application/json"]["schema"]
    for body in [{}, {"title": "x", "priority": "soon"}, {"title": "x", "max_attempts": 0}, {"title": "x", "titel": 1},
                 {"title": "x" * 1001}, {"title": 1}, {"title": "x", "definition_id": ""}, {"title": "x", "start": "yes"},
                 {"title": "x", "retry": []}, {"title": "x", "required_capabilities": ["a b"]}, {"title": "x", "id": "run_1"}]:
        with pytest.raises(ValidationError):
            described.validate(body, create)
        assert api.request("POST", "/v1/tasks", body).status_code in (400, 413), body
    for body in [{"title": "x", "priority": None, "owner": None, "metadata": None}, {"title": "x", "retry": {}},
                 {"title": "ä" * 10, "required_capabilities": []}]:
        described.validate(body, create)
        api.post("/v1/tasks", body)


# The walk.

class Walker(Client):
    """Every call is held against the description and remembered."""

    def __init__(self, served, described, walked, **options):
        super().__init__(served, **options)
        self.watch = lambda server, answer: walked.add(described.check(answer))


def frames(served, described, walked, path):
    with requests.get(served.url + path, headers={"Authorization": "Bearer " + served.key}, stream=True, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        text = "".join(piece.decode() for piece in answer.iter_content(None))
    route = "get", described.find("get", path.split("?")[0])
    walked.add(route)
    return described.check_frames(described.operations()[route], text)


def walk_definitions(api):
    document = {"name": "walked", "input": {"type": "object"}, "steps": [
        noop(1, label="first"), action("checkpoint", label="here"),
        action("parallel", branches=[{"steps": [noop(2)]}, {"steps": [noop(3)]}]),
        action("execute_command", command="echo told"),
        action("approval", message="go on?")]}
    made = api.post("/v1/definitions", document)
    api.post("/v1/definitions/validate", document, 200)
    assert not api.post("/v1/definitions/validate", {"name": "x", "steps": [{"action": "juggle"}]}, 200)["valid"]
    path = "/v1/definitions/" + made["id"]
    api.request("PUT", path, {**document, "description": "again"}, 200, headers={"If-Match": '"1"'})
    for tail in ["", "?version=1", "/versions?limit=1", "/graph", "/runs?status=running"]:
        api.get(path + tail)
    api.get("/v1/definitions?limit=5")
    run = api.post(path + "/runs", {"input": {"a": 1}, "priority": "high"})["run"]
    approval = wait_until(lambda: api.get("/v1/approvals?status=pending&run_id=" + run["id"])["items"], 30)[0]
    api.get("/v1/approvals/" + approval["id"])
    api.post(f"/v1/approvals/{approval['id']}/decide", {"decision": "approve", "comment": "yes"}, 200)
    wait_until(lambda: api.get("/v1/runs/" + run["id"])["status"] == "completed")
    for tail in ["", "/steps?limit=2", "/events?limit=5&descending=true", "/checkpoints", "/explain", "/inspect", "/context"]:
        api.get(f"/v1/runs/{run['id']}{tail}")
    assert "told" in api.request("GET", f"/v1/runs/{run['id']}/logs", status=200).text
    api.get("/v1/task-runs/" + run["id"])
    spare = api.post("/v1/definitions", {"name": "spare", "steps": [noop(1)]})
    api.request("DELETE", "/v1/definitions/" + spare["id"], status=204)
    return made, run


def walk_tasks(api):
    task = api.task(description="all", identifier="w-1", priority="low", owner={"kind": "human", "ref": "me"},
                    required_capabilities=["walk"], retry={"max_attempts": 2}, metadata={"a": [1]}, max_attempts=3)
    path = "/v1/tasks/" + task["id"]
    child = api.post(path + "/children", {"title": "child"})
    first = api.task()
    on = api.post(path + "/dependencies", {"depends_on_task_id": first["id"], "on_failure": "proceed"})
    assert on["status"] == "blocked"
    api.get(path + "/dependencies")
    api.request("DELETE", f"{path}/dependencies/{first['id']}", status=200)
    api.request("PATCH", path, {"title": "other", "owner": None}, 200)
    for tail in ["", "/tree?limit=1", "/timeline?event_type=task.created", "/runs", "/inspect"]:
        api.get(path + tail)
    api.get("/v1/tasks?status=ready&limit=3&q=oth")
    api.request("PUT", path + "/execution-profile", {"worker": {"mode": "select", "agent_name": "ada"}}, 200)
    api.get(path + "/execution-profile")
    api.request("DELETE", path + "/execution-profile", status=204)
    api.post(path + "/inputs", {"message": "go", "data": {"n": 1}, "name": "word"})
    api.get(path + "/inputs?status=pending&name=word&limit=1")
    api.post(path + "/pause", {"reason": "wait"}, 200)
    api.post(path + "/resume", {}, 200)
    api.post(path + "/start", {"metadata": {"n": 1}})
    api.get(path + "/runs?status=queued")
    for verb in ["read", "dismiss", "archive"]:
        api.post(f"{path}/triage/{verb}", {}, 200)
    api.post(path + "/cancel", {"reason": "enough"}, 200)
    api.request("DELETE", "/v1/tasks/" + child["id"], status=204)
    draft = api.task(draft=True)
    api.post(f"/v1/tasks/{draft['id']}/publish", {}, 200)
    for verb, status in [("approve", 201), ("reject", 200)]:
        careful = api.task(approval_policy="manual")
        api.post(f"/v1/tasks/{careful['id']}/{verb}", {"comment": "so"}, status)
    api.post(f"/v1/tasks/{first['id']}/runs", {})
    outcomes = api.post("/v1/tasks/batch", {"items": [{"title": "a", "start": True}, {"title": ""}, {"title": "b"}]}, 200)
    assert [o["ok"] for o in outcomes["items"]] == [True, False, True]
    api.get("/v1/inbox?unread=1")
    api.get("/v1/dashboard")


def walk_reviews(api, run):
    review = api.post(run + "/reviews", {"reason": "look"})["review"]
    assert not api.post(run + "/reviews", {}, 200)["created"]
    path = "/v1/reviews/" + review["id"]
    api.get(run + "/reviews?status=requested&limit=1")
    api.get("/v1/reviews?task_id=" + review["task_id"])
    api.get(path)
    api.post(path + "/bind", {}, 200)
    api.post(path + "/verdict", {"outcome": "rejected", "confidence": 1, "reason": "no", "delivery_id": "one",
                                 "missing_work": ["tests"], "next_round_guidance": "test it"}, 200)


def walk_claims(api):
    def claimed(**fields):
        made = api.started(required_capabilities=["walk"])["run"]
        return api.claim(capabilities=["walk"], **fields)[0] if fields else api.post(
            f"/v1/runs/{made['id']}/claim", {"capabilities": ["walk"]}, 200)["claims"][0]

    assert api.request("POST", "/v1/runs/claim", {"capabilities": ["nobody's"], "channel": "none"}).status_code == 204
    claim = claimed(lease_seconds=60)
    path, token = "/v1/runs/" + claim["run"]["id"], {"claim_token": claim["claim_token"]}
    api.post(path + "/heartbeat", token, 200)
    api.request("POST", path + "/start", {}, 200, headers={"X-Claim-Token": claim["claim_token"]})
    api.get("/v1/dashboard")
    api.get("/v1/tasks/" + claim["task"]["id"])
    beaten = api.post("/v1/runs/heartbeat", {"items": [{"run_id": claim["run"]["id"], **token}, {"run_id": "run_0000000000001"}]}, 200)
    assert [o["ok"] for o in beaten["items"]] == [True, False]
    sent = api.post(f"/v1/tasks/{claim['task']['id']}/inputs", {"message": "go"})
    api.post(f"{path}/inputs/{sent['id']}/consume", token, 200)
    api.post(path + "/complete", {**token, "result": {"n": 1}}, 200)
    walk_reviews(api, path)
    other = claimed()
    done = api.post("/v1/runs/complete", {"items": [{"run_id": other["run"]["id"], "claim_token": other["claim_token"]},
                                                    {"run_id": other["run"]["id"], "claim_token": "wrong"}]}, 200)
    assert [o["ok"] for o in done["items"]] == [True, False]
    failed = claimed()
    api.post(f"/v1/runs/{failed['run']['id']}/fail", {"claim_token": failed["claim_token"], "error": "no", "kind": "transient"}, 200)
    again = api.post(f"/v1/runs/{failed['run']['id']}/retry", {})["run"]
    api.post(f"/v1/runs/{again['id']}/force-fail", {"reason": "enough"}, 200)
    api.post(f"/v1/tasks/{failed['task']['id']}/retry", {})
    released = claimed()
    api.post(f"/v1/runs/{released['run']['id']}/release", {"claim_token": released["claim_token"], "reason": "tired"}, 200)
    attached = api.post(f"/v1/runs/{released['run']['id']}/attach-session", {"session_id": "s", "capabilities": ["walk"]}, 200)
    run = attached["claims"][0]["run"]["id"]
    api.get(f"/v1/runs?session_id=s&created_after=2020-01-01T00:00:00Z")
    api.get(f"/v1/runs/{run}/inspect")
    api.post(f"/v1/runs/{run}/force-release", {"reason": "mine"}, 200)
    bulk = api.post("/v1/runs/bulk/fail", {"run_ids": [run, "run_1"], "reason": "enough"}, 200)
    assert [o["ok"] for o in bulk["items"]] == [True, False]
    api.post("/v1/runs/bulk/release", {"run_ids": [run]}, 200)
    api.post(f"/v1/runs/{api.started()['run']['id']}/cancel", {"reason": "no"}, 200)


def walk_the_rest(api, free):
    space = api.post("/v1/workspaces", {"name": "Walked", "retention_seconds": 60})
    path = "/v1/workspaces/" + space["id"]
    for tail in ["", "/usage"]:
        api.get(path + tail)
    api.request("PATCH", path, {"quota_bytes": 1 << 20}, 200)
    api.request("DELETE", path, status=204)
    api.get("/v1/workspaces?limit=1")
    key = api.key_for(capabilities=["a"], expires_at="2099-01-01T00:00:00Z")
    api.get("/v1/keys?limit=2")
    api.request("DELETE", "/v1/keys/" + key["id"], status=204)
    api.request("PUT", "/v1/secrets/WALKED", {"value": "of four"}, 204)
    api.get("/v1/secrets")
    api.request("DELETE", "/v1/secrets/WALKED", status=204)
    hook = api.post("/v1/webhooks", {"url": "http://127.0.0.1:8080/hook", "events": ["task.created"], "description": "d"})
    path = "/v1/webhooks/" + hook["id"]
    api.get("/v1/webhooks")
    api.task()
    delivery = wait_until(lambda: api.get(path + "/deliveries")["items"])[0]
    wait_until(lambda: api.get(path + "/deliveries?status=pending")["items"][0]["attempts"])
    api.post(f"{path}/deliveries/{delivery['id']}/replay", {}, 200)
    api.get(path)
    api.request("PATCH", path, {"enabled": False, "events": None}, 200)
    api.request("DELETE", path, status=204)
    assert api.get("/v1/audit?action=key.created&limit=1")["head"]
    for verb in ["pause", "resume"]:
        api.post("/v1/scheduler/" + verb, {"reason": "walk"}, 200)
    api.post("/v1/scheduler/drain", {"timeout_seconds": 0}, 200)
    api.post("/v1/scheduler/resume", {}, 200)
    for path in ["/v1/scheduler", "/v1/scheduler/backlog?include_paused=1&limit=5", "/v1/scheduler/events", "/v1/workers"]:
        api.get(path)
    for path in ["/livez", "/readyz", "/healthz", "/health", "/v1/version", "/openapi.json"]:
        free.get(path)
    api.request("GET", "/metrics", status=200)


def walk_streams(follow, definition, run):
    tail = f"/v1/tasks/{run['task_id']}/runs/{run['id']}/events/stream"
    assert follow(tail)[-1]["event"] == "stream.end"
    assert follow(f"/api/tasks/{definition['id']}/runs/{run['id']}/stream?after_sequence=1")
    assert follow(f"/v1/runs/{run['id']}/logs?follow=1")[0]["event"] == "log"


# What a walk cannot reach by itself, with the test that does.
ELSEWHERE = {
    ("get", "/v1/tasks/{task}/events/stream"): "test_streams.py: the stream of a task has no end",
    ("get", "/v1/tasks/{task}/stream"): "its alias",
    ("post", "/v1/runs/{run}/recover"): "test_attention.py: a mark takes its time",
}


def test_a_walk_over_every_route_finds_what_is_described(served, described):
    walked = set()
    api = Walker(served, described, walked)
    definition, run = walk_definitions(api)
    walk_tasks(api)
    walk_claims(api)
    walk_the_rest(api, api)
    walk_streams(lambda path: frames(served, described, walked, path), definition, run)
    assert api.request("GET", "/v1/tasks/task_none").status_code == 404
    missing = set(described.operations()) - walked - set(ELSEWHERE)
    assert not missing, f"nobody has looked what these answer: {sorted(missing)}"
    assert json.dumps(described.document)
