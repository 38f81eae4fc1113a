"""Pauses of tasks: inherited, honoured on every path to execution."""
from test_graph import child, depend, do, doer, events


def pause(api, task, status=200):
    return api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "lunch"}, status)


def resume(api, task):
    return api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)


def test_a_pause_needs_a_reason_and_a_task_that_has_not_ended(api):
    task = api.task()
    for body in ({}, {"reason": "  "}):
        api.problem("POST", f"/v1/tasks/{task['id']}/pause", 422, "reason_required", body)
    shown = pause(api, task)
    assert shown["paused"] and shown["paused_reason"] == "lunch" and shown["paused_at"]
    assert shown["paused_by"] == {"kind": "human", "ref": "admin"}
    assert pause(api, task)["latest_sequence"] == shown["latest_sequence"]
    shown = resume(api, task)
    assert not shown["paused"] and "paused_reason" not in shown
    assert events(api, task) == ["task.created", "task.paused", "task.resumed"]
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    problem = api.problem("POST", f"/v1/tasks/{task['id']}/pause", 409, "invalid_transition", {"reason": "x"})
    assert problem["diagnostic"] == "task_run_already_terminal"


def test_given_a_paused_parent_two_levels_up_when_claiming_then_nothing_until_it_is_resumed(api):
    root = api.task()
    run = child(api, child(api, root), start=True)["run"]
    pause(api, root)
    assert api.claim() == []
    api.problem("POST", f"/v1/runs/{run['id']}/claim", 409, "invalid_transition", {})
    shown = api.get("/v1/tasks/" + run["task_id"])
    assert not shown["paused"] and shown["effective_paused"]
    assert shown["paused_by_task_id"] == root["id"]
    reason = api.get(f"/v1/runs/{run['id']}/explain")["reasons"][0]
    assert reason["code"] == "paused" and reason["resource"] == root["id"]
    resume(api, root)
    assert api.claim()[0]["run"]["id"] == run["id"]


def test_resuming_a_parent_leaves_a_child_that_was_paused_itself(api):
    root = api.task()
    below = child(api, root, start=True)
    pause(api, root)
    pause(api, below["task"])
    resume(api, root)
    assert api.claim() == []
    assert api.get("/v1/tasks/" + below["task"]["id"])["paused_by_task_id"] == below["task"]["id"]
    resume(api, below["task"])
    assert api.claim()[0]["run"]["id"] == below["run"]["id"]


def test_what_is_started_created_or_given_back_while_paused_waits(api, capability):
    root = doer(api, capability, 1)
    api.post(f"/v1/tasks/{root['id']}/start")
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    pause(api, root)
    api.post(f"/v1/runs/{claim['run']['id']}/release", {"claim_token": claim["claim_token"]}, 200)
    child(api, root, start=True, required_capabilities=[f"{capability}-1"])
    assert api.claim(capabilities=[f"{capability}-1"], max=5) == []
    resume(api, root)
    assert len(api.claim(capabilities=[f"{capability}-1"], max=5)) == 2


def test_work_under_way_goes_on_while_its_task_is_paused(api, capability):
    claim = api.claimed(capability)
    pause(api, claim["task"])
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    assert api.get("/v1/tasks/" + claim["task"]["id"])["status"] == "completed"


def test_what_becomes_ready_while_it_is_paused_has_a_run_that_waits_for_the_resume(api, capability):
    mine = capability + "-mine"
    first = doer(api, capability, 1)
    done, removed = (api.task(auto_enqueue_on_ready=True, required_capabilities=[mine]) for _ in range(2))
    for task in done, removed:
        depend(api, task, first)
        pause(api, task)
    api.request("DELETE", f"/v1/tasks/{removed['id']}/dependencies/{first['id']}", status=200)
    do(api, capability, 1, first)
    for task in done, removed:
        assert [r["status"] for r in api.get(f"/v1/tasks/{task['id']}/runs")["items"]] == ["queued"]
        assert api.claim(capabilities=[mine]) == []
        resume(api, task)
        assert [c["task"]["id"] for c in api.claim(capabilities=[mine])] == [task["id"]]


def test_a_pause_and_a_resume_alone_enqueue_nothing(api, capability):
    first = doer(api, capability, 1)
    do(api, capability, 1, first)
    task = api.task(auto_enqueue_on_ready=True)
    depend(api, task, first)
    before = api.get(f"/v1/tasks/{task['id']}/runs")["items"]
    pause(api, task)
    resume(api, task)
    assert api.get(f"/v1/tasks/{task['id']}/runs")["items"] == before


def test_a_waiting_claim_gets_the_run_that_a_resume_sets_free(api, capability):
    from threading import Thread
    made = api.started(required_capabilities=[capability])
    pause(api, made["task"])
    got, other = [], api.again()
    waiter = Thread(target=lambda: got.extend(other.claim(capabilities=[capability], wait_seconds=10)))
    waiter.start()
    resume(api, made["task"])
    waiter.join()
    assert [c["run"]["id"] for c in got] == [made["run"]["id"]]
