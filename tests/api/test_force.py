"""Operators' operations on runs: forced release and failure, many at once, retries, and how often an agent may."""
import concurrent.futures
import sqlite3

import pytest
from conftest import Client, Server, wait_until
from flows import (action, approval_of, begun, children_of, command, ended, events_of, found, launch, noop, reaches,
                   run_of, step_is, steps_of, types_of)
from test_runs import holder


def path_of(run, verb):
    return f"/v1/runs/{run['id']}/{verb}"


def force_fail(api, run, reason="it is in the way"):
    return api.post(path_of(run, "force-fail"), {"reason": reason}, 200)


def agent_of(api, ref="agent"):
    """A client that acts as an agent's session in the same workspace."""
    return Client(api.server, api.key_for(ref=ref, workspace_id=api.session.headers["X-Workspace-ID"])["key"])


def stranger_of(api):
    space = Client(api.server).post("/v1/workspaces", {"name": "other", "slug": "other-" + api.task()["id"][-9:]})
    return Client(api.server, api.key_for(workspace_id=space["id"])["key"])


def refused(api, run, verb, diagnostic, **body):
    assert api.problem("POST", path_of(run, verb), 409, "invalid_transition", body)["diagnostic"] == diagnostic


# ---- one run ----

def test_given_a_claimed_run_is_force_released_when_the_old_worker_completes_then_its_token_is_stale(api, capability):
    claim = api.claimed(capability, session_id=capability)
    released = api.post(path_of(claim["run"], "force-release"), {"reason": "silent", "metadata": {"n": 1}}, 200)
    assert released["status"] == "queued" and released["queued_at"] == claim["run"]["queued_at"]
    assert not {"claimed_by", "session_id", "lease_until", "claim_token_hash", "claimed_at"} & set(released)
    for verb in "start", "heartbeat", "complete", "release":
        api.problem("POST", path_of(claim["run"], verb), 409, "stale_claim_token", holder(claim))
    event = events_of(api, claim["run"])[-1]
    assert event["type"] == "run.released" and event["actor"] == {"kind": "human", "ref": "admin"}
    assert event["payload"] == {"manual": True, "previous_status": "claimed", "session_id": capability,
                                "reason": "silent", "metadata": {"n": 1}}
    again = api.claim(capabilities=[capability], session_id=capability)[0]
    assert again["run"]["id"] == claim["run"]["id"] and again["run"]["epoch"] == 2


def test_given_a_running_run_when_force_released_then_it_is_not_releasable_and_a_completed_one_has_ended(api, capability):
    claim = api.claimed(capability)
    api.post(path_of(claim["run"], "start"), holder(claim), 200)
    refused(api, claim["run"], "force-release", "task_run_not_releasable")
    refused(api, api.started()["run"], "force-release", "task_run_not_releasable")
    api.post(path_of(claim["run"], "complete"), holder(claim, result=1), 200)
    refused(api, claim["run"], "force-release", "task_run_already_terminal")
    refused(api, claim["run"], "force-fail", "task_run_already_terminal", reason="late")
    assert run_of(api, claim["run"])["result"] == 1


@pytest.mark.parametrize("state", ["queued", "claimed", "running"])
def test_a_forced_failure_ends_an_open_run_and_no_policy_tries_it_again(api, capability, state):
    made = api.started(required_capabilities=[capability], retry={"max_attempts": 3})
    if state != "queued":
        claim = api.claim(capabilities=[capability])[0]
    if state == "running":
        api.post(path_of(made["run"], "start"), holder(claim), 200)
    for body in {}, {"reason": "  "}:
        api.problem("POST", path_of(made["run"], "force-fail"), 422, "reason_required", body)
    failed = force_fail(api, made["run"], "the host is gone")
    assert failed["status"] == "failed" and failed["failure_kind"] == "operator_forced"
    assert failed["error"] == "the host is gone" and "claim_token_hash" not in failed
    if state != "queued":
        assert failed["claimed_by"] == claim["run"]["claimed_by"]
        api.problem("POST", path_of(made["run"], "complete"), 409, "stale_claim_token", holder(claim, result=1))
    event = events_of(api, made["run"])[-1]
    assert event["type"] == "run.operator_forced_fail"
    assert event["payload"] == {"manual": True, "previous_status": state, "reason": "the host is gone"}
    assert api.get("/v1/tasks/" + made["task"]["id"])["status"] == "ready"
    assert api.claim(capabilities=[capability]) == []


