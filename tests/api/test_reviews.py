"""Reviews: asked for by policy or by hand, given to a session, judged, and what follows from the verdict."""
import concurrent.futures
import itertools
import os
import time

import pytest
from conftest import SLOW, Client, Server, wait_until
from flows import define, events_of, noop, reaches, run_of, types_of
from test_graph import depend
from test_runs import holder
from test_sessions import key_of
from test_streams import frames

deliveries = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of this module's own: no other test's session is chosen as a reviewer."""
    server = Server(tmp_path_factory.mktemp("reviews") / "data")
    yield server
    server.stop()


def session_of(api, session, **fields):
    """A client with a key that belongs to the session."""
    return Client(api.server, key_of(api, session, **fields)["key"])


def task_of(api, run):
    return api.get("/v1/tasks/" + run["task_id"])


def reviews_of(api, run, **query):
    return api.get(f"/v1/runs/{run['id']}/reviews", params=query)["items"]


def end(api, claim, how="complete", **body):
    return api.post(f"/v1/runs/{claim['run']['id']}/{how}", holder(claim, **body), 200)


def work(api, how="complete", by=None, **task):
    """A task whose first run has ended; the run."""
    api.started(**task)
    return again(api, how, by)


def again(api, how="complete", by=None, **body):
    """The next run is taken and ended."""
    return end(by or api, (by or api).claim()[0], how, **({"error": "x"} if how == "fail" else {"result": 1}), **body)


def said(outcome, **fields):
    more = {"rejected": {"missing_work": ["tests"]}}.get(outcome, {})
    return {"outcome": outcome, "confidence": 0.9, "reason": "looked at it", "delivery_id": "d%d" % next(deliveries), **more, **fields}


def judge(api, review, outcome, **fields):
    return api.post(f"/v1/reviews/{review['id']}/verdict", said(outcome, **fields), 200)


def refused(api, review, status, code, outcome, **fields):
    return api.problem("POST", f"/v1/reviews/{review['id']}/verdict", status, code, said(outcome, **fields))


def ask(api, run, status=201, **fields):
    return api.post(f"/v1/runs/{run['id']}/reviews", fields, status)


def open_review(api, run):
    [review] = [r for r in reviews_of(api, run) if r["status"] in ("requested", "in_review")]
    return review


def bound(api, review, session):
    def look():
        now = api.get("/v1/reviews/" + review["id"])
        return now if now.get("session_id") == session else None
    return wait_until(look)


# ---- asking by policy ----

@pytest.mark.parametrize("policy,how,asked", [
    ("none", "complete", 0), ("on_success", "complete", 1), ("on_success", "fail", 0), ("on_failure", "complete", 0),
    ("on_failure", "fail", 1), ("always", "complete", 1), ("always", "fail", 1)])
def test_a_policy_asks_for_a_review_when_a_run_ends_as_it_says(api, policy, how, asked):
    run = work(api, how, review_policy=policy)
    assert len(reviews_of(api, run)) == asked
    assert task_of(api, run)["review_policy"] == policy
    assert (task_of(api, run)["status"] == "in_review") == bool(asked)


def test_the_end_of_a_run_and_its_review_are_one_change(api):
    run = work(api, review_policy="on_success")
    assert types_of(api, run)[-2:] == ["run.completed", "run.review_requested"]
    review = open_review(api, run)
    task = task_of(api, run)
    assert task["review_id"] == review["id"] and task["review_round"] == 1 and "closed_at" not in task
    assert review["requested_by"] == {"kind": "daemon", "ref": "baton"} and review["policy"] == "on_success"
    told = events_of(api, run)[-1]["payload"]
    assert told == {"review_id": review["id"], "policy": "on_success", "review_round": 1, "attempt": 1, "reason": "policy"}
    assert api.get("/v1/tasks?status=in_review")["items"][0]["id"] == task["id"]
    changed = [e["payload"] for e in api.get(f"/v1/tasks/{task['id']}/timeline")["items"] if e["type"] == "task.status_changed"]
    assert changed[-1]["to"] == "in_review"


def test_the_stream_of_a_reviewed_run_ends_with_the_run_and_that_of_its_task_tells_the_rest(api):
    run = work(api, review_policy="always")
    judge(api, open_review(api, run), "approved")
    path = f"/v1/tasks/{run['task_id']}/runs/{run['id']}/events/stream"
    told = [f["event"] for f in frames(api, path)]
    assert told[-2:] == ["run.completed", "stream.end"]
    ended = [e["sequence"] for e in events_of(api, run) if e["type"] == "run.completed"][0]
    assert frames(api, path, last=ended).status_code == 204
    head = task_of(api, run)["latest_sequence"]
    told = [f["event"] for f in frames(api, f"/v1/tasks/{run['task_id']}/events/stream", stop=head)]
    assert told.count("run.review_requested") == 1 and told[-1] == "run.review_recorded"


def test_a_definition_says_whether_the_runs_of_its_tasks_are_reviewed(api):
    made = define(api, noop(1), review_policy="on_success")
    started = api.post(f"/v1/definitions/{made['id']}/runs", {})
    assert started["task"]["review_policy"] == "on_success"
    assert reaches(api, started["run"], "completed") and open_review(api, started["run"])
    own = api.task(definition_id=made["id"], review_policy="none")
    assert own["review_policy"] == "none" and api.task(definition_id=made["id"])["review_policy"] == "on_success"
    problem = api.problem("POST", "/v1/definitions", 400, "validation_failed",
                          {"name": "wrong", "review_policy": "sometimes", "steps": [noop()]})
    assert problem["field"] == "review_policy" and "on_success" in problem["detail"]


def test_a_failed_run_that_is_tried_again_by_itself_is_not_reviewed_its_last_attempt_is(api):
    run = work(api, "fail", review_policy="on_failure", max_attempts=2, retry={"delay_ms": 0})
    assert reviews_of(api, run) == [] and task_of(api, run)["status"] == "ready"
    last = again(api, "fail")
    assert last["attempt"] == 2 and open_review(api, last) and task_of(api, last)["status"] == "in_review"


def test_who_cancels_a_run_has_judged_it(api):
    made = api.started(review_policy="always")
    run = api.post(f"/v1/runs/{made['run']['id']}/cancel", {}, 200)
    assert reviews_of(api, run) == [] and task_of(api, run)["status"] == "ready"
    assert ask(api, run, policy="on_failure")["created"]


def test_a_review_policy_is_changed_for_the_runs_that_are_still_to_end(api):
    made = api.started()
    task = api.request("PATCH", "/v1/tasks/" + made["task"]["id"], {"review_policy": "always"}, 200).json()
    assert task["review_policy"] == "always"
    told = api.get(f"/v1/audit?resource={task['id']}")["items"][0]
    assert told["action"] == "task.review_policy_changed" and told["detail"] == "always"
    assert open_review(api, again(api))


def test_dependents_wait_until_the_review_is_decided(api):
    first = api.started(review_policy="always")["task"]
    after = api.task(auto_enqueue_on_ready=True)
    depend(api, after, first)
    run = again(api)
    assert api.get("/v1/tasks/" + after["id"])["status"] == "blocked"
    judge(api, open_review(api, run), "approved")
    assert api.get("/v1/tasks/" + after["id"])["status"] == "ready"
    assert api.claim()[0]["task"]["id"] == after["id"]


# ---- asking by hand (scenario 62) ----

def test_given_a_terminal_run_when_the_same_review_is_asked_for_twice_then_one_review_and_one_event(api):
    run = work(api)
    first = ask(api, run, reason="look closely")
    again_ = ask(api, run, 200, reason="something else")
    assert first["created"] is True and again_["created"] is False and again_["review"] == first["review"]
    assert first["review"]["reason"] == "look closely" and first["review"]["policy"] == "always"
    assert types_of(api, run).count("run.review_requested") == 1
    assert ask(api, run, attempt=2)["created"] and ask(api, run, review_round=2)["created"]
    assert [r["attempt"] for r in reviews_of(api, run)] == [1, 2, 1]


def test_given_a_running_run_when_a_review_is_asked_for_then_409(api, capability):
    claim = api.claimed(capability)
    api.post(f"/v1/runs/{claim['run']['id']}/start", holder(claim), 200)
    api.problem("POST", f"/v1/runs/{claim['run']['id']}/reviews", 409, "invalid_transition", {})


def test_a_review_by_hand_must_fit_the_run_and_leaves_the_task_as_it_is(api):
    run = work(api)
    path = f"/v1/runs/{run['id']}/reviews"
    assert api.problem("POST", path, 409, "invalid_transition", {"policy": "on_failure"})["field"] == "policy"
    assert api.problem("POST", path, 400, "validation_failed", {"policy": "none"})["field"] == "policy"
    assert api.problem("POST", path, 400, "validation_failed", {"task_id": api.task()["id"]})["field"] == "task_id"
    api.problem("POST", path, 400, "validation_failed", {"attempt": 0})
    api.problem("POST", path, 400, "unknown_field", {"rounds": 1})
    review = ask(api, run, policy="on_success", task_id=run["task_id"])["review"]
    assert task_of(api, run)["status"] == "completed"
    judge(api, review, "approved")
    assert task_of(api, run)["status"] == "completed"


def test_a_second_opinion_does_not_take_the_place_of_the_review_that_the_task_waits_for(api):
    run = work(api, review_policy="always")
    first = open_review(api, run)
    judge(api, ask(api, run, attempt=2)["review"], "approved")
    assert task_of(api, run)["status"] == "in_review" and task_of(api, run)["review_id"] == first["id"]
    judge(api, first, "approved")
    assert task_of(api, run)["status"] == "completed"


# ---- sessions (scenarios 63, 67) ----

def test_given_a_session_already_reviewing_when_it_is_given_a_second_review_then_409(api, capability):
    one, two = (ask(api, work(api))["review"] for _ in range(2))
    got = api.post(f"/v1/reviews/{one['id']}/bind", {"session_id": capability}, 200)
    assert got["status"] == "in_review" and got["session_id"] == capability and got["started_at"]
    assert got["reviewer"] == {"kind": "agent_session", "ref": capability}
    api.problem("POST", f"/v1/reviews/{two['id']}/bind", 409, "session_already_bound", {"session_id": capability})
    moved = api.post(f"/v1/reviews/{one['id']}/bind", {"session_id": capability + "-b"}, 200)
    assert moved["session_id"] == capability + "-b"
    assert api.post(f"/v1/reviews/{two['id']}/bind", {"session_id": capability}, 200)["session_id"] == capability
    judge(api, one, "approved")
    api.problem("POST", f"/v1/reviews/{one['id']}/bind", 409, "invalid_transition", {"session_id": "another"})
    bindings = [e["payload"] for e in events_of(api, {"id": one["run_id"]}) if e["type"] == "run.review_bound"]
    assert [b["session_id"] for b in bindings] == [capability, capability + "-b"] and bindings[0]["review_id"] == one["id"]
    assert [r["id"] for r in api.get(f"/v1/reviews?session_id={capability}")["items"]] == [two["id"]]


def test_a_review_is_given_to_a_session_that_did_not_do_the_work(api, capability):
    worker = session_of(api, capability + "-worker")
    reviewer = session_of(api, capability + "-reviewer")
    run = work(api, by=worker, review_policy="always")
    review = bound(api, reviews_of(api, run)[0], capability + "-reviewer")
    assert review["status"] == "in_review" and review["reviewer"]["ref"] == capability + "-reviewer"
    refused(worker, review, 403, "self_approval_denied", "approved")
    session_of(api, capability + "-third").problem(
        "POST", f"/v1/reviews/{review['id']}/verdict", 403, "permission_denied", said("approved"))
    judge(reviewer, review, "approved")
    assert task_of(api, run)["status"] == "completed"


def test_an_agent_of_the_same_name_is_no_reviewer_and_who_knows_more_comes_first(api, capability):
    worker = session_of(api, capability + "-1", agent_name="coder")
    session_of(api, capability + "-2", agent_name="coder")
    session_of(api, capability + "-3", agent_name="tester", capabilities=["c"])
    session_of(api, capability + "-4", agent_name="critic", capabilities=["c", "security"])
    session_of(api, capability + "-5", agent_name="novice", capabilities=["security"])
    made = api.started(review_policy="always", required_capabilities=["c"], preferred_capabilities=["security"])
    claim = worker.claim(capabilities=["c", "security"])[0]
    assert claim["run"]["id"] == made["run"]["id"]
    end(worker, claim)
    bound(api, open_review(api, claim["run"]), capability + "-4")


def test_a_review_is_given_to_whom_the_profile_of_the_task_allows_and_prefers(api, capability):
    worker = session_of(api, capability + "-1", agent_name="coder")
    for i, (agent, *capabilities) in enumerate([("tester",), ("critic", "law"), ("novice", "law"), ("judge", "law")], 2):
        session_of(api, f"{capability}-{i}", agent_name=agent, capabilities=capabilities)
    task = api.task(review_policy="always")
    api.request("PUT", f"/v1/tasks/{task['id']}/execution-profile", {"review": {
        "allowed_agent_names": ["judge", "novice", "tester"], "preferred_agent_names": ["judge"], "required_capabilities": ["law"]}}, 200)
    api.post(f"/v1/tasks/{task['id']}/start")
    claim = worker.claim()[0]
    end(worker, claim)
    bound(api, open_review(api, claim["run"]), capability + "-5")


def test_given_only_the_original_workers_session_is_available_then_blocked_is_recorded_with_the_no_route_delivery(api, capability):
    worker = session_of(api, capability)
    run = work(api, by=worker, review_policy="always")
    review = wait_until(lambda: [r for r in reviews_of(api, run) if r["status"] == "recorded"])[0]
    assert review["outcome"] == "blocked" and review["confidence"] == 1
    assert review["delivery_id"] == "review-router:no-route:" + review["id"]
    assert task_of(api, run)["status"] == "blocked" and task_of(api, run)["review_circuit_at"]


def test_a_review_waits_for_a_session_that_is_busy(api, capability):
    session_of(api, capability)
    first, second = (work(api, review_policy="always") for _ in range(2))
    busy = bound(api, reviews_of(api, first)[0], capability)
    waiting = reviews_of(api, second)[0]
    assert waiting["status"] == "requested"
    judge(api, busy, "approved")
    bound(api, waiting, capability)


def test_given_the_reviewers_session_stops_then_another_one_is_looked_for(api, capability):
    key = key_of(api, capability + "-a")
    run = work(api, review_policy="always")
    review = bound(api, open_review(api, run), capability + "-a")
    session_of(api, capability + "-b")
    api.request("DELETE", "/v1/keys/" + key["id"], status=204)
    bound(api, review, capability + "-b")
    told = [e["payload"] for e in events_of(api, run) if e["type"].startswith("run.review")]
    assert [t.get("reason", t.get("session_id")) for t in told] == ["policy", capability + "-a", "session_ended", capability + "-b"]


def test_a_session_takes_a_review_for_itself_alone_and_never_of_its_own_work(api, capability):
    worker, other = session_of(api, capability + "-w"), session_of(api, capability + "-o")
    run = work(api, by=worker)
    review = ask(other, run)["review"]
    path = f"/v1/reviews/{review['id']}/bind"
    worker.problem("POST", path, 403, "self_approval_denied", {})
    worker.problem("POST", path, 403, "permission_denied", {"session_id": capability + "-o"})
    api.problem("POST", path, 403, "self_approval_denied", {"session_id": capability + "-w"})
    assert other.post(path, {}, 200)["session_id"] == capability + "-o"
    assert other.post(path, {}, 200)["status"] == "in_review"
    session_of(api, capability + "-t").problem("POST", path, 403, "permission_denied", {})
    assert types_of(api, run).count("run.review_bound") == 1


# ---- verdicts (scenarios 64 to 66) ----

def test_given_approved_then_no_continuation_and_the_run_is_as_it_was(api):
    run = work(api, review_policy="always")
    answer = judge(api, open_review(api, run), "approved", review_text="all of it")
    assert "continuation_run" not in answer and answer["circuit_opened"] is False
    review = answer["review"]
    assert review["status"] == "recorded" and review["outcome"] == "approved" and review["confidence"] == 0.9
    assert review["review_text"] == "all of it" and review["reviewer"] == {"kind": "human", "ref": "admin"}
    assert run_of(api, run)["status"] == "completed" and run_of(api, run)["ended_at"] == run["ended_at"]
    task = task_of(api, run)
    assert task["status"] == "completed" and task["closed_at"] and "review_id" not in task
    assert events_of(api, run)[-1]["payload"] == {
        "review_id": review["id"], "outcome": "approved", "confidence": 0.9, "delivery_id": review["delivery_id"],
        "review_round": 1, "circuit_opened": False}
    told = api.get(f"/v1/audit?resource={review['id']}")["items"]
    assert [(t["action"], t["detail"]) for t in told] == [("review.recorded", "approved")]


@pytest.mark.parametrize("fields,field", [
    ({"outcome": "approved", "missing_work": ["x"]}, "missing_work"),
    ({"outcome": "rejected", "missing_work": []}, "missing_work"),
    ({"outcome": "rejected", "missing_work": [" "]}, "missing_work"),
    ({"outcome": "rejected", "missing_work": {"a": 1}}, "missing_work"),
    ({"outcome": "fine"}, "outcome"), ({"outcome": None}, "outcome"),
    ({"confidence": 1.5}, "confidence"), ({"confidence": "high"}, "confidence"), ({"confidence": None}, "confidence"),
    ({"reason": " "}, "reason"), ({"reason": "x" * 4097}, "reason"), ({"delivery_id": ""}, "delivery_id"),
    ({"next_round_guidance": "x" * 8193}, "next_round_guidance"), ({"run_id": "run_0000000000001"}, "run_id")])
def test_a_verdict_that_does_not_hold_together_is_refused_with_the_field(api, fields, field):
    review = ask(api, work(api))["review"]
    body = {k: v for k, v in {**said("approved"), **fields}.items() if v is not None}
    answer = api.request("POST", f"/v1/reviews/{review['id']}/verdict", body)
    assert answer.status_code in (400, 413) and answer.json()["field"] == field, answer.text
    assert api.get("/v1/reviews/" + review["id"])["status"] != "recorded"


def test_given_rejected_then_one_continuation_with_the_next_round_and_the_guidance_and_a_repeat_returns_it(api):
    run = work(api, review_policy="always", input={"n": 1})
    review = open_review(api, run)
    body = said("rejected", missing_work=["tests", "docs"], next_round_guidance="begin with the tests", run_id=run["id"])
    path = f"/v1/reviews/{review['id']}/verdict"
    answer = api.post(path, body, 200)
    next_run = answer["continuation_run"]
    assert next_run["status"] == "queued" and next_run["attempt"] == 2 and next_run["previous_run_id"] == run["id"]
    assert next_run["input"] == {"n": 1} and next_run["review"] == {
        "review_id": review["id"], "reviewed_run_id": run["id"], "review_round": 2, "outcome": "rejected",
        "continuation_reason": "looked at it", "missing_work": ["tests", "docs"], "next_round_guidance": "begin with the tests"}
    assert task_of(api, run)["status"] == "ready"
    head = task_of(api, run)["latest_sequence"]
    assert api.post(path, body, 200) == answer
    api.problem("POST", path, 409, "conflict", {**body, "reason": "something else"})
    api.problem("POST", path, 409, "conflict", {**body, "delivery_id": "another"})
    task = task_of(api, run)
    assert task["latest_sequence"] == head and len(task["runs"]) == 2
    second = again(api)
    assert second["id"] == next_run["id"] and open_review(api, second)["review_round"] == 2
    judge(api, open_review(api, second), "approved")
    assert task_of(api, run)["status"] == "completed"


def test_given_rejected_with_no_attempts_left_then_it_is_recorded_with_the_reason_and_the_circuit_opens(api):
    """The specification refuses such a verdict and loses it; ours is kept."""
    run = work(api, review_policy="always", max_attempts=1)
    answer = judge(api, open_review(api, run), "rejected")
    assert answer["review"]["status"] == "recorded" and answer["review"]["no_continuation"] == "attempts_exhausted"
    assert answer["circuit_opened"] is True and "continuation_run" not in answer
    task = task_of(api, run)
    assert task["status"] == "blocked" and task["review_circuit_at"] and "closed_at" not in task
    item = [i for i in api.get("/v1/inbox?lane=blocked")["items"] if i["task"]["id"] == task["id"]][0]
    assert item["blocking_reason"] == "review_circuit_open"
    api.request("PATCH", "/v1/tasks/" + task["id"], {"max_attempts": 2}, 200)
    assert api.post(f"/v1/tasks/{task['id']}/start", {})["run"]["attempt"] == 2
    assert "review_circuit_at" not in task_of(api, run) and task_of(api, run)["status"] == "ready"


def test_after_three_rounds_there_is_no_continuation_and_a_person_decides(api):
    run = work(api, review_policy="always", max_attempts=10)
    for round_ in (1, 2):
        answer = judge(api, open_review(api, run), "rejected")
        assert answer["review"]["review_round"] == round_
        run = again(api)
        assert run["id"] == answer["continuation_run"]["id"]
    answer = judge(api, open_review(api, run), "rejected")
    assert answer["review"]["no_continuation"] == "rounds_exhausted" and answer["circuit_opened"] is True
    assert task_of(api, run)["status"] == "blocked"
    second = ask(api, run, attempt=2)
    assert second["created"] and second["review"]["review_round"] == 3
    assert task_of(api, run)["status"] == "in_review" and "review_circuit_at" not in task_of(api, run)
    judge(api, second["review"], "approved")
    assert task_of(api, run)["status"] == "completed"


def test_three_runs_that_end_within_two_minutes_open_the_circuit(api):
    run = work(api, "fail", review_policy="always", max_attempts=10)
    for _ in range(2):
        api.post(f"/v1/tasks/{run['task_id']}/start", {})
        run = again(api, "fail")
    answer = judge(api, open_review(api, run), "rejected")
    assert answer["review"]["no_continuation"] == "rapid_ends" and answer["circuit_opened"] is True
    assert task_of(api, run)["status"] == "blocked"


@pytest.mark.parametrize("outcome", ["error", "timeout", "invalid_output"])
def test_an_attempt_to_judge_that_failed_is_asked_for_once_more_then_the_circuit_opens(api, outcome):
    run = work(api, review_policy="always")
    first = open_review(api, run)
    assert judge(api, first, outcome)["circuit_opened"] is False
    second = open_review(api, run)
    assert (second["attempt"], second["review_round"]) == (2, 1) and task_of(api, run)["status"] == "in_review"
    assert task_of(api, run)["review_id"] == second["id"]
    assert judge(api, second, outcome)["circuit_opened"] is True
    assert task_of(api, run)["status"] == "blocked"


def test_blocked_opens_the_circuit_at_once(api):
    run = work(api, review_policy="always")
    assert judge(api, open_review(api, run), "blocked")["circuit_opened"] is True
    assert len(reviews_of(api, run)) == 1 and task_of(api, run)["status"] == "blocked"


def test_a_rejection_of_a_review_by_hand_is_followed_up_too(api):
    run = work(api)
    answer = judge(api, ask(api, run)["review"], "rejected")
    assert answer["continuation_run"]["review"]["review_round"] == 2 and task_of(api, run)["status"] == "ready"
    late = ask(api, run, attempt=2)["review"]
    assert judge(api, late, "rejected")["review"]["no_continuation"] == "open_run"
    again(api)
    later = ask(api, run, attempt=3)["review"]
    answer = judge(api, later, "rejected")
    assert answer["review"]["no_continuation"] == "newer_run" and answer["circuit_opened"] is False
    assert task_of(api, run)["status"] == "completed"


def test_the_next_attempt_of_a_continuation_that_failed_still_knows_what_is_missing(api):
    run = work(api, review_policy="on_success", max_attempts=5, retry={"delay_ms": 0})
    judge(api, open_review(api, run), "rejected")
    again(api, "fail")
    claim = api.claim()[0]
    assert claim["run"]["attempt"] == 3 and claim["run"]["review"]["missing_work"] == ["tests"]
    end(api, claim)
    assert open_review(api, claim["run"])["review_round"] == 2


def test_the_context_of_a_continuation_tells_what_the_reviewer_wants(api):
    run = work(api, review_policy="always")
    review = judge(api, open_review(api, run), "rejected", missing_work=["m" * 600] * 30,
                   next_round_guidance="go on with btk_0123456789abcdef " + "g" * 5000)["review"]
    claim = api.claim()[0]
    context = api.get(f"/v1/runs/{claim['run']['id']}/context")
    told = context["review_continuation"]
    assert told["review_id"] == review["id"] and told["reviewed_run_id"] == run["id"] and told["outcome"] == "rejected"
    assert len(told["missing_work"]) <= 20 and len(told["missing_work"][0]) == 512
    assert "btk_0123" not in str(context)
    end(api, claim)
    fitting = judge(api, open_review(api, claim["run"]), "rejected", next_round_guidance="go on")["review"]
    context = api.get(f"/v1/runs/{fitting['continuation_run_id']}/context")
    assert context["handoff_summary"] == "go on" and context["review_continuation"]["missing_work"] == ["tests"]
    assert [r["review_id"] for r in context["review_history"]][0] == fitting["id"]


def test_a_step_of_a_continuation_sees_the_review(api):
    made = define(api, noop("${{ has(run.review) ? run.review.next_round_guidance : 'first' }}"), review_policy="always", retry={})
    run = reaches(api, api.post(f"/v1/definitions/{made['id']}/runs", {})["run"], "completed")
    assert run["result"] == "first"
    next_run = judge(api, open_review(api, run), "rejected", next_round_guidance="again")["continuation_run"]
    assert reaches(api, next_run, "completed")["result"] == "again"


# ---- deadlines ----

def test_a_review_that_nobody_finishes_ends_as_a_timeout(api):
    run = work(api)
    review = ask(api, run, deadline_seconds=1)["review"]
    ended = wait_until(lambda: (r := api.get("/v1/reviews/" + review["id"]))["status"] == "recorded" and r)
    assert ended["outcome"] == "timeout" and ended["delivery_id"] == "review-deadline:" + review["id"]
    assert ended["recorded_at"] >= review["deadline_at"] and task_of(api, run)["status"] == "completed"
    refused(api, review, 409, "conflict", "approved")


def test_deadlines_of_the_server_expire_across_a_restart_and_open_the_circuit(tmp_path):
    server = Server(tmp_path / "data", "--review-seconds", "2")
    try:
        api = Client(server)
        run = work(api, review_policy="always")
        server.kill()
        server.start()
        api = Client(server)
        wait_until(lambda: task_of(api, run)["status"] == "blocked", 20)
        assert [(r["attempt"], r["outcome"]) for r in reviews_of(api, run)] == [(2, "timeout"), (1, "timeout")]
        recorded = [e["payload"]["circuit_opened"] for e in events_of(api, run) if e["type"] == "run.review_recorded"]
        assert recorded == [False, True]
    finally:
        server.stop()


# ---- what else happens to the task ----

def test_starting_a_task_that_is_reviewed_anew_cancels_its_review(api):
    run = work(api, review_policy="always")
    review = open_review(api, run)
    api.post(f"/v1/tasks/{run['task_id']}/start", {})
    assert api.get("/v1/reviews/" + review["id"])["status"] == "canceled"
    refused(api, review, 409, "invalid_transition", "approved")
    assert task_of(api, run)["status"] == "ready" and "review_id" not in task_of(api, run)
    assert open_review(api, again(api))["review_round"] == 1


def test_a_canceled_task_is_not_reviewed_any_more(api):
    run = work(api, review_policy="always")
    review = open_review(api, run)
    assert api.post(f"/v1/tasks/{run['task_id']}/cancel", {}, 200)["status"] == "canceled"
    assert api.get("/v1/reviews/" + review["id"])["status"] == "canceled"
    late = ask(api, run, attempt=2)["review"]
    assert judge(api, late, "rejected")["review"]["no_continuation"] == "task_canceled"
    assert task_of(api, run)["status"] == "canceled"


def test_a_continuation_of_a_paused_task_waits_for_the_resume(api):
    run = work(api, review_policy="always")
    api.post(f"/v1/tasks/{run['task_id']}/pause", {"reason": "lunch"}, 200)
    judge(api, open_review(api, run), "rejected")
    assert api.claim() == []
    api.post(f"/v1/tasks/{run['task_id']}/resume", {}, 200)
    assert api.claim()[0]["run"]["attempt"] == 2


def test_reviews_go_with_their_task_and_a_workspace_with_one_is_not_empty(api):
    run = work(api, review_policy="always")
    review = open_review(api, run)
    admin, space = Client(api.server), api.session.headers["X-Workspace-ID"]
    admin.problem("DELETE", "/v1/workspaces/" + space, 409, "conflict")
    api.request("DELETE", "/v1/tasks/" + run["task_id"], status=204)
    api.problem("GET", "/v1/reviews/" + review["id"], 404, "not_found")
    admin.request("DELETE", "/v1/workspaces/" + space, status=204)


def test_the_dashboard_counts_what_is_reviewed(api):
    work(api, review_policy="always")
    shown = api.get("/v1/dashboard")
    assert shown["cards"]["in_review"] == 1 and shown["totals"]["open_tasks"] == 1
    assert {"status": "in_review", "count": 1} in shown["by_status"]


def test_reviews_of_another_workspace_are_not_there(api):
    run = work(api, review_policy="always")
    review = open_review(api, run)
    space = Client(api.server).post("/v1/workspaces", {"name": "other", "slug": "other-%d" % time.monotonic_ns()})
    stranger = Client(api.server, api.key_for(workspace_id=space["id"])["key"])
    missing = stranger.problem("GET", "/v1/reviews/review_0000000000001", 404, "not_found")
    got = stranger.problem("GET", "/v1/reviews/" + review["id"], 404, "not_found")
    assert {k: v for k, v in got.items() if k != "instance"} == {k: v for k, v in missing.items() if k != "instance"}
    assert got["resource"] == "review"
    for verb, body in [("bind", {}), ("verdict", said("approved"))]:
        stranger.problem("POST", f"/v1/reviews/{review['id']}/{verb}", 404, "not_found", body)
    stranger.problem("GET", f"/v1/runs/{run['id']}/reviews", 404, "not_found")
    stranger.problem("POST", f"/v1/runs/{run['id']}/reviews", 404, "not_found", {})
    assert stranger.get("/v1/reviews")["items"] == []


def test_lists_of_reviews_are_narrowed_and_paged(api):
    runs = [work(api, review_policy="always") for _ in range(3)]
    judge(api, open_review(api, runs[0]), "approved")
    assert [r["run_id"] for r in api.get("/v1/reviews?status=requested")["items"]] == [runs[2]["id"], runs[1]["id"]]
    assert [r["run_id"] for r in api.get("/v1/reviews?status=recorded")["items"]] == [runs[0]["id"]]
    assert [r["run_id"] for r in api.get("/v1/reviews?task_id=" + runs[1]["task_id"])["items"]] == [runs[1]["id"]]
    page = api.get("/v1/reviews?limit=2")
    rest = api.get("/v1/reviews?limit=2&cursor=" + page["next_cursor"])
    assert [r["run_id"] for r in page["items"] + rest["items"]] == [r["id"] for r in runs[::-1]] and not rest["next_cursor"]
    assert reviews_of(api, runs[0], status="requested") == []


def test_a_review_survives_a_crash_with_its_verdict_still_to_come(own_server):
    api = Client(own_server)
    run = work(api, review_policy="always")
    review = open_review(api, run)
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert task_of(api, run)["status"] == "in_review" and open_review(api, run)["id"] == review["id"]
    assert judge(api, review, "rejected")["continuation_run"]["attempt"] == 2


def test_of_two_reviewers_that_race_one_wins(api):
    """RACES=10000 for as many."""
    runs = [work(api, review_policy="always", max_attempts=2) for _ in range(int(os.environ.get("RACES", "200")))]
    clients = [api.again(), api.again()]
    verdicts = [said("approved"), said("rejected")]

    def submit(n, review):
        return clients[n].request("POST", f"/v1/reviews/{review['id']}/verdict", verdicts[n], timeout=20 * SLOW)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for run in runs:
            review = open_review(api, run)
            answers = [f.result() for f in [pool.submit(submit, n, review) for n in (0, 1)]]
            winner = [n for n in (0, 1) if answers[n].status_code == 200]
            assert len(winner) == 1 and answers[1 - winner[0]].json()["code"] == "conflict", answers
            task = task_of(api, run)
            assert api.get("/v1/reviews/" + review["id"])["outcome"] == ["approved", "rejected"][winner[0]]
            assert (len(task["runs"]), task["status"]) == [(1, "completed"), (2, "ready")][winner[0]]
