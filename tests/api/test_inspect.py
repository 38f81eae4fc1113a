"""Inspection of runs and tasks: who holds it, what is wrong, what comes next."""
import sqlite3
import time

from conftest import Client, wait_until

MINUTE = 60 * 1000000


def inspect(api, run, **options):
    return api.get(f"/v1/runs/{run['id']}/inspect", **options)


def codes(seen):
    return [d["code"] for d in seen["diagnostics"]]


def aged(server, **changes):
    """Moves times of the newest run into the past, behind the back of a stopped server."""
    server.stop()
    db = sqlite3.connect(server.data / "baton.db")
    run, = db.execute("SELECT max(id) FROM run").fetchone()
    for column, us in changes.items():
        db.execute(f"UPDATE run SET {column} = {column} - ? WHERE id = ?", (us, run))
        if column == "queued_at":
            db.execute("UPDATE ready SET queued_at = queued_at - ? WHERE run = ?", (us, run))
    db.commit()
    db.close()
    server.start()


def test_a_held_run_is_shown_with_its_lease_and_a_hash_of_eight_digits(api, capability):
    claim = api.claimed(capability, session_id="s-" + capability)
    seen = inspect(api, claim["run"])
    assert seen["target"] == {"kind": "run", "id": claim["run"]["id"]}
    assert seen["next_action"] == "running" and seen["diagnostics"] == []
    assert [r["code"] for r in seen["reasons"]] == ["running"]
    run = seen["current_run"]
    assert len(run["claim_token_hash"]) == 8
    assert api.get("/v1/runs/" + run["id"])["claim_token_hash"].startswith(run["claim_token_hash"])
    assert claim["claim_token"] not in str(seen)
    assert run["session_id"] == "s-" + capability and run["claimed_by"] == {"kind": "human", "ref": "admin"}
    assert run["lease_until"] > seen["as_of"] and 0 <= run["heartbeat_age_seconds"] < 100
    assert run["retries"] == 0 and run["attempt"] == 1
    assert seen["task"]["id"] == claim["task"]["id"] and seen["task"]["current_run_id"] == run["id"]
    assert [e["type"] for e in seen["recent_events"]] == ["run.claimed", "run.queued", "task.created"]
    assert seen["task"]["last_activity_at"] == seen["recent_events"][0]["timestamp"]


def test_a_task_without_a_run_waits_until_it_is_closed(api):
    task = api.task()
    seen = api.get(f"/v1/tasks/{task['id']}/inspect")
    assert seen["target"] == {"kind": "task", "id": task["id"]}
    assert seen["next_action"] == "waiting_for_session" and "current_run" not in seen
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    assert api.get(f"/v1/tasks/{task['id']}/inspect")["next_action"] == "terminal"


def test_a_failed_run_has_crashed_until_it_is_tried_again(api, capability):
    task = api.started(required_capabilities=[capability], max_attempts=2)["task"]
    error = "é" * 200
    for attempt in (1, 2):
        claim = api.claim(capabilities=[capability])[0]
        api.post(f"/v1/runs/{claim['run']['id']}/fail",
                 {"claim_token": claim["claim_token"], "error": error}, 200)
        seen = api.get(f"/v1/tasks/{task['id']}/inspect")
        assert seen["next_action"] == "recovery_required" and codes(seen) == ["task_run_crashed"]
        run = seen["current_run"]
        assert run["last_error"] == error[:160] and run["retries"] == attempt - 1
        assert run["failure_kind"] == "failed"
        proposed = seen["diagnostics"][0].get("suggested_command")
        assert proposed == (f"baton runs retry {run['id']}" if attempt == 1 else None)
        if attempt == 1:
            first = run
            api.post(f"/v1/runs/{run['id']}/retry")
    seen = inspect(api, first)
    assert seen["next_action"] == "terminal" and seen["diagnostics"] == []
    assert len(seen["recent_runs"]) == 2 and seen["recent_runs"][0]["previous_run_id"] == first["id"]