def test_what_waits_for_a_task_hears_that_its_last_run_was_forced_to_fail(api):
    made, waiting = api.started(max_attempts=1), api.task()
    api.post(f"/v1/tasks/{waiting['id']}/dependencies", {"depends_on_task_id": made["task"]["id"]})
    force_fail(api, made["run"])
    assert api.get("/v1/tasks/" + made["task"]["id"])["status"] == "failed"
    assert "task.dependency_failed" in [e["type"] for e in api.get(f"/v1/tasks/{waiting['id']}/timeline")["items"]]


def test_a_run_of_another_workspace_is_not_there(api, capability):
    claim = api.claimed(capability)
    other = stranger_of(api)
    for verb in "force-release", "force-fail":
        other.problem("POST", path_of(claim["run"], verb), 404, "not_found", {"reason": "mine"})
    for verb in "release", "fail":
        row = other.post("/v1/runs/bulk/" + verb, {"run_ids": [claim["run"]["id"]], "reason": "mine"}, 200)["items"][0]
        assert not row["ok"] and row["error"]["code"] == "not_found"
    assert run_of(api, claim["run"])["status"] == "claimed"


def test_of_a_completion_and_a_forced_failure_at_once_one_wins(api, capability):
    other = api.again()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in range(20):
            claim = api.claimed(capability)
            forced = pool.submit(other.request, "POST", path_of(claim["run"], "force-fail"), {"reason": "x"})
            done = api.request("POST", path_of(claim["run"], "complete"), holder(claim, result=1))
            assert sorted([forced.result().status_code, done.status_code]) == [200, 409]
            end = {"completed": "run.completed", "failed": "run.operator_forced_fail"}
            assert types_of(api, claim["run"])[2:] == [end[run_of(api, claim["run"])["status"]]]


def test_the_same_key_gives_the_same_answer(api, capability):
    claim = api.claimed(capability)
    answers = [api.request("POST", path_of(claim["run"], "force-fail"), {"reason": "once"}, 200,
                           headers={"Idempotency-Key": capability}).text for _ in range(2)]
    assert answers[0] == answers[1]


def test_the_stream_of_a_run_ends_with_its_forced_failure(api):
    run = api.started()["run"]
    force_fail(api, run)
    text = api.request("GET", f"/v1/tasks/{run['task_id']}/runs/{run['id']}/events/stream", status=200).text
    assert text.rstrip().split("\n\n")[-2].split("\n")[1] == "event: run.operator_forced_fail"
    assert "event: stream.end" in text


# ---- the worker, children and what waits ----

def test_the_worker_ends_the_command_of_a_run_that_is_forced_to_fail_and_then_its_next_attempt_begins(api, capability):
    mark = "61." + capability[4:12]
    run = launch(api, command(f"sleep {mark}", timeout_seconds=70), retry={"max_attempts": 2})
    begun(mark)
    force_fail(api, run)
    wait_until(lambda: not found(mark), 5)
    assert steps_of(api, run)[0]["status"] == "failed"
    again = api.post(path_of(run, "retry"))["run"]
    begun(mark)
    assert run_of(api, again)["attempt"] == 2
    force_fail(api, again)


def sleepers(capability, *fields):
    mark = "62." + capability[4:12]
    return mark, [{"name": str(i), "steps": [command(f"sleep {mark}", timeout_seconds=70)]} for i in range(2)]


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_child_that_is_forced_to_fail_wakes_its_parent(api, capability, tolerant):
    mark, branches = sleepers(capability)
    branches[1]["steps"] = [noop()]
    run = launch(api, action("parallel", {"on_error": "continue"} if tolerant else None, branches=branches), noop())
    begun(mark)
    force_fail(api, children_of(api, run)[0])
    assert reaches(api, run, "completed" if tolerant else "failed")
    assert [c["status"] for c in children_of(api, run)] == ["failed", "completed"]
    wait_until(lambda: not found(mark), 5)


