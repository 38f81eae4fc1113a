"""Drafts, and tasks that a person must approve before they run."""
from conftest import Client
from test_graph import at_once, child, depend, events, patch, status


def test_a_draft_is_hidden_does_not_run_and_is_published_into_the_queue(api):
    draft = api.task(draft=True)
    assert draft["status"] == "draft" and draft["draft"]
    assert api.get("/v1/tasks")["items"] == []
    assert [t["id"] for t in api.get("/v1/tasks?include_drafts=1")["items"]] == [draft["id"]]
    for path in ("start", "runs"):
        api.problem("POST", f"/v1/tasks/{draft['id']}/{path}", 409, "invalid_transition", {})
    made = api.post(f"/v1/tasks/{draft['id']}/publish", {}, 200)
    assert made["action"] == "publish" and made["existing_run"] is False
    assert made["task"]["status"] == "ready" and made["run"]["status"] == "queued"
    assert events(api, draft)[1:] == ["task.published", "run.queued", "task.status_changed"]
    api.problem("POST", f"/v1/tasks/{draft['id']}/publish", 409, "invalid_transition", {})
    api.problem("POST", "/v1/tasks", 400, "validation_failed",
                {"title": "x", "draft": True, "start": True})


def test_given_a_draft_with_an_unfinished_dependency_when_published_then_409_and_still_draft(api):
    draft = api.task(draft=True)
    depend(api, draft, api.task())
    api.problem("POST", f"/v1/tasks/{draft['id']}/publish", 409, "invalid_transition", {})
    assert status(api, draft) == "draft"


