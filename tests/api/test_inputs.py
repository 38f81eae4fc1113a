"""The inbox of a task: inputs are kept in order and taken once, by a step that waits or by a lease's holder."""
import collections
import time

import pytest

from conftest import Client, wait_until
from flows import (action, children_of, decide, approval_of, define, ended, failed, launch, noop, reaches,
                   run_of, steps_of, types_of)
from test_graph import at_once


def ask(fields=None, /, **parameters):
    return action("wait_input", fields, **parameters)


def inbox(api, task, query=""):
    return api.get(f"/v1/tasks/{task}/inputs?limit=500{query}")["items"]


def send(api, task, message=None, **body):
    return api.post(f"/v1/tasks/{task}/inputs", {**body, **({"message": message} if message else {})})


def waits(api, run):
    return reaches(api, run, "awaiting_input")


def nested(depth):
    return [] if depth == 1 else [nested(depth - 1)]


def task_of(run):
    return run["task_id"]


# ---- a step that waits ----


def test_a_step_waits_without_worker_or_lease_and_goes_on_with_the_input_that_comes(api):
    run = waits(api, launch(api, ask({"id": "ask"}, message="how many?"), noop("${{ steps.ask.output.data + 1 }}"),
                            noop("${{ steps.ask.output.message }} ${{ steps.ask.output.sent_by }}")))
    assert "lease_until" not in run
    assert steps_of(api, run)[0]["status"] == "waiting" and steps_of(api, run)[0]["input"] == {"message": "how many?"}
    reasons = api.get(f"/v1/runs/{run['id']}/explain")
    assert reasons["status"] == "awaiting_input" and reasons["reasons"][0]["code"] == "waiting"
    assert "input" in reasons["reasons"][0]["detail"]
    sent = send(api, task_of(run), "seven", data=7)
    assert sent["status"] == "consumed" and sent["run_id"] == run["id"] and sent["step_index"] == 0
    assert sent["sent_by"] == {"kind": "human", "ref": "admin"} and sent["sent_at"] and sent["consumed_at"]
    run = reaches(api, run, "completed")
    output = steps_of(api, run)[0]["output"]
    assert output == {"input_id": sent["id"], "message": "seven", "data": 7, "sent_by": "human:admin"}
    assert [s["output"] for s in steps_of(api, run)[1:]] == [8, "seven human:admin"]
    assert inbox(api, task_of(run)) == [sent]


def test_the_wait_the_input_and_the_waking_are_told_in_order_and_what_was_said_is_not(api):
    run = waits(api, launch(api, ask(name="colour")))
    send(api, task_of(run), "a secret colour", name="colour")
    reaches(api, run, "completed")
    timeline = api.get(f"/v1/tasks/{task_of(run)}/timeline?limit=500")["items"]
    types = [e["type"] for e in timeline]
    told = ["run.awaiting_input", "task.input_received", "run.input_consumed", "run.queued", "run.resumed"]
    at = types.index("run.awaiting_input")
    assert [t for t in types[at:] if t in told] == told
    by_type = {e["type"]: e["payload"] for e in timeline}
    given = inbox(api, task_of(run))[0]["id"]
    assert by_type["run.awaiting_input"] == {"step_index": 0, "name": "colour"}
    assert by_type["task.input_received"] == {"input_id": given, "name": "colour"}
    assert by_type["run.input_consumed"] == {"input_id": given, "step_index": 0, "name": "colour"}
    assert "secret colour" not in str(timeline)
    assert api.get("/v1/audit?resource=" + given)["items"] == []