def test_a_later_attempt_that_was_canceled_does_not_hide_a_crash(api, capability):
    claim = api.claimed(capability)
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "x"}, 200)
    again = api.post(f"/v1/runs/{claim['run']['id']}/retry")["run"]
    api.post(f"/v1/runs/{again['id']}/cancel", {}, 200)
    assert codes(inspect(api, claim["run"])) == ["task_run_crashed"]
    assert inspect(api, again)["next_action"] == "terminal"
    api.post(f"/v1/tasks/{claim['task']['id']}/cancel", {}, 200)
    assert inspect(api, claim["run"])["next_action"] == "terminal"


def test_a_run_whose_holder_has_no_valid_key_any_more_is_an_orphan(api, server, capability):
    space = api.session.headers["X-Workspace-ID"]
    key = api.key_for(ref=capability, workspace_id=space)
    claim = Client(server, key["key"]).claimed(capability)
    assert inspect(api, claim["run"])["diagnostics"] == []
    other = api.key_for(ref=capability, session_id="other", workspace_id=space)
    api.request("DELETE", "/v1/keys/" + key["id"], status=204)
    seen = inspect(api, claim["run"])
    assert codes(seen) == ["task_run_orphan"] and seen["next_action"] == "recovery_required"
    assert seen["diagnostics"][0]["severity"] == "error"
    assert seen["diagnostics"][0]["suggested_command"] == f"baton runs force-release {claim['run']['id']}"
    api.key_for(ref=capability, workspace_id=space)
    assert inspect(api, claim["run"])["diagnostics"] == []
    api.request("DELETE", "/v1/keys/" + other["id"], status=204)


def test_a_queued_run_is_available_to_who_holds_one_that_asked_for_no_less(api, capability):
    held = api.claimed(capability)
    queued = api.started(required_capabilities=[capability])["run"]
    assert inspect(api, queued)["next_action"] == "claim_available"
    api.post(f"/v1/runs/{held['run']['id']}/complete", {"claim_token": held["claim_token"]}, 200)
    assert inspect(api, queued)["next_action"] == "waiting_for_session"
    # Who holds a run that asked for something else, in a channel or as the member of a pool.
    api.claimed(capability + "-less")
    assert inspect(api, queued)["next_action"] == "waiting_for_session"
    api.started(required_capabilities=[capability + "-2", capability], network_channel="ops")
    assert len(api.claim(capabilities=[capability + "-2", capability], channel="ops")) == 1
    assert inspect(api, queued)["next_action"] == "waiting_for_session"
    api.started(required_capabilities=[capability + "-2", capability])
    assert api.claim(capabilities=[capability + "-2", capability])[0]["run"]["id"] == queued["id"]
    last = api.started(required_capabilities=[capability])["run"]
    assert inspect(api, last)["next_action"] == "claim_available"
    pooled = api.started(required_capabilities=[capability], owner={"kind": "pool", "ref": "p"})["run"]
    assert inspect(api, pooled)["next_action"] == "waiting_for_session"


def test_a_run_that_is_held_back_waits_and_says_why(api, capability):
    api.claimed(capability)
    made = api.started(required_capabilities=[capability])
    api.post(f"/v1/tasks/{made['task']['id']}/pause", {"reason": "lunch"}, 200)
    seen = inspect(api, made["run"])
    assert seen["next_action"] == "waiting_for_session" and seen["task"]["effective_paused"]
    assert [r["code"] for r in seen["reasons"]] == ["paused"]


def test_a_run_that_nobody_may_take_is_stranded_after_five_minutes(own_server):
    api = Client(own_server)
    made = api.started(required_capabilities=["rare"])
    aged(own_server, queued_at=4 * MINUTE)
    assert inspect(Client(own_server), made["run"])["next_action"] == "waiting_for_session"
    aged(own_server, queued_at=2 * MINUTE)
    api = Client(own_server)
    seen = inspect(api, made["run"])
    assert seen["next_action"] == "stranded" and codes(seen) == ["task_run_stranded"]
    other = api.started(required_capabilities=["rare"])["run"]
    api.post(f"/v1/runs/{other['id']}/claim", {"capabilities": ["rare"]}, 200)
    assert inspect(api, made["run"])["next_action"] == "claim_available"