def test_publish_start_and_approve_sent_again_with_their_key_answer_the_same(api):
    tasks = {"publish": api.task(draft=True), "start": api.task(),
             "approve": api.task(approval_policy="manual")}
    for action, task in tasks.items():
        answers = [api.request("POST", f"/v1/tasks/{task['id']}/{action}", {},
                               200 if action == "publish" else 201,
                               headers={"Idempotency-Key": action}) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == 1


def test_given_manual_approval_when_started_then_409_and_after_approve_a_run_exists(api):
    """Approving again is a conflict here: only the same Idempotency-Key gets the run once more."""
    task = api.task(approval_policy="manual")
    assert task["status"] == "blocked" and task["approval_state"] == "pending"
    api.problem("POST", f"/v1/tasks/{task['id']}/start", 409, "invalid_transition", {})
    made = api.post(f"/v1/tasks/{task['id']}/approve", {"comment": "go"})
    assert made["task"]["approval_state"] == "approved" and made["task"]["status"] == "ready"
    assert made["run"]["status"] == "queued" and made["existing_run"] is False
    api.problem("POST", f"/v1/tasks/{task['id']}/approve", 409, "already_decided", {})
    assert "task.approved" in events(api, task)
    assert [t["id"] for t in api.get("/v1/tasks?approval_state=approved")["items"]] == [task["id"]]


def test_a_rejected_task_stays_blocked_until_its_policy_is_set_again(api):
    task = api.task(approval_policy="manual")
    rejected = api.post(f"/v1/tasks/{task['id']}/reject", {}, 200)
    assert rejected["status"] == "blocked" and rejected["approval_state"] == "rejected"
    api.problem("POST", f"/v1/tasks/{task['id']}/approve", 409, "already_decided", {})
    assert patch(api, task, {"approval_policy": "manual"})["approval_state"] == "pending"
    assert api.post(f"/v1/tasks/{task['id']}/approve")["task"]["status"] == "ready"
    free = api.task(approval_policy="manual")
    assert patch(api, free, {"approval_policy": "none"})["status"] == "ready"
    api.problem("POST", f"/v1/tasks/{free['id']}/approve", 409, "invalid_transition", {})


def test_a_run_that_waits_for_approval_says_so_and_is_the_one_that_approval_gives(api):
    task = api.task(approval_policy="manual")
    run = api.post(f"/v1/tasks/{task['id']}/runs")
    assert api.claim() == []
    assert api.get(f"/v1/runs/{run['id']}/explain")["reasons"][0]["code"] == "awaiting_approval"
    made = api.post(f"/v1/tasks/{task['id']}/approve")
    assert made["existing_run"] is True and made["run"]["id"] == run["id"]
    assert api.claim()[0]["run"]["id"] == run["id"]


def test_an_approved_draft_is_not_run_and_an_approved_task_still_waits_for_its_dependencies(api):
    draft = api.task(draft=True, approval_policy="manual")
    api.problem("POST", f"/v1/tasks/{draft['id']}/publish", 409, "invalid_transition", {})
    made = api.post(f"/v1/tasks/{draft['id']}/approve")
    assert made["task"]["status"] == "draft" and "run" not in made
    api.post(f"/v1/tasks/{draft['id']}/publish", {}, 200)
    task = api.task(approval_policy="manual")
    depend(api, task, api.task())
    made = api.post(f"/v1/tasks/{task['id']}/approve")
    assert made["task"]["status"] == "blocked" and made["run"]["status"] == "queued"
    api.post(f"/v1/runs/{made['run']['id']}/cancel", {}, 200)


def test_tasks_and_steps_are_decided_in_one_place(api):
    task = api.task(approval_policy="manual")
    approval = api.get("/v1/approvals?status=pending")["items"][0]
    assert approval["task_id"] == task["id"] and "run_id" not in approval
    decided = api.post(f"/v1/approvals/{approval['id']}/decide", {"decision": "approve"}, 200)
    assert decided["status"] == "approved"
    assert api.get("/v1/tasks/" + task["id"])["approval_state"] == "approved"
    assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == 1
    other = api.task(approval_policy="manual")
    api.post(f"/v1/tasks/{other['id']}/cancel", {}, 200)
    states = {a["task_id"]: a["status"] for a in api.get("/v1/approvals")["items"]}
    assert states[other["id"]] == "canceled"
    api.problem("POST", f"/v1/tasks/{other['id']}/approve", 409, "invalid_transition", {})


def test_an_agent_cannot_approve_the_task_that_it_created(api, server):
    key = api.key_for(workspace_id=api.session.headers["X-Workspace-ID"],
                      scopes=["tasks:read", "tasks:write", "tasks:approve"])
    agent = Client(server, key["key"])
    task = agent.task(approval_policy="manual")
    agent.problem("POST", f"/v1/tasks/{task['id']}/approve", 403, "self_approval_denied", {})
    assert status(api, task) == "blocked"
    assert api.post(f"/v1/tasks/{task['id']}/approve")["run"]


def test_of_two_approvers_at_once_one_decides(api):
    for _ in range(20):
        task, other = api.task(approval_policy="manual"), api.again()
        answers = at_once(lambda: api.request("POST", f"/v1/tasks/{task['id']}/approve", {}),
                          lambda: other.request("POST", f"/v1/tasks/{task['id']}/reject", {}))
        assert sorted(r.status_code for r in answers)[1] == 409
        assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == (answers[0].status_code == 201)


def test_a_draft_below_a_canceled_task_is_canceled_with_it(api):
    root = api.task()
    draft = child(api, root, draft=True)
    api.post(f"/v1/tasks/{root['id']}/cancel", {}, 200)
    assert status(api, draft) == "canceled"


def test_a_completed_task_that_is_approved_again_has_a_further_run(api, capability):
    task = api.task(required_capabilities=[capability])
    for attempt in 1, 2:
        if attempt == 1:
            api.post(f"/v1/tasks/{task['id']}/start")
        claim = api.claim(capabilities=[capability])[0]
        assert claim["run"]["attempt"] == attempt
        api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
        if attempt == 1:
            api.request("PATCH", "/v1/tasks/" + task["id"], {"approval_policy": "manual"}, 200)
            made = api.post(f"/v1/tasks/{task['id']}/approve")
            assert made["task"]["status"] == "ready" and made["existing_run"] is False
