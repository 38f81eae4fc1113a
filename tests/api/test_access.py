import concurrent.futures
import json
import os
import pwd
import socket
import time

import requests
from conftest import SLOW, Client, wait_until


def test_health_and_version_are_open(server):
    for path in ["/livez", "/readyz", "/healthz", "/health", "/v1/version", "/openapi.json"]:
        assert requests.get(server.url + path, timeout=5).status_code == 200
    assert requests.get(server.url + "/metrics", timeout=5).status_code == 401


def test_every_bad_key_gets_the_same_answer(server):
    bodies = set()
    for value in [None, "Bearer", "Bearer ", "Basic eDp5", "Bearer btn_wrong",
                  "Bearer " + server.key[:-1], "Bearer " + server.key + "0",
                  "Bearer " + server.key.upper()]:
        headers = {"Authorization": value} if value else {}
        answer = requests.get(server.url + "/v1/tasks", headers=headers, timeout=5)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        bodies.add(answer.text)
    assert len(bodies) == 1


def test_the_word_bearer_is_written_in_any_case(server):
    for word in ["bearer", "BEARER", "bEaReR"]:
        assert requests.get(server.url + "/v1/tasks", headers={"Authorization": f"{word} {server.key}"}, timeout=5).status_code == 200
    assert requests.get(server.url + "/v1/tasks", headers={"Authorization": "Bearers " + server.key}, timeout=5).status_code == 401


def test_a_key_acts_as_what_it_says_and_within_its_scopes(api):
    made = api.key_for(ref="reader", scopes=["tasks:read"])
    reader = Client(api.server, made["key"])
    reader.get("/v1/tasks")
    reader.problem("POST", "/v1/tasks", 403, "permission_denied", {"title": "x"})
    reader.problem("POST", "/v1/keys", 403, "permission_denied", {})
    writer = Client(api.server, api.key_for(ref="writer")["key"])
    assert writer.task()["created_by"] == {"kind": "agent_session", "ref": "writer"}
    assert "key" not in api.get("/v1/keys")["items"][0]


def test_a_key_cannot_give_more_than_it_has(api):
    half = Client(api.server, api.key_for(scopes=["admin", "tasks:read"])["key"])
    body = {"name": "x", "actor_kind": "human", "ref": "y"}
    half.problem("POST", "/v1/keys", 403, "permission_denied", {**body, "scopes": ["runs:claim"]})
    half.problem("POST", "/v1/keys", 400, "validation_failed", {**body, "scopes": ["everything"]})


def test_no_key_speaks_for_the_server_itself(api):
    body = {"name": "x", "ref": "baton", "scopes": ["tasks:read"]}
    for kind in ("daemon", "worker", "any", ""):
        assert api.problem("POST", "/v1/keys", 400, "validation_failed", {**body, "actor_kind": kind})["field"] == "actor_kind"
    for kind in ("human", "agent_session", "automation", "extension", "network_peer"):
        assert api.post("/v1/keys", {**body, "actor_kind": kind})["actor"] == {"kind": kind, "ref": "baton"}


def test_revocation_and_expiry_work_within_a_second(api):
    made = api.key_for()
    client = Client(api.server, made["key"])
    client.get("/v1/tasks")
    api.request("DELETE", "/v1/keys/" + made["id"], status=204)
    began = time.monotonic()
    wait_until(lambda: client.request("GET", "/v1/tasks").status_code == 401, 1.5)
    assert time.monotonic() - began < 1.0 + 0.2 * SLOW
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    brief = Client(api.server, api.key_for(expires_at=soon)["key"])
    brief.get("/v1/tasks")
    wait_until(lambda: brief.request("GET", "/v1/tasks").status_code == 401, 4)


def test_a_workspace_is_chosen_for_one_request_only(api):
    """The first request of a key names a workspace, the next ones do not."""
    other = api.post("/v1/workspaces", {"name": "chosen once", "slug": "chosen-once"})["id"]
    key = requests.post(api.server.url + "/v1/keys", timeout=20, headers={"Authorization": "Bearer " + api.server.key}, json={
        "name": "k", "actor_kind": "human", "ref": "everywhere", "scopes": ["tasks:read", "tasks:write"]}).json()["key"]
    choosing = Client(api.server, key, {"X-Workspace-ID": other})
    for _ in range(8):  # every loop keeps keys of its own
        choosing.get("/v1/tasks")
    made = [Client(api.server, key).post("/v1/tasks", {"title": "in the default one"}) for _ in range(8)]
    assert other not in [task["workspace_id"] for task in made]


