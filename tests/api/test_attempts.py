"""Runs of a task: keys, the one open run, attempts."""
from test_graph import at_once, do, doer, patch, status


def keyed(api, task, key, body=None):
    return api.request("POST", f"/v1/tasks/{task['id']}/runs", body or {}, headers={"Idempotency-Key": key})


def test_given_the_same_enqueue_key_sent_twice_at_once_then_one_run_and_one_event(api):
    task, other = api.task(), api.again()
    a, b = at_once(lambda: keyed(api, task, "k"), lambda: keyed(other, task, "k"))
    assert a.status_code == b.status_code == 201 and a.json() == b.json()
    events = api.get(f"/v1/tasks/{task['id']}/timeline?event_type=run.queued")["items"]
    assert len(events) == 1


def test_given_a_key_used_for_task_a_when_used_for_task_b_then_it_is_another_request(api):
    """The source answers 400; here a key belongs to one request and the answer is 422."""
    assert keyed(api, api.task(), "k").status_code == 201
    answer = keyed(api, api.task(), "k")
    assert answer.status_code == 422 and answer.json()["code"] == "idempotency_mismatch"


def test_an_agent_without_a_key_may_enqueue(api, server):
    """The source wants one of every actor that is no human; here it is optional for everybody."""
    from conftest import Client
    agent = Client(server, api.key_for(workspace_id=api.session.headers["X-Workspace-ID"])["key"])
    assert agent.post(f"/v1/tasks/{agent.task()['id']}/runs")["status"] == "queued"


def test_given_an_open_run_in_any_state_when_enqueuing_with_a_new_key_then_409(api, capability):
    task = doer(api, capability, 1)
    run = api.post(f"/v1/tasks/{task['id']}/runs")
    assert keyed(api, task, "queued").status_code == 409
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    assert keyed(api, task, "claimed").status_code == 409
    api.post(f"/v1/runs/{run['id']}/start", {"claim_token": claim["claim_token"]}, 200)
    assert keyed(api, task, "running").status_code == 409


def test_a_run_may_have_a_channel_of_its_own_and_keeps_it_when_the_task_changes(api):
    task = api.task(network_channel="red")
    run = api.post(f"/v1/tasks/{task['id']}/runs", {"network_channel": "blue"})
    assert run["network_channel"] == "blue"
    patch(api, task, {"priority": "high"})
    assert api.claim(channel="red") == []
    assert api.claim(channel="blue")[0]["run"]["id"] == run["id"]
    api.problem("POST", f"/v1/tasks/{api.task()['id']}/runs", 400, "validation_failed",
                {"network_channel": "No"})


def test_given_max_attempts_2_and_two_failed_runs_then_failed_until_the_bound_is_raised(api, capability):
    task = doer(api, capability, 1, max_attempts=2)
    do(api, capability, 1, task, "fail")
    shown = api.get("/v1/tasks/" + task["id"])
    assert shown["status"] == "ready" and "closed_at" not in shown
    do(api, capability, 1, task, "fail")
    assert status(api, task) == "failed"
    assert keyed(api, task, "third").status_code == 409
    assert patch(api, task, {"max_attempts": 3})["status"] == "ready"


def test_given_start_replayed_with_its_key_after_the_run_failed_then_the_old_answer_comes_back(api, capability):
    task = doer(api, capability, 1)
    options = {"headers": {"Idempotency-Key": "once"}}
    first = api.post(f"/v1/tasks/{task['id']}/start", **options)
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "no"}, 200)
    assert api.post(f"/v1/tasks/{task['id']}/start", **options) == first
    assert api.post(f"/v1/tasks/{task['id']}/start")["run"]["attempt"] == 2


def failed(api, task, capability):
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "no"}, 200)
    return claim["run"]["id"]


def test_an_older_failed_run_is_tried_again_unless_it_was_already(api, capability):
    task = api.task(max_attempts=5, required_capabilities=[capability])
    runs = []
    for _ in range(2):
        api.post(f"/v1/tasks/{task['id']}/start")
        runs.append(failed(api, task, capability))
    both = api.post(f"/v1/runs/{runs[0]}/retry")
    assert both["previous_run"]["id"] == runs[0] == both["run"]["previous_run_id"] and both["run"]["attempt"] == 3
    api.problem("POST", f"/v1/runs/{runs[1]}/retry", 409, "invalid_transition", {})  # another is open
    failed(api, task, capability)
    problem = api.problem("POST", f"/v1/runs/{runs[0]}/retry", 409, "invalid_transition", {})
    assert both["run"]["id"] in problem["detail"]
    assert api.post(f"/v1/runs/{runs[1]}/retry")["run"]["attempt"] == 4
