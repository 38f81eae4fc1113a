"""What the events of tasks say: the members that the contract names, and no more."""
from conftest import Client

SYSTEM = "00000000-0000-0000-0000-000000000000"


def told(api, task, kind):
    """Payloads of the task's own events of that kind, oldest first."""
    items = api.get(f"/v1/tasks/{task['id']}/timeline?limit=500&event_type={kind}")["items"]
    return [e["payload"] for e in items if e["task_id"] == task["id"]]


def test_a_created_task_says_where_it_is_and_whose(api):
    space = api.session.headers["X-Workspace-ID"]
    plain = api.task()
    assert told(api, plain, "task.created") == [{"scope": "workspace", "workspace_id": space, "status": "ready"}]
    owner = {"kind": "human", "ref": 'O\'Neil "the quoted"'}
    child = api.post(f"/v1/tasks/{plain['id']}/children", {"title": "c", "owner": owner, "network_channel": "red",
                                                           "approval_policy": "manual"})
    assert told(api, child, "task.created") == [
        {"scope": "workspace", "workspace_id": space, "parent_task_id": plain["id"], "status": "blocked",
         "network_channel": "red", "owner": owner}]
    assert told(api, plain, "task.child_created") == [
        {"child_task_id": child["id"], "child_scope": "workspace", "child_workspace_id": space}]
    assert told(api, api.task(draft=True), "task.created")[0]["status"] == "draft"
    world = Client(api.server).task(scope="global")
    assert told(api, world, "task.created")[0] == {"scope": "global", "workspace_id": SYSTEM, "status": "ready"}


def test_an_updated_task_says_what_was_changed_and_its_status_then(api, capability):
    task = api.task(required_capabilities=[capability])
    patch = lambda **fields: api.request("PATCH", "/v1/tasks/" + task["id"], fields, 200).json()
    patch(title="new", priority="high")
    assert patch(approval_policy="manual")["status"] == "blocked"
    patch(max_attempts=1, approval_policy="none")
    api.post(f"/v1/tasks/{task['id']}/start")
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/start", {"claim_token": claim["claim_token"]}, 200)
    patch(title="newer")
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "x"}, 200)
    assert patch(max_attempts=2)["status"] == "ready"
    assert [(p["changed_fields"], p["status"]) for p in told(api, task, "task.updated")] == [
        (["title", "priority"], "ready"), (["approval_policy"], "blocked"), (["max_attempts", "approval_policy"], "ready"),
        (["title"], "in_progress"), (["max_attempts"], "ready")]


def test_publication_and_decisions_say_what_they_made_of_the_task(api):
    draft = api.task(draft=True)
    api.post(f"/v1/tasks/{draft['id']}/publish", {}, 200)
    assert told(api, draft, "task.published") == [
        {"previous_status": "draft", "status": "ready", "approval_state": "not_required"}]
    for verb, state, status, code in (("approve", "approved", "ready", 201), ("reject", "rejected", "blocked", 200)):
        task = api.task(approval_policy="manual")
        api.post(f"/v1/tasks/{task['id']}/{verb}", {}, code)
        assert told(api, task, "task." + state) == [
            {"previous_approval_state": "pending", "approval_state": state, "status": status}]


def test_a_canceled_task_names_the_runs_that_ended_with_it(api, capability):
    root = api.started(required_capabilities=[capability])
    child = api.post(f"/v1/tasks/{root['task']['id']}/children", {"title": "c", "start": True})
    idle = api.post(f"/v1/tasks/{root['task']['id']}/children", {"title": "idle"})
    api.post(f"/v1/tasks/{root['task']['id']}/cancel", {"reason": "enough", "metadata": {"ticket": 1}}, 200)
    said = {"detail": "enough", "metadata": {"ticket": 1}, "status": "canceled"}
    below = {**said, "reason": "parent_cascade", "propagated_from_task_id": root["task"]["id"]}
    assert told(api, root["task"], "task.canceled") == [{**said, "reason": "direct", "canceled_run_ids": [root["run"]["id"]]}]
    assert told(api, child["task"], "task.canceled") == [{**below, "canceled_run_ids": [child["run"]["id"]]}]
    assert told(api, idle, "task.canceled") == [below]


def test_pauses_say_how_it_was_before(api):
    task = api.task()
    api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "later", "metadata": {"n": 1}}, 200)
    api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)
    assert told(api, task, "task.paused") == [
        {"manual": True, "previous_paused": False, "paused": True, "reason": "later", "metadata": {"n": 1}}]
    assert told(api, task, "task.resumed") == [{"manual": True, "previous_paused": True, "paused": False}]


def test_a_retry_names_the_run_that_is_tried_again(api, capability):
    claim = api.claimed(capability)
    run = f"/v1/runs/{claim['run']['id']}"
    api.post(run + "/fail", {"claim_token": claim["claim_token"], "error": "x"}, 200)
    api.post(run + "/retry")
    assert told(api, claim["task"], "run.operator_retry") == [{"manual": True, "source_run_id": claim["run"]["id"]}]