def test_a_waiting_parent_that_is_forced_to_fail_takes_its_children_along(api, capability):
    mark, branches = sleepers(capability)
    run = launch(api, action("parallel", branches=branches))
    begun(mark)
    reaches(api, run, "awaiting_parallel")
    assert force_fail(api, run)["status"] == "failed"
    assert {c["status"] for c in children_of(api, run)} == {"canceled"}
    assert steps_of(api, run)[0]["status"] == "failed"
    wait_until(lambda: not found(mark), 5)


def test_a_child_that_waits_for_an_approval_is_forced_to_fail_with_it_and_wakes_its_parent(api):
    run = launch(api, action("parallel", branches=[{"name": "a", "steps": [action("approval", message="may I?")]},
                                                   {"name": "b", "steps": [noop()]}]))
    child = wait_until(lambda: [c for c in children_of(api, run) if c["status"] == "awaiting_approval"])[0]
    approval = approval_of(api, child)
    force_fail(api, child)
    assert reaches(api, run, "failed")["failure_kind"]
    assert api.get("/v1/approvals/" + approval["id"])["status"] == "canceled"


def test_a_sleeping_run_that_is_forced_to_fail_never_wakes(api):
    run = launch(api, action("delay", seconds=1), noop())
    reaches(api, run, "sleeping")
    force_fail(api, run)
    assert step_is(api, run, 0, "failed")
    before = types_of(api, run)
    assert ended(api, launch(api, action("delay", seconds=2)))["status"] == "completed"
    assert types_of(api, run) == before


# ---- many ----

def test_given_a_bulk_fail_of_good_missing_and_good_again_then_there_are_two_rows(api):
    good = api.started()["run"]["id"]
    rows = api.post("/v1/runs/bulk/fail", {"run_ids": [good, "run_0000000000000", good], "reason": "out"}, 200)["items"]
    assert [(r["run_id"], r["ok"]) for r in rows] == [(good, True), ("run_0000000000000", False)]
    assert rows[0]["run"]["status"] == "failed" and rows[1]["error"]["code"] == "not_found"


def test_the_runs_of_a_bulk_call_are_counted_and_its_reason_is_asked_for_first(api):
    ids = [api.started()["run"]["id"]] * 1000
    for verb in "release", "fail":
        for many in ids[:51], ids:
            body = {"run_ids": many, "reason": "x"}
            problem = api.problem("POST", "/v1/runs/bulk/" + verb, 422, "bulk_too_large", body)
            assert problem["limit"] == 50 and problem["actual"] == len(many)
        for wrong in [], "run", [""], [1], None:
            body = {"reason": "x"} if wrong is None else {"run_ids": wrong, "reason": "x"}
            assert api.problem("POST", "/v1/runs/bulk/" + verb, 400, "validation_failed", body)["field"] == "run_ids"
    api.problem("POST", "/v1/runs/bulk/fail", 422, "reason_required", {"run_ids": ids[:1]})
    assert api.get("/v1/runs/" + ids[0])["status"] == "queued"


def test_a_bulk_release_frees_what_it_can(api, capability):
    claims = [api.claimed(capability) for _ in range(2)]
    api.post(path_of(claims[1]["run"], "start"), holder(claims[1]), 200)
    rows = api.post("/v1/runs/bulk/release", {"run_ids": [c["run"]["id"] for c in claims[::-1]]}, 200)["items"]
    assert [r["ok"] for r in rows] == [False, True]
    assert rows[0]["error"]["diagnostic"] == "task_run_not_releasable" and rows[1]["run"]["status"] == "queued"


# ---- how often ----

