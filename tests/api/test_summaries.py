"""What lists and GET one add to a task: its run under way, its last activity, its surroundings."""
import datetime
import time

from conftest import Client
from test_graph import child, depend


def seconds(time):
    return datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


def listed(api, task):
    return next(t for t in api.get("/v1/tasks")["items"] if t["id"] == task["id"])


def newest_event(api, task):
    return api.get(f"/v1/tasks/{task['id']}/timeline?descending=1&limit=1")["items"][0]


def test_a_list_shows_the_run_under_way_in_short(api):
    made = api.started()
    assert "active_run" not in listed(api, made["task"])  # it only waits
    claim = api.claim()[0]
    shown, same = listed(api, made["task"])["active_run"], api.get("/v1/tasks/" + made["task"]["id"])["active_run"]
    assert {**shown, "lease_until": ""} == {**same, "lease_until": ""}  # the lease clock, shown by the wall's
    assert shown["id"] == made["run"]["id"] and shown["task_id"] == made["task"]["id"]
    assert shown["status"] == "claimed" and shown["attempt"] == 1 and shown["executor"] == "agent"
    assert shown["claimed_by"] == {"kind": "human", "ref": "admin"}
    assert shown["progress_at"] == shown["claimed_at"] and "started_at" not in shown and "title" not in shown
    assert abs(seconds(shown["lease_until"]) - seconds(claim["lease_until"])) < 1
    token = {"claim_token": claim["claim_token"]}
    api.post(f"/v1/runs/{shown['id']}/start", token, 200)
    assert listed(api, made["task"])["active_run"]["started_at"]
    api.post(f"/v1/runs/{shown['id']}/complete", {**token, "result": {}}, 200)
    assert "active_run" not in listed(api, made["task"])


def test_the_last_activity_is_the_newest_event_of_the_task_and_its_runs(api):
    task = api.task()
    steps = [lambda: api.post(f"/v1/tasks/{task['id']}/start"),
             lambda: api.claim()[0]]
    for step in steps:
        step()
        assert listed(api, task)["last_activity_at"] == newest_event(api, task)["timestamp"]
    run = api.get("/v1/tasks/" + task["id"])["active_run"]["id"]
    api.post(f"/v1/runs/{run}/cancel", {}, 200)
    assert api.get("/v1/tasks/" + task["id"])["last_activity_at"] == newest_event(api, task)["timestamp"]


def test_activity_below_a_task_is_not_its_own(api):
    root = api.task()
    first, second = child(api, root), child(api, root)
    before = {t["id"]: t["last_activity_at"] for t in api.get(f"/v1/tasks/{root['id']}/tree")["items"]}
    assert before[root["id"]] == second["created_at"]  # task.child_created
    api.post(f"/v1/tasks/{first['id']}/start")
    after = {t["id"]: t["last_activity_at"] for t in api.get(f"/v1/tasks/{root['id']}/tree")["items"]}
    assert after[first["id"]] > before[first["id"]]
    assert after[root["id"]] == before[root["id"]] and after[second["id"]] == before[second["id"]]


def test_a_root_whose_tree_is_very_busy_has_at_least_its_last_change(api):
    root = api.task()
    below = child(api, root)
    for i in range(201):
        api.request("PATCH", "/v1/tasks/" + below["id"], {"title": f"title {i}"}, 200)
    assert listed(api, root)["last_activity_at"] == root["updated_at"]
    api.request("PATCH", "/v1/tasks/" + root["id"], {"title": "new"}, 200)
    assert listed(api, root)["last_activity_at"] == newest_event(api, root)["timestamp"]


def test_get_one_tells_children_dependencies_the_latest_runs_and_the_newest_event(api):
    task, first = api.task(max_attempts=10), api.task()
    shown = api.get("/v1/tasks/" + task["id"])
    assert shown["children"] == shown["dependencies"] == shown["runs"] == [] and shown["latest_sequence"] == 1
    below = child(api, task)
    grandchild = child(api, below)
    depend(api, task, first)
    runs = []
    for _ in range(3):
        runs.insert(0, api.post(f"/v1/tasks/{task['id']}/runs")["id"])
        api.post(f"/v1/runs/{runs[0]}/cancel", {}, 200)
    shown = api.get("/v1/tasks/" + task["id"])
    assert [t["id"] for t in shown["children"]] == [below["id"]]
    assert shown["children"][0]["child_count"] == 1 and shown["children"][0]["last_activity_at"]
    assert [(d["depends_on_task_id"], d["status"], d["met"]) for d in shown["dependencies"]] == [(first["id"], "ready", False)]
    assert [r["id"] for r in shown["runs"]] == runs
    assert shown["latest_sequence"] == newest_event(api, task)["sequence"]
    assert api.get("/v1/tasks/" + grandchild["id"])["latest_sequence"] == shown["latest_sequence"]


def test_a_page_costs_the_same_in_a_large_workspace(api, server):
    """Of a list and of the inbox; before, a list sorted all tasks of the workspace."""
    small = api
    space = Client(server).post("/v1/workspaces", {"name": "w", "slug": "w-%d" % time.monotonic_ns()})
    large = Client(server, headers={"X-Workspace-ID": space["id"]})
    for target, n in ((small, 1), (large, 20)):
        for _ in range(n):
            target.post("/v1/tasks/batch", {"items": [{"title": "t", "approval_policy": "manual"}] * 1000}, 200)
    server.analyze()

    def shortest(client, path):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            assert len(client.get(path)["items"]) == 50
            times.append(time.perf_counter() - began)
        return min(times)

    for path in ("/v1/tasks", "/v1/tasks?priority=medium", "/v1/inbox"):
        assert shortest(large, path) < 4 * shortest(small, path), path