def test_a_definitions_run_is_not_stranded_while_the_worker_is_busy(own_server):
    api = Client(own_server)
    spec = {"name": "long", "steps": [{"action": "execute_command", "parameters": {"command": "sleep 60"}}]}
    definition = api.post("/v1/definitions", spec)
    runs = [api.post(f"/v1/definitions/{definition['id']}/runs", {"priority": p})["run"]
            for p in ["high"] * 3 + ["low"]]
    wait_until(lambda: all(inspect(api, r)["next_action"] == "running" for r in runs[:3]))
    assert inspect(api, runs[3])["next_action"] == "claim_available"
    for run in runs:
        api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)


def test_a_claimed_run_without_a_heartbeat_for_two_minutes_is_stuck(own_server):
    claim = Client(own_server).claimed("any", lease_seconds=3600)
    aged(own_server, heartbeat_at=3 * MINUTE)
    api = Client(own_server)
    seen = inspect(api, claim["run"])
    assert codes(seen) == ["task_run_stuck"] and seen["next_action"] == "recovery_required"
    assert seen["current_run"]["heartbeat_age_seconds"] >= 180
    api.post(f"/v1/runs/{claim['run']['id']}/heartbeat", {"claim_token": claim["claim_token"]}, 200)
    assert inspect(api, claim["run"])["next_action"] == "running"


def test_another_workspace_sees_nothing(api, server, capability):
    claim = api.claimed(capability)
    other = Client(server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})
    stranger = Client(server, api.key_for(ref=capability, workspace_id=other["id"])["key"])
    run, task = claim["run"]["id"], claim["task"]["id"]
    for path in (f"/v1/runs/{run}/inspect", f"/v1/tasks/{task}/inspect", f"/v1/runs/{run}/context"):
        missing = path.replace(run, "run_0000000000001").replace(task, "task_0000000000001")
        theirs = stranger.problem("GET", path, 404, "not_found")
        assert {**theirs, "instance": 0} == {**stranger.problem("GET", missing, 404, "not_found"), "instance": 0}
    api.request("GET", f"/v1/runs/{run}/inspect", status=200)


def test_a_run_tells_what_it_used_and_when_it_was_last_active(api, capability):
    claim = api.claimed(capability)
    path, token = "/v1/runs/" + claim["run"]["id"], {"claim_token": claim["claim_token"]}
    seen = api.get(path)
    assert seen["last_activity_at"] == seen["claimed_at"] and "last_activity_at" not in claim["run"]
    assert seen["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_microusd": 0,
                             "steps": 0, "tool_calls": 0}
    api.post(path + "/heartbeat", token, 200)
    beaten = api.get(path)
    assert beaten["last_activity_at"] == beaten["heartbeat_at"] > seen["last_activity_at"]
    api.post(path + "/complete", token, 200)
    ended = api.get(path)
    assert ended["last_activity_at"] == ended["ended_at"] > beaten["last_activity_at"]


def test_a_step_that_begins_is_activity_of_its_run(api):
    spec = api.post("/v1/definitions", {"name": "s", "steps": [
        {"action": "noop"}, {"action": "execute_command", "parameters": {"command": "sleep 60"}}]})
    run = "/v1/runs/" + api.post(f"/v1/definitions/{spec['id']}/runs")["run"]["id"]
    wait_until(lambda: api.get(run + "/steps")["items"][1]["status"] == "running")
    seen = api.get(run)
    assert seen["usage"]["steps"] == 1
    assert seen["last_activity_at"] >= api.get(run + "/steps")["items"][1]["started_at"]
    api.post(run + "/cancel", {}, 200)
