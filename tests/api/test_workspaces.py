"""Workspaces are changed and deleted, by who may, with all that is theirs."""
import threading
import time

import pytest
from conftest import Client, number_of, wait_until
from flows import action, command, completed, define, noop


@pytest.fixture
def space(server):
    name = "w-%d" % time.monotonic_ns()
    return Client(server).post("/v1/workspaces", {"name": name, "slug": name})


@pytest.fixture
def admin(server):
    return Client(server)


@pytest.fixture
def inside(server, space):
    return Client(server, headers={"X-Workspace-ID": space["id"]})


def path(space):
    return "/v1/workspaces/" + space["id"]


def delete(api, space, status=204):
    return api.request("DELETE", path(space), status=status)


def ended(api, **fields):
    task = api.task(**fields)
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    return task


def rows(server, workspace):
    """How many rows of each table belong to the workspace."""
    [(number,)] = server.rows("SELECT id FROM name WHERE text = ?", workspace["id"])
    tables = "task run definition approval idempotency key secret".split()
    return {t: server.count(f"{t} WHERE workspace_id = ?", number) for t in tables}


def purged(server, workspace):
    return server.rows("SELECT purged_at FROM workspace WHERE slug = 'deleted:' || (SELECT id FROM name"
                       " WHERE text = ?)", workspace["id"])[0][0]


def events_of(server, task):
    return server.count("event WHERE tree_id = ?", number_of(task["id"]))


def test_name_slug_and_quota_can_be_changed(admin, space):
    patched = admin.request("PATCH", path(space), {"name": "  New  ", "quota_bytes": 4096}, 200).json()
    assert patched == {**space, "name": "New", "quota_bytes": 4096} == admin.get(path(space))
    slug = space["slug"] + "-x"
    assert admin.request("PATCH", path(space), {"slug": slug}, 200).json()["slug"] == slug
    assert admin.get("/v1/workspaces/" + slug)["id"] == space["id"]
    admin.problem("GET", "/v1/workspaces/" + space["slug"], 404, "not_found")
    assert admin.request("PATCH", path(space), {"slug": slug}, 200).json()["slug"] == slug
    assert admin.request("PATCH", path(space), {}, 200).json()["name"] == "New"


@pytest.mark.parametrize("body, status, code", [
    ({"name": ""}, 400, "validation_failed"), ({"name": "   "}, 400, "validation_failed"),
    ({"name": "x" * 201}, 413, "payload_too_large"), ({"slug": "Not-Lower"}, 400, "validation_failed"),
    ({"slug": ""}, 400, "validation_failed"), ({"quota_bytes": 0}, 400, "validation_failed"),
    ({"slug": "default"}, 409, "conflict"), ({"id": "x"}, 400, "immutable_field"),
    ({"created_at": "x"}, 400, "immutable_field"), ({"uid": 1}, 400, "unknown_field")])
def test_a_patch_that_cannot_be_changes_nothing(admin, space, body, status, code):
    problem = admin.problem("PATCH", path(space), status, code, {"name": "other", **body})
    assert problem["field"] in body
    assert admin.get(path(space)) == space


def test_the_default_and_the_system_workspace_stay(admin):
    default, system = admin.get("/v1/workspaces/default"), "/v1/workspaces/00000000-0000-0000-0000-000000000000"
    admin.problem("PATCH", path(default), 409, "conflict", {"slug": "other"})
    admin.problem("DELETE", path(default), 409, "conflict")
    admin.problem("PATCH", system, 409, "conflict", {"name": "other"})
    admin.problem("DELETE", system, 409, "conflict")
    name = admin.request("PATCH", path(default), {"name": "ours", "slug": "default"}, 200).json()["name"]
    assert name == "ours"


def test_a_workspace_with_something_open_is_not_deleted_and_the_answer_says_what(admin, inside, space, capability):
    task = inside.task(draft=True)
    detail = admin.problem("DELETE", path(space), 409, "conflict")["detail"]
    assert "not ended: 1, open runs: 0" in detail
    inside.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    claim = inside.claimed(capability)
    detail = admin.problem("DELETE", path(space), 409, "conflict")["detail"]
    assert "not ended: 1, open runs: 1" in detail
    inside.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    delete(admin, space)


def test_a_deleted_workspace_is_as_one_that_never_was(server, admin, inside, space):
    run = completed(inside, noop(1))
    task = ended(inside)
    inside.request("PUT", "/v1/secrets/TOKEN", {"value": "a secret text"}, 204)
    headers = {"Idempotency-Key": "k"}
    inside.request("POST", "/v1/tasks", {"title": "kept answer", "draft": True}, 201, headers=headers)
    draft = inside.get("/v1/tasks?include_drafts=1")["items"][0]
    inside.request("DELETE", "/v1/tasks/" + draft["id"], status=204)
    bound = Client(server, inside.key_for(workspace_id=space["id"])["key"])
    bound.get("/v1/tasks")
    assert all(rows(server, space)[t] for t in "task run definition idempotency key secret".split())
    delete(admin, space)
    for call in (lambda: admin.problem("GET", path(space), 404, "not_found"),
                 lambda: admin.problem("GET", "/v1/workspaces/" + space["slug"], 404, "not_found"),
                 lambda: admin.problem("DELETE", path(space), 404, "not_found"),
                 lambda: inside.problem("GET", "/v1/tasks", 404, "not_found"),
                 lambda: inside.problem("POST", "/v1/tasks", 404, "not_found", {"title": "x"}),
                 lambda: bound.problem("GET", "/v1/tasks", 401, "unauthenticated"),
                 lambda: admin.problem("GET", "/v1/tasks/" + task["id"], 404, "not_found"),
                 lambda: admin.problem("GET", "/v1/runs/" + run["id"], 404, "not_found")):
        call()
    assert space["id"] not in [w["id"] for w in admin.get("/v1/workspaces")["items"]]
    wait_until(lambda: not any(rows(server, space).values()))
    assert events_of(server, task) == 0
    again = admin.post("/v1/workspaces", {"name": "again", "slug": space["slug"]})
    assert again["id"] != space["id"]
    assert Client(server, headers={"X-Workspace-ID": again["id"]}).get("/v1/tasks?include_drafts=1")["items"] == []
    uids = [uid for (uid,) in server.rows("SELECT uid FROM workspace WHERE uid > 0")]
    assert len(uids) == len(set(uids))


