"""Corners of the task domain that the model-based test (tests/model) has found."""
from conftest import Client
from test_graph import doer, patch
from test_runs import holder


def test_a_session_of_the_same_name_in_another_workspace_does_not_stand_in_the_way(api, server):
    here, there = (Client(server, headers={"X-Workspace-ID": api.post("/v1/workspaces", {"name": n})["id"]}) for n in "ab")
    for one in here, there:
        run = one.started()["run"]
        assert one.claim(session_id="s")[0]["run"]["id"] == run["id"]
        again = one.started()["run"]["id"]
        for path in "/v1/runs/claim", f"/v1/runs/{again}/claim":
            one.problem("POST", path, 409, "active_lease_exists", {"session_id": "s"})


def test_an_approval_that_starts_nothing_answers_without_a_run(api, capability):
    """The task has ended meanwhile, or has no attempt left."""
    ended, spent = doer(api, capability, 1), api.task(approval_policy="manual", max_attempts=1)
    api.post(f"/v1/tasks/{ended['id']}/start")
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    patch(api, ended, {"approval_policy": "manual"})
    api.post(f"/v1/runs/{claim['run']['id']}/complete", holder(claim), 200)
    run = api.post(f"/v1/tasks/{spent['id']}/runs")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    for task, now in (ended, "completed"), (spent, "ready"):
        made = api.post(f"/v1/tasks/{task['id']}/approve")
        assert made["task"]["status"] == now and "run" not in made and made["existing_run"] is False
        assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == 1



def test_a_canceled_task_asks_for_no_approval_any_more(api):
    task = api.task()
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    assert patch(api, task, {"approval_policy": "manual"})["status"] == "canceled"
    assert api.get("/v1/approvals")["items"] == []
    for verb in "approve", "reject":
        api.problem("POST", f"/v1/tasks/{task['id']}/{verb}", 409, "invalid_transition", {})
