"""Corners of the task domain that the model-based test (tests/model) has found."""
from conftest import Client
from test_graph import child, depend, do, doer, patch, status
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
    """No attempt is left, whether the task has completed meanwhile or not."""
    ended, spent = doer(api, capability, 1), api.task(approval_policy="manual", max_attempts=1)
    api.post(f"/v1/tasks/{ended['id']}/start")
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    patch(api, ended, {"approval_policy": "manual", "max_attempts": 1})
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


def test_below_a_canceled_task_nothing_is_started_by_itself(api, capability):
    """What failed there may become ready or approved, but only ancestors that live have work done below them."""
    root = api.task()
    below = [child(api, root, max_attempts=1, auto_enqueue_on_ready=True, required_capabilities=[f"{capability}-{n}"])
             for n in (1, 2)]
    for n, task in enumerate(below, 1):
        do(api, capability, n, task, "fail")
    api.post(f"/v1/tasks/{root['id']}/cancel", {}, 200)
    freed, approved = below
    first = api.task()
    depend(api, freed, first)
    assert patch(api, freed, {"max_attempts": 2})["status"] == "blocked"
    api.request("DELETE", f"/v1/tasks/{freed['id']}/dependencies/{first['id']}", status=200)
    assert patch(api, approved, {"max_attempts": 2, "approval_policy": "manual"})["status"] == "blocked"
    assert "run" not in api.post(f"/v1/tasks/{approved['id']}/approve")
    for task in below:
        assert status(api, task) == "ready"
        assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == 1


def test_a_next_attempt_without_delay_is_there_at_once(api, capability):
    made = api.started(retry={"delay_ms": 0}, required_capabilities=[capability])
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail", holder(claim, error="no"), 200)
    again = api.claim(capabilities=[capability])
    assert [c["run"]["attempt"] for c in again] == [2] and again[0]["task"]["id"] == made["task"]["id"]


def test_what_a_holder_sends_again_with_its_key_is_answered_as_before(api, capability):
    """Without a key only an identical completion is; a heartbeat counts each time."""
    claim = api.claimed(capability)
    path = "/v1/runs/" + claim["run"]["id"]

    def twice(verb, claim, **fields):
        key = {"Idempotency-Key": f"{verb}-{claim['run']['epoch']}"}
        answers = [api.request("POST", f"{path}/{verb}", holder(claim, **fields), 200, headers=dict(key)) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        return answers[0].json()

    twice("start", claim)
    assert twice("release", claim)["status"] == "queued"
    again = api.claim(capabilities=[capability])[0]
    assert twice("release", claim)["epoch"] == 1 and api.get(path)["status"] == "claimed"
    assert twice("fail", again, error="no")["status"] == "failed"
    api.problem("POST", path + "/fail", 409, "invalid_transition", holder(again, error="no"))
    assert len(api.get(f"/v1/tasks/{claim['task']['id']}/runs")["items"]) == 1


def test_the_most_attempts_of_a_retry_policy_bound_what_is_tried_by_itself(api, capability):
    made = api.started(retry={"delay_ms": 0, "max_attempts": 2}, required_capabilities=[capability])
    for _ in range(2):
        claim = api.claim(capabilities=[capability])[0]
        api.post(f"/v1/runs/{claim['run']['id']}/fail", holder(claim, error="no"), 200)
    assert api.claim(capabilities=[capability]) == []
    task = api.get("/v1/tasks/" + made["task"]["id"])
    assert task["status"] == "ready" and len(task["runs"]) == 2
    assert api.post(f"/v1/tasks/{task['id']}/retry")["run"]["attempt"] == 3


def test_a_claim_may_narrow_its_keys_capabilities_to_none(api, server, capability):
    key = api.key_for(workspace_id=api.session.headers["X-Workspace-ID"], capabilities=[capability])
    api.started(required_capabilities=[capability])
    agent = Client(server, key["key"])
    assert agent.claim(capabilities=[]) == []
    assert len(agent.claim()) == 1


def test_a_run_that_is_given_back_is_for_whom_its_task_is_for_by_now(api):
    made, other = api.started(priority="low"), api.started()
    claim = api.post(f"/v1/runs/{made['run']['id']}/claim", {}, 200)["claims"][0]
    patch(api, made["task"], {"owner": {"kind": "pool", "ref": "painters"}, "priority": "urgent"})
    assert api.post(f"/v1/runs/{made['run']['id']}/release", holder(claim), 200)["priority"] == "urgent"
    assert [c["run"]["id"] for c in api.claim(max=5)] == [other["run"]["id"]]
    api.problem("POST", f"/v1/runs/{made['run']['id']}/claim", 403, "permission_denied", {})
    assert [c["run"]["id"] for c in api.claim(agent_name="painters")] == [made["run"]["id"]]