def test_an_input_that_came_before_the_step_is_taken_at_once_and_inputs_are_taken_in_order(api):
    made = define(api, ask(), ask(), noop())
    task = api.task(definition_id=made["id"])
    first, second, third = (send(api, task["id"], m) for m in ("one", "two", "three"))
    assert [first["status"], second["status"], third["status"]] == ["pending"] * 3
    run = api.post(f"/v1/tasks/{task['id']}/start")["run"]
    run = reaches(api, run, "completed")
    assert [s["output"]["message"] for s in steps_of(api, run)[:2]] == ["one", "two"]
    assert [i["status"] for i in inbox(api, task["id"])] == ["consumed", "consumed", "pending"]
    assert [i.get("step_index") for i in inbox(api, task["id"])] == [0, 1, None]
    assert "run.awaiting_input" in types_of(api, run)


def test_a_step_takes_inputs_of_its_name_and_no_others(api):
    run = waits(api, launch(api, ask(name="b"), ask()))
    for name in ("a", None, "b"):
        send(api, task_of(run), f"for {name}", **({"name": name} if name else {}))
    run = reaches(api, run, "completed")
    assert [s["output"]["message"] for s in steps_of(api, run)] == ["for b", "for None"]
    assert [(i["name"], i["status"]) for i in inbox(api, task_of(run), "&name=a")] == [("a", "pending")]


def test_of_branches_that_wait_for_the_same_the_oldest_gets_it_and_names_tell_them_apart(api):
    run = launch(api, action("for_each", items=["x", "y"], steps=[ask(name="${{ item }}"), ask(name="both")]))
    wait_until(lambda: [c["status"] for c in children_of(api, run)] == ["awaiting_input"] * 2)
    x, y = children_of(api, run)
    assert send(api, task_of(run), "to y", name="y")["run_id"] == y["id"]
    assert send(api, task_of(run), "to x", name="x")["run_id"] == x["id"]
    wait_until(lambda: all(c["current_step"] == 1 and c["status"] == "awaiting_input" for c in children_of(api, run)))
    assert send(api, task_of(run), "first", name="both")["run_id"] == x["id"]
    assert run_of(api, y)["status"] == "awaiting_input"
    assert send(api, task_of(run), "second", name="both")["run_id"] == y["id"]
    reaches(api, run, "completed")


@pytest.mark.parametrize("step", [ask(expires_in_seconds=1), ask({"timeout_seconds": 1}, expires_in_seconds=600)],
                         ids=["its own time", "the step's"])
def test_a_step_that_nobody_answers_in_time_fails_as_timed_out(api, step):
    run = failed(api, step, kind="timed_out")
    assert steps_of(api, run)[0]["error"]["kind"] == "timed_out" and "input" in run["error"]
    late = send(api, task_of(run), "late")
    assert late["status"] == "pending" and run_of(api, run)["status"] == "failed"


def test_a_step_that_nobody_answers_can_be_handled_and_tried_again(api):
    handled = launch(api, ask({"on_error": "continue", "id": "ask"}, expires_in_seconds=1),
                     noop("${{ has(steps.ask.output) ? 'came' : 'went on' }}"))
    assert steps_of(api, reaches(api, handled, "completed"))[1]["output"] == "went on"
    again = launch(api, ask({"retry": {"max_attempts": 2, "delay_ms": 0}}, expires_in_seconds=1, message="again"))
    wait_until(lambda: types_of(api, again).count("run.awaiting_input") == 2)
    send(api, task_of(again), "now")
    run = reaches(api, again, "completed")
    assert steps_of(api, run)[0]["attempt"] == 2 and steps_of(api, run)[0]["output"]["message"] == "now"


def test_a_step_that_must_be_allowed_first_waits_for_its_input_afterwards(api):
    run = launch(api, ask({"requires_approval": True}))
    early = send(api, task_of(run), "early")
    approval = approval_of(api, run)
    assert early["status"] == "pending" and run_of(api, run)["status"] == "awaiting_approval"
    decide(api, approval, "approve")
    run = reaches(api, run, "completed")
    assert steps_of(api, run)[0]["output"]["message"] == "early"