def test_given_an_agent_doing_eleven_force_operations_on_a_task_within_a_minute_then_the_last_is_limited(api, capability):
    agent, one, other = agent_of(api), api.started(), api.started()
    for _ in range(3):
        agent.post(f"/v1/tasks/{one['task']['id']}/pause", {"reason": "wait"}, 200)
        agent.post(f"/v1/tasks/{one['task']['id']}/resume", {}, 200)
    refused(agent, one["run"], "force-release", "task_run_not_releasable")
    refused(agent, one["run"], "retry", "task_run_still_active")
    force_fail(agent, one["run"])
    refused(agent, one["run"], "force-fail", "task_run_already_terminal", reason="again")
    answer = agent.request("POST", path_of(one["run"], "force-fail"), {"reason": "again"}, 429)
    assert answer.json()["code"] == "rate_limited" and answer.json()["limit"] == 10
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    agent.problem("POST", f"/v1/tasks/{one['task']['id']}/pause", 429, "rate_limited", {"reason": "x"})
    row = agent.post("/v1/runs/bulk/release", {"run_ids": [one["run"]["id"]]}, 200)["items"][0]
    assert row["error"]["code"] == "rate_limited"
    force_fail(agent, other["run"])
    for _ in range(12):
        refused(api, one["run"], "force-fail", "task_run_already_terminal", reason="a human is not counted")


def test_every_run_of_a_bulk_call_counts_for_its_task(api, capability):
    agent, one = agent_of(api), api.started()
    for _ in range(9):
        refused(agent, one["run"], "force-release", "task_run_not_releasable")
    ids = [one["run"]["id"], api.started()["run"]["id"]]
    assert [r["ok"] for r in agent.post("/v1/runs/bulk/fail", {"run_ids": ids, "reason": "x"}, 200)["items"]] == [True] * 2
    agent.problem("POST", path_of(one["run"], "force-fail"), 429, "rate_limited", {"reason": "x"})


def test_agents_may_be_kept_from_operators_work(tmp_path):
    server = Server(tmp_path / "data", "--agent-force-limit", "0")
    api = Client(server)
    agent = Client(server, api.key_for()["key"])
    made = api.started()
    for verb, body in ("force-release", {}), ("force-fail", {"reason": "x"}), ("retry", {}):
        agent.problem("POST", path_of(made["run"], verb), 403, "forbidden_operator_action", body)
    agent.problem("POST", f"/v1/tasks/{made['task']['id']}/pause", 403, "forbidden_operator_action", {"reason": "x"})
    body = {"run_ids": [made["run"]["id"]], "reason": "x"}
    agent.problem("POST", "/v1/runs/bulk/fail", 403, "forbidden_operator_action", body)
    force_fail(api, made["run"])
    server.stop()


# ---- retries ----

def test_given_one_failed_run_when_retried_twice_then_the_second_is_refused(api):
    run = api.started()["run"]
    refused(api, run, "retry", "task_run_still_active")
    force_fail(api, run)
    again = api.post(path_of(run, "retry"), {"metadata": {"why": "once more"}})
    assert again["run"]["previous_run_id"] == run["id"] and again["run"]["metadata"] == {"why": "once more"}
    api.problem("POST", path_of(run, "retry"), 409, "invalid_transition")
    refused(api, again["run"], "retry", "task_run_still_active")


def test_a_source_with_ten_earlier_links_is_not_tried_again(own_server):
    api = Client(own_server)
    task = api.task(max_attempts=10)
    runs = [api.post(f"/v1/tasks/{task['id']}/start")["run"]]
    for _ in range(9):
        force_fail(api, runs[-1])
        runs.append(api.post(path_of(runs[-1], "retry"))["run"])
    force_fail(api, runs[-1])
    api.problem("POST", path_of(runs[-1], "retry"), 409, "invalid_transition")
    own_server.stop()
    # The budget of ten attempts ends every chain before; one more link shows which rule comes first.
    with sqlite3.connect(own_server.data / "baton.db") as db:
        first, = db.execute("SELECT min(id) FROM run").fetchone()
        db.execute("UPDATE run SET previous_run_id = ? WHERE id = ?", (first, first))
    own_server.start()
    api = Client(own_server)
    api.problem("POST", path_of(runs[-1], "retry"), 422, "retry_chain_too_deep")
    api.problem("POST", f"/v1/tasks/{task['id']}/retry", 422, "retry_chain_too_deep")