def test_trees_and_dependencies_go_and_a_global_task_above_keeps_its_history(server, admin, inside, space):
    above = admin.task(scope="global")
    below = inside.post(f"/v1/tasks/{above['id']}/children", {"title": "below"})
    root = inside.task()
    child = inside.post(f"/v1/tasks/{root['id']}/children", {"title": "child"})
    first = inside.task()
    inside.post(f"/v1/tasks/{child['id']}/dependencies", {"depends_on_task_id": first["id"]})
    for task in (below, root, first):
        inside.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    delete(admin, space)
    wait_until(lambda: not any(rows(server, space).values()))
    assert [events_of(server, t) for t in (root, first)] == [0, 0]
    left = admin.get("/v1/tasks/" + above["id"])
    assert left["children"] == []
    types = [e["type"] for e in admin.get(f"/v1/tasks/{above['id']}/timeline")["items"]]
    assert "task.child_created" in types
    admin.request("DELETE", "/v1/tasks/" + above["id"], status=204)


def test_who_is_bound_to_a_workspace_neither_changes_nor_deletes_it_and_sees_no_other(server, admin, space):
    scopes = ["admin", "tasks:read", "tasks:write"]
    own = Client(server, admin.key_for(workspace_id=space["id"], scopes=scopes)["key"])
    own.problem("PATCH", path(space), 403, "permission_denied", {"quota_bytes": 1 << 40})
    own.problem("DELETE", path(space), 403, "permission_denied")
    other = admin.get("/v1/workspaces/default")
    missing = "/v1/workspaces/00000000-0000-4000-8000-000000000000"
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        foreign = own.problem(method, path(other), 404, "not_found", body)
        none = own.problem(method, missing, 404, "not_found", body)
        foreign.pop("instance"), none.pop("instance")
        assert foreign == none
    weak = Client(server, admin.key_for()["key"])
    weak.problem("DELETE", path(space), 403, "permission_denied")
    assert admin.get(path(space)) == space


def test_a_large_workspace_goes_in_pieces_and_a_restart_does_not_stop_it(own_server):
    admin = Client(own_server)
    space = admin.post("/v1/workspaces", {"name": "large"})
    inside = Client(own_server, headers={"X-Workspace-ID": space["id"]})
    define(inside, noop(1))
    root = inside.task()
    for _ in range(3):
        inside.post("/v1/tasks/batch", {"items": [{"title": "t", "start": True} for _ in range(1000)]}, 200)
    claims = []
    while page := inside.claim(max=100):
        claims += page
    for at in range(0, len(claims), 100):
        items = [{"run_id": c["run"]["id"], "claim_token": c["claim_token"]} for c in claims[at:at + 100]]
        inside.post("/v1/runs/complete", {"items": items}, 200)
    inside.post(f"/v1/tasks/{root['id']}/cancel", {}, 200)
    delete(admin, space)
    left = rows(own_server, space)
    assert left["task"] > 2000 and left["key"] == 0
    own_server.kill()
    own_server.start()
    admin = Client(own_server)
    admin.problem("GET", path(space), 404, "not_found")
    wait_until(lambda: rows(own_server, space)["task"] < left["task"])
    assert admin.started()["run"]["status"] == "queued"  # the others are served meanwhile
    wait_until(lambda: not any(rows(own_server, space).values()), 60)
    assert events_of(own_server, root) == 0


def test_the_files_of_a_deleted_workspace_are_removed(server, admin, inside, space):
    root = server.data / "workspaces" / space["id"]
    completed(inside, action("write_file", path="artifacts/a.txt", content="text"),
              command("mkdir -p tasks/closed/below && touch tasks/closed/below/x && ln -s / tasks/away && chmod 0 tasks/closed"))
    assert (root / "artifacts" / "a.txt").read_text() == "text"
    delete(admin, space)
    wait_until(lambda: not list(root.iterdir()), 30)
    assert server.process.poll() is None and (server.data / "baton.db").exists()


def test_requests_that_race_with_the_deletion_leave_nothing_behind(server, admin, space):
    key = admin.key_for(workspace_id=space["id"])["key"]

    def work():
        bound = Client(server, key)
        while (made := bound.request("POST", "/v1/tasks", {"title": "t", "start": True})).status_code == 201:
            bound.request("POST", f"/v1/tasks/{made.json()['task']['id']}/cancel", {})
        refusals.append(made.status_code)

    refusals, threads = [], [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: admin.request("DELETE", path(space)).status_code == 204, 30, every=0)
    for thread in threads:
        thread.join()
    assert refusals == [401] * 4
    wait_until(lambda: purged(server, space), 30)
    assert not any(rows(server, space).values())