def test_a_paused_task_keeps_its_answered_run_until_it_is_resumed(api):
    run = waits(api, launch(api, ask()))
    api.post(f"/v1/tasks/{task_of(run)}/pause", {"reason": "lunch"}, 200)
    assert send(api, task_of(run), "go")["status"] == "consumed"
    assert run_of(api, run)["status"] == "queued"
    assert api.get(f"/v1/runs/{run['id']}/explain")["reasons"][0]["code"] == "paused"
    api.post(f"/v1/tasks/{task_of(run)}/resume", {}, 200)
    reaches(api, run, "completed")


def test_a_wait_is_checked_before_anything_is_stored(api):
    def problems(**parameters):
        answer = api.post("/v1/definitions/validate", {"name": "x", "steps": [ask(**parameters)]}, 200)
        return [(p["path"], p["message"] + (p.get("hint") or "")) for p in answer["problems"]]
    assert problems(message="m", name="${{ input.who }}", expires_in_seconds=60) == []
    for name, value, word in (("expires_in_seconds", 0, "1"), ("expires_in_seconds", "soon", "whole number"),
                              ("name", "n" * 65, "64"), ("message", 1, "text"), ("nane", "x", "name")):
        (path, text), = problems(**{name: value})
        assert path.endswith("parameters." + name) and word in text, (path, text)


# ---- ends ----


def test_a_canceled_task_takes_no_more_inputs_and_what_lay_there_is_canceled(api):
    run = waits(api, launch(api, ask(name="wanted")))
    other = send(api, task_of(run), "other")
    api.post(f"/v1/tasks/{task_of(run)}/cancel", {}, 200)
    assert run_of(api, run)["status"] == "canceled" and steps_of(api, run)[0]["status"] == "failed"
    assert inbox(api, task_of(run)) == [{**other, "status": "canceled"}]
    api.problem("POST", f"/v1/tasks/{task_of(run)}/inputs", 409, "invalid_transition", {"message": "m"})


def test_what_an_attempt_did_not_take_is_there_for_the_next_and_what_it_took_is_not(api):
    run = waits(api, launch(api, ask(), ask(name="second"), retry={"max_attempts": 2}))
    send(api, task_of(run), "taken")
    wait_until(lambda: run_of(api, run)["current_step"] == 1 and run_of(api, run)["status"] == "awaiting_input")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    assert send(api, task_of(run), "left", name="second")["status"] == "pending"
    again = waits(api, api.post(f"/v1/tasks/{task_of(run)}/retry")["run"])
    assert again["current_step"] == 0 and send(api, task_of(run), "anew")["run_id"] == again["id"]
    again = reaches(api, again, "completed")
    assert [s["output"]["message"] for s in steps_of(api, again)] == ["anew", "left"]
    assert [i["run_id"] for i in inbox(api, task_of(run))] == [run["id"], again["id"], again["id"]]


def test_a_run_that_is_forced_to_fail_while_it_waits_lets_the_input_go_to_the_next_attempt(api):
    run = waits(api, launch(api, ask()))
    api.post(f"/v1/runs/{run['id']}/force-fail", {"reason": "stuck"}, 200)
    assert send(api, task_of(run), "late")["status"] == "pending"
    api.request("PATCH", f"/v1/tasks/{task_of(run)}", {"max_attempts": 3}, 200)
    again = api.post(f"/v1/tasks/{task_of(run)}/retry")["run"]
    assert steps_of(api, reaches(api, again, "completed"))[0]["output"]["message"] == "late"


def test_a_runs_deadline_ends_its_wait(api):
    run = launch(api, ask(), timeout_seconds=1)
    assert ended(api, run)["status"] == "timed_out"


def rows(server):
    return server.count("task_input")