def test_workspaces_do_not_see_each_other(api):
    space = api.post("/v1/workspaces", {"name": "Other Place"})
    assert space["slug"].startswith("other-place")
    inside = Client(api.server, api.key_for(workspace_id=space["id"])["key"])
    mine, theirs = api.started(), inside.started()
    for path in ["/v1/tasks/" + mine["task"]["id"], "/v1/runs/" + mine["run"]["id"],
                 f"/v1/tasks/{mine['task']['id']}/timeline",
                 f"/v1/runs/{mine['run']['id']}/explain"]:
        foreign = inside.problem("GET", path, 404, "not_found")
        missing_path = path.replace(mine["task"]["id"], "task_0000000000001").replace(
            mine["run"]["id"], "run_0000000000001")
        missing = inside.problem("GET", missing_path, 404, "not_found")
        foreign.pop("instance"), missing.pop("instance")
        assert foreign == missing
    assert [t["id"] for t in inside.get("/v1/tasks")["items"]] == [theirs["task"]["id"]]
    selected = Client(api.server, headers={"X-Workspace-ID": space["id"]})
    assert [t["id"] for t in selected.get("/v1/tasks")["items"]] == [theirs["task"]["id"]]
    inside.problem("GET", "/v1/tasks", 404, "not_found",
                   headers={"X-Workspace-ID": "default"})
    api.problem("POST", "/v1/workspaces", 409, "conflict", {"name": "x", "slug": space["slug"]})


def test_idempotency_keys_answer_the_first_answer(api):
    headers = {"Idempotency-Key": "once"}
    first = api.request("POST", "/v1/tasks", {"title": "x"}, 201, headers=dict(headers))
    again = api.request("POST", "/v1/tasks", {"title": "x"}, 201, headers=dict(headers))
    assert first.json() == again.json()
    api.problem("POST", "/v1/tasks", 422, "idempotency_mismatch", {"title": "y"},
                headers=dict(headers))
    other = Client(api.server, api.key_for(ref="other")["key"])
    assert other.post("/v1/tasks", {"title": "y"}, headers=dict(headers))["id"] != \
        first.json()["id"]


def test_host_and_origin_are_checked(server):
    def get(host, origin=None):
        extra = f"Origin: {origin}\r\n" if origin else ""
        return server.raw(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n{extra}"
                          "Connection: close\r\n\r\n".encode())

    assert b"200 OK" in get(server.address)
    assert b"host_denied" in get("evil.example")
    assert b"origin_denied" in get(server.address, "http://evil.example")
    assert b"origin_denied" in get(server.address, "null")
    assert b"200 OK" in get(server.address, "http://" + server.address)


def test_the_local_socket_needs_no_key(server):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.data / "baton.sock"))
        s.sendall(b"GET /v1/keys HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
        out = b""
        while piece := s.recv(65536):
            out += piece
    assert out.startswith(b"HTTP/1.1 200") and b"admin" in out
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.data / "baton.sock"))
        body = b'{"title": "by the user"}'
        s.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: local\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        out = b"".join(iter(lambda: s.recv(65536), b""))
    made = json.loads(out.split(b"\r\n\r\n", 1)[1])
    assert made["created_by"] == {"kind": "human", "ref": pwd.getpwuid(os.geteuid()).pw_name}


def test_the_description_names_every_route(api):
    paths = api.get("/openapi.json")["paths"]
    assert "post" in paths["/v1/tasks"] and "get" in paths["/v1/runs/{run}/explain"]
    shape = paths["/v1/tasks"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert shape["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Task"} and "next_cursor" in shape["required"]
    for path, operations in paths.items():
        for operation in operations.values():
            assert operation["summary"] and operation["operationId"], path
    json.dumps(paths)


def test_keys_that_share_a_place_in_the_cache_stay_apart(server, api, capability):
    """With so many keys some share one: whoever waits meanwhile keeps its own name."""
    def key(n):
        return api.post("/v1/keys", {"name": f"k{n}", "actor_kind": "automation", "ref": f"{'x' * (n % 7)}k{n}",
                                     "scopes": ["tasks:read", "runs:claim"]})["key"]

    space = {"X-Workspace-ID": api.session.headers["X-Workspace-ID"]}
    keys = [(f"{'x' * (n % 7)}k{n}", key(n)) for n in range(60)]

    def claim(who):
        ref, secret = who
        got = Client(server, secret, space).claim(capabilities=[capability + ref], wait_seconds=20)
        return ref, got[0]["run"]["claimed_by"]["ref"]

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        for _, secret in keys:
            Client(server, secret, space).get("/v1/tasks?limit=1")
        waiting = [pool.submit(claim, who) for who in keys]
        time.sleep(1.5)
        for _, secret in keys:
            Client(server, secret, space).get("/v1/tasks?limit=1")
        for ref, _ in keys:
            api.started(required_capabilities=[capability + ref])
        for answer in waiting:
            ref, claimed_by = answer.result(30)
            assert claimed_by == ref