def test_inputs_go_with_a_deleted_task_an_expired_tree_and_a_deleted_workspace(own_server):
    api = Client(own_server)
    space = api.post("/v1/workspaces", {"name": "w", "slug": "w"})
    here = Client(own_server, headers={"X-Workspace-ID": space["id"]})
    kept, gone = here.task(), here.task()
    for task in (kept, gone):
        send(here, task["id"], "m")
    here.request("DELETE", "/v1/tasks/" + gone["id"], status=204)
    here.problem("GET", f"/v1/tasks/{gone['id']}/inputs", 404, "not_found")
    assert rows(own_server) == 1
    here.post(f"/v1/tasks/{kept['id']}/cancel", {}, 200)
    api.request("PATCH", "/v1/workspaces/" + space["id"], {"retention_seconds": 1}, 200)
    wait_until(lambda: rows(own_server) == 0, 20)
    last = here.task()
    send(here, last["id"], "m")
    here.post(f"/v1/tasks/{last['id']}/cancel", {}, 200)
    api.request("DELETE", "/v1/workspaces/" + space["id"], status=204)
    wait_until(lambda: rows(own_server) == 0, 20)


# ---- the holder of a lease ----


def consume(api, claim, given, status=200, token=None):
    path = f"/v1/runs/{claim['run']['id']}/inputs/{given['id']}/consume"
    return api.request("POST", path, {"claim_token": token or claim["claim_token"]}, status).json()


def test_the_holder_of_a_run_takes_the_inputs_of_its_task_each_once(api, capability):
    claim = api.claimed(capability)
    task = claim["task"]["id"]
    first, second = send(api, task, "one"), send(api, task, "two", name="whatever")
    assert [i["id"] for i in inbox(api, task, "&status=pending")] == [first["id"], second["id"]]
    taken = consume(api, claim, second)
    assert taken["status"] == "consumed" and taken["run_id"] == claim["run"]["id"]
    assert consume(api, claim, second) == taken
    assert [i["id"] for i in inbox(api, task, "&status=pending")] == [first["id"]]
    assert types_of(api, claim["run"]).count("run.input_consumed") == 1


def test_only_the_current_holder_takes_and_one_who_lost_the_run_leaves_the_input_to_the_next(api, capability, server):
    claim = api.claimed(capability)
    task, run = claim["task"]["id"], claim["run"]["id"]
    given, other = send(api, task, "m"), send(api, api.task()["id"], "elsewhere")
    assert consume(api, claim, other, 404)["resource"] == "input"
    assert consume(api, claim, {"id": "input_0000000000001"}, 404)["code"] == "not_found"
    assert consume(api, claim, given, 409, token="btk_00")["code"] == "stale_claim_token"
    reader = Client(server, api.key_for(scopes=["tasks:read", "tasks:write"])["key"])
    assert consume(reader, claim, given, 403)["code"] == "permission_denied"
    api.post(f"/v1/runs/{run}/force-release", {}, 200)
    assert consume(api, claim, given, 409)["code"] == "stale_claim_token"
    assert inbox(api, task) == [given]
    again = api.post(f"/v1/runs/{run}/claim", {"capabilities": [capability]}, 200)["claims"][0]
    assert consume(api, again, given)["run_id"] == run


def test_an_input_that_one_attempt_took_is_refused_to_the_next(api, capability):
    claim = api.claimed(capability)
    task = claim["task"]["id"]
    given = send(api, task, "m")
    consume(api, claim, given)
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "no"}, 200)
    again = api.post(f"/v1/tasks/{task}/retry")["run"]
    claim = api.post(f"/v1/runs/{again['id']}/claim", {"capabilities": [capability]}, 200)["claims"][0]
    assert consume(api, claim, given, 409)["code"] == "conflict"


# ---- races ----


def test_of_many_inputs_sent_at_once_to_many_branches_each_is_taken_once(api):
    n = 24
    run = launch(api, action("for_each", items=list(range(n)), steps=[ask({"id": "a"}), noop("${{ steps.a.output.message }}")]))
    senders = [api.again() for _ in range(6)]

    def some(k):
        return [send(senders[k], task_of(run), f"m{k}.{i}")["id"] for i in range(n // 6)]
    sent = sum(at_once(*(lambda k=k: some(k) for k in range(6))), [])
    reaches(api, run, "completed")
    heard = [b["output"] for b in steps_of(api, run)[0]["output"]["branches"]]
    assert sorted(heard) == sorted(f"m{k}.{i}" for k in range(6) for i in range(n // 6))
    items = inbox(api, task_of(run))
    assert sorted(i["id"] for i in items) == sorted(sent) and {i["status"] for i in items} == {"consumed"}
    assert len({i["run_id"] for i in items}) == n
    timeline = api.get(f"/v1/tasks/{task_of(run)}/timeline?limit=1000&event_type=run.input_consumed")["items"]
    assert collections.Counter(e["payload"]["input_id"] for e in timeline) == dict.fromkeys(sent, 1)


def test_of_two_consumers_one_of_whom_has_lost_the_run_the_holder_alone_takes(api, capability):
    """The run is given back and handed to another while its first holder takes an input."""
    other = api.again()
    for _ in range(25):
        claim = api.claimed(capability)
        run, given = claim["run"]["id"], send(api, claim["task"]["id"], "m")

        def take_over():
            other.post(f"/v1/runs/{run}/release", {"claim_token": claim["claim_token"]}, 200)
            return other.post(f"/v1/runs/{run}/claim", {"capabilities": [capability]}, 200)["claims"][0]
        path = f"/v1/runs/{run}/inputs/{given['id']}/consume"
        first, again = at_once(lambda: api.request("POST", path, {"claim_token": claim["claim_token"]}), take_over)
        assert first.status_code == 200 or first.json()["code"] == "stale_claim_token"
        assert consume(other, again, given)["status"] == "consumed"
        # Whoever it was: it was taken once, and before the run was given back if it was the first.
        types = [t for t in types_of(api, claim["run"]) if t in ("run.input_consumed", "run.released")]
        assert types == (["run.input_consumed", "run.released"] if first.status_code == 200 else
                         ["run.released", "run.input_consumed"])
        api.post(f"/v1/tasks/{claim['task']['id']}/cancel", {}, 200)


def test_an_input_and_the_end_of_the_wait_at_the_same_moment_leave_no_run_that_waits_for_what_is_there(api):
    for n in range(8):
        run = waits(api, launch(api, ask({"on_error": "continue"}, expires_in_seconds=1), noop("end")))
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 0.8 + 0.06 * n)
        given = send(api, task_of(run), "just now")
        run = reaches(api, run, "completed")
        step = steps_of(api, run)[0]
        assert (step["status"] == "completed") == (given["status"] == "consumed")
        assert inbox(api, task_of(run))[0]["status"] == given["status"]


# ---- requests ----


def test_an_input_sent_again_with_its_key_is_kept_once(api):
    task = api.task()["id"]
    answers = [api.request("POST", f"/v1/tasks/{task}/inputs", {"message": "m"}, 201,
                           headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert answers[0] == answers[1] and inbox(api, task) == [answers[0]]
    api.problem("POST", f"/v1/tasks/{task}/inputs", 422, "idempotency_mismatch", {"message": "other"},
                headers={"Idempotency-Key": "k"})


@pytest.mark.parametrize("body, field, code", [
    ({}, "message", "validation_failed"),
    ({"message": " \n"}, "message", "validation_failed"),
    ({"message": "m" * 65537}, "message", "payload_too_large"),
    ({"data": "d" * 65536}, "data", "payload_too_large"),
    ({"message": "m", "name": "n" * 65}, "name", "payload_too_large"),
    ({"message": "m", "name": ""}, "name", "validation_failed"),
    ({"message": "m", "to": "x"}, "to", "unknown_field"),
    ({"data": [{"a": {"Claim_Token": "btk_1"}}]}, "data", "validation_failed"),
    ({"data": nested(49)}, "data", "validation_failed"),
], ids=["nothing", "blank", "long message", "long data", "long name", "empty name", "unknown", "token", "deep"])
def test_an_input_that_cannot_be_taken_is_refused_by_its_field(api, body, field, code):
    task = api.task()["id"]
    status = 413 if code == "payload_too_large" else 400
    assert api.problem("POST", f"/v1/tasks/{task}/inputs", status, code, body)["field"] == field
    assert inbox(api, task) == []


def test_the_deepest_data_that_is_accepted_can_be_a_steps_output(api):
    run = waits(api, launch(api, ask()))
    data = nested(48)
    send(api, task_of(run), data=data)
    assert steps_of(api, reaches(api, run, "completed"))[0]["output"]["data"] == data


def test_inputs_are_listed_oldest_first_page_by_page(api):
    task = api.task()["id"]
    sent = [send(api, task, str(n), name="odd" if n % 2 else "even")["id"] for n in range(7)]
    pages, cursor = [], ""
    while True:
        page = api.get(f"/v1/tasks/{task}/inputs?limit=3{cursor}")
        pages.append([i["id"] for i in page["items"]])
        if not page["next_cursor"]:
            break
        cursor = "&cursor=" + page["next_cursor"]
    assert pages == [sent[:3], sent[3:6], sent[6:]]
    assert [i["id"] for i in inbox(api, task, "&name=odd")] == sent[1::2]
    assert inbox(api, task, "&status=consumed") == []
    api.problem("GET", f"/v1/tasks/{task}/inputs?status=open", 400, "validation_failed")


def test_a_task_takes_a_thousand_inputs_and_no_more(api):
    task = api.task()["id"]
    senders = [api.again() for _ in range(4)]
    at_once(*(lambda s=s: [send(s, task, "m") for _ in range(250)] for s in senders))
    problem = api.problem("POST", f"/v1/tasks/{task}/inputs", 409, "graph_limit_exceeded", {"message": "m"})
    assert problem["limit"] == 1000


def test_the_inbox_of_another_workspace_is_as_if_it_were_not_there(api, server):
    task = api.task()["id"]
    space = Client(server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})["id"]
    key = api.post("/v1/keys", {"name": "o", "actor_kind": "human", "ref": "o", "workspace_id": space,
                                "scopes": ["tasks:read", "tasks:write"]})["key"]
    other = Client(server, key)
    other.problem("GET", f"/v1/tasks/{task}/inputs", 404, "not_found")
    theirs = other.problem("POST", f"/v1/tasks/{task}/inputs", 404, "not_found", {"message": "m"})
    missing = other.problem("POST", "/v1/tasks/task_0000000000001/inputs", 404, "not_found", {"message": "m"})
    assert {**theirs, "instance": ""} == {**missing, "instance": ""}
    assert inbox(api, task) == []
    reader = Client(server, api.key_for(scopes=["tasks:read"])["key"])
    reader.problem("POST", f"/v1/tasks/{task}/inputs", 403, "permission_denied", {"message": "m"})


# ---- restarts ----


def test_a_wait_and_what_lies_in_the_inbox_outlive_a_kill(own_server):
    api = Client(own_server)
    run = waits(api, launch(api, ask(), ask(name="second"), noop("done")))
    send(api, task_of(run), "for later", name="second")
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert run_of(api, run)["status"] == "awaiting_input" and "lease_until" not in run_of(api, run)
    send(api, task_of(run), "now")
    run = reaches(api, run, "completed")
    assert [s["output"]["message"] for s in steps_of(api, run)[:2]] == ["now", "for later"]


def test_an_answer_that_was_handed_over_before_a_kill_is_the_steps_answer_afterwards(own_server):
    """The scheduler is paused, so that the run stays in the queue between the two."""
    api = Client(own_server)
    run = waits(api, launch(api, ask()))
    api.post("/v1/scheduler/pause", {}, 200)
    given = send(api, task_of(run), "kept")
    assert given["status"] == "consumed"
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert run_of(api, run)["status"] == "queued"
    api.post("/v1/scheduler/resume", {}, 200)
    run = reaches(api, run, "completed")
    assert steps_of(api, run)[0]["output"]["input_id"] == given["id"]
    assert types_of(api, run).count("run.input_consumed") == 1
