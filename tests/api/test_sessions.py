"""Sessions: known by their keys, one live lease each, bound to runs, and over with their last key."""
import pytest
from conftest import Client, wait_until
from flows import events_of, run_of, types_of
from test_runs import holder


def key_of(api, session, **fields):
    return api.key_for(ref=session, session_id=session, workspace_id=api.session.headers["X-Workspace-ID"], **fields)


def session_of(api, session):
    """A client with a key that belongs to the session."""
    return Client(api.server, key_of(api, session)["key"])


def path_of(run, verb):
    return f"/v1/runs/{run['id']}/{verb}"


HOLDERS = [("start", {}), ("heartbeat", {}), ("complete", {"result": 1}), ("fail", {"error": "x"}), ("release", {})]


def test_a_session_works_on_its_run_without_showing_a_token(api, capability):
    session = session_of(api, capability)
    run = session.claimed(capability)["run"]
    assert run["session_id"] == capability
    assert session.post(path_of(run, "start"), {}, 200)["status"] == "running"
    assert session.post(path_of(run, "heartbeat"), {"lease_seconds": 60}, 200)["cancel_requested"] is False
    beat = session.post("/v1/runs/heartbeat", {"items": [{"run_id": run["id"]}]}, 200)["items"][0]
    assert beat["ok"] and beat["lease_until"]
    for _ in range(2):
        done = session.post(path_of(run, "complete"), {"result": {"n": 1}}, 200)
        assert done["status"] == "completed" and done["result"] == {"n": 1}
    other = session.claimed(capability)["run"]
    assert session.post("/v1/runs/complete", {"items": [{"run_id": other["id"], "result": 2}]}, 200)["items"][0]["ok"]


@pytest.mark.parametrize("verb,body", HOLDERS)
def test_given_the_run_of_one_session_when_another_calls_then_foreign_run_or_no_active_lease(api, capability, verb, body):
    first, second = (session_of(api, f"{capability}-{n}") for n in "ab")
    run = first.claimed(capability)["run"]
    second.problem("POST", path_of(run, verb), 409, "no_active_lease", body)
    second.claimed(capability)
    second.problem("POST", path_of(run, verb), 403, "foreign_run", body)
    assert run_of(api, run)["status"] == "claimed"


def test_a_session_without_its_run_is_told_so(api, capability):
    session = session_of(api, capability)
    run = session.claimed(capability, lease_seconds=1)["run"]
    wait_until(lambda: run_of(api, run)["status"] == "queued")
    session.problem("POST", path_of(run, "heartbeat"), 409, "no_active_lease")
    row = session.post("/v1/runs/heartbeat", {"items": [{"run_id": run["id"]}]}, 200)["items"][0]
    assert row["error"]["code"] == "no_active_lease"


@pytest.mark.parametrize("verb,body", HOLDERS)
def test_given_a_leased_run_when_a_human_calls_without_a_token_then_it_is_stale_and_no_token_is_told(api, capability, verb, body):
    claim = api.claimed(capability)
    answer = api.request("POST", path_of(claim["run"], verb), body, 409)
    assert answer.json()["code"] == "stale_claim_token" and "btk_" not in answer.text
    agent = Client(api.server, api.key_for(workspace_id=api.session.headers["X-Workspace-ID"])["key"])
    agent.problem("POST", path_of(claim["run"], verb), 401, "autonomy_session_required", body)
    assert run_of(api, claim["run"])["status"] == "claimed"


def test_the_run_of_another_workspace_is_not_there_for_a_session(api, capability):
    run = api.started()["run"]
    space = Client(api.server).post("/v1/workspaces", {"name": "other", "slug": "other-" + run["id"][-9:]})
    stranger = Client(api.server, api.key_for(session_id=capability, workspace_id=space["id"])["key"])
    stranger.problem("POST", path_of(run, "heartbeat"), 404, "not_found")
    stranger.problem("POST", path_of(run, "attach-session"), 404, "not_found")


# ---- attach ----

def test_a_session_is_attached_to_a_queued_run_by_a_claim(api, capability):
    run = api.started(required_capabilities=[capability])["run"]
    api.problem("POST", path_of(run, "attach-session"), 403, "permission_denied", {"session_id": capability})
    api.problem("POST", path_of(run, "attach-session"), 401, "autonomy_session_required", {"capabilities": [capability]})
    body = {"session_id": capability, "capabilities": [capability], "lease_seconds": 60}
    claim = api.post(path_of(run, "attach-session"), body, 200)["claims"][0]
    assert claim["run"]["status"] == "claimed" and claim["run"]["session_id"] == capability and claim["lease_until"]
    assert types_of(api, run) == ["run.queued", "run.claimed", "run.session_bound"]
    assert events_of(api, run)[-1]["payload"] == {"session_id": capability}
    assert claim["task"]["latest_sequence"] == events_of(api, run)[-1]["sequence"]
    assert session_of(api, capability).post(path_of(run, "complete"), {"result": 1}, 200)["status"] == "completed"


def test_who_holds_a_run_attaches_a_session_and_keeps_the_lease(api, capability):
    claim = api.claimed(capability)
    path = path_of(claim["run"], "attach-session")
    api.problem("POST", path, 409, "stale_claim_token", {"session_id": capability})
    bound = api.post(path, holder(claim, session_id=capability), 200)["claims"][0]
    assert bound["claim_token"] == claim["claim_token"] and bound["run"]["session_id"] == capability
    assert bound["run"]["epoch"] == 1 and bound["task"]["current_run_id"] == claim["run"]["id"]
    assert session_of(api, capability).post(path_of(claim["run"], "start"), {}, 200)["status"] == "running"
    assert api.post(path_of(claim["run"], "complete"), holder(claim), 200)["status"] == "completed"


def test_given_a_run_already_bound_when_another_session_is_attached_then_it_is_refused(api, capability):
    bound, free = api.claimed(capability, session_id=capability), api.claimed(capability)
    api.problem("POST", path_of(bound["run"], "attach-session"), 409, "session_already_bound",
                holder(bound, session_id="another"))
    api.problem("POST", path_of(free["run"], "attach-session"), 409, "session_attach_not_allowed",
                holder(free, session_id=capability))
    api.problem("POST", path_of(api.started()["run"], "attach-session"), 409, "session_attach_not_allowed",
                {"session_id": capability})
    assert "session_id" not in run_of(api, free["run"])
    api.post(path_of(free["run"], "complete"), holder(free), 200)
    api.problem("POST", path_of(free["run"], "attach-session"), 409, "invalid_transition", {"session_id": "another"})


def test_a_key_attaches_no_session_but_its_own(api, capability):
    session = session_of(api, capability)
    run = api.started()["run"]
    session.problem("POST", path_of(run, "attach-session"), 403, "permission_denied", {"session_id": "another"})
    assert session.post(path_of(run, "attach-session"), {}, 200)["claims"][0]["run"]["session_id"] == capability


# ---- the server starts and stops no sessions: it is told, and asks none for leave ----

@pytest.mark.parametrize("attempts,derived", [(1, "failed"), (2, "ready")])
def test_given_an_executor_that_fails_when_starting_then_the_run_failed_with_its_words_and_the_task_is_derived_again(api, capability, attempts, derived):
    session = session_of(api, capability)
    api.started(required_capabilities=[capability], max_attempts=attempts)
    run = session.claim(capabilities=[capability])[0]["run"]
    said = session.post(path_of(run, "fail"), {"error": "no session: out of memory"}, 200)
    assert said["status"] == "failed" and said["error"] == "no session: out of memory" and "started_at" not in said
    assert api.get("/v1/tasks/" + run["task_id"])["status"] == derived
    session.problem("POST", path_of(run, "start"), 409, "invalid_transition")


def test_given_a_session_that_refuses_to_stop_then_its_run_is_canceled_without_it_and_nothing_that_it_does_counts(api, capability):
    session = session_of(api, capability)
    run = session.claimed(capability)["run"]
    session.post(path_of(run, "start"), {}, 200)
    for verb, body in ("complete", {"result": 1}), ("fail", {"error": "x"}):  # of a leased run, by somebody else
        api.problem("POST", path_of(run, verb), 409, "stale_claim_token", body)
        assert run_of(api, run)["status"] == "running"
    assert api.post(path_of(run, "cancel"), {}, 200)["status"] == "canceled"
    told = types_of(api, run)
    for verb, body in HOLDERS:
        session.problem("POST", path_of(run, verb), 409, "invalid_transition", body)
    assert types_of(api, run) == told and run_of(api, run)["status"] == "canceled"
    session.claimed(capability)


# ---- the end of a session ----

def test_given_a_session_stops_while_holding_a_run_then_it_is_queued_again_and_others_are_not(api, capability):
    keys = [key_of(api, capability) for _ in range(2)]
    run = Client(api.server, keys[0]["key"]).claimed(capability)["run"]
    other = session_of(api, capability + "-other").claimed(capability)["run"]
    api.request("DELETE", "/v1/keys/" + keys[1]["id"], status=204)
    assert run_of(api, run)["status"] == "claimed"
    api.request("DELETE", "/v1/keys/" + keys[0]["id"], status=204)
    shown = run_of(api, run)
    assert shown["status"] == "queued" and shown["queued_at"] == run["queued_at"] and "session_id" not in shown
    assert events_of(api, run)[-1]["type"] == "run.released"
    assert events_of(api, run)[-1]["payload"] == {"reason": "session_ended"}
    assert run_of(api, other)["status"] == "claimed"


def test_given_boot_with_runs_of_sessions_then_a_living_one_keeps_its_run_and_that_of_a_gone_one_is_queued_never_failed(own_server):
    api = Client(own_server)
    keys = {name: api.key_for(ref=name, session_id=name)["key"] for name in ("living", "gone")}
    claims = {}
    for name, key in keys.items():
        claims[name] = Client(own_server, key).claimed(name, lease_seconds=2 if name == "gone" else 60)["run"]
        Client(own_server, key).post(path_of(claims[name], "start"), {}, 200)
    before = {name: types_of(api, run) for name, run in claims.items()}
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    wait_until(lambda: run_of(api, claims["gone"])["status"] == "queued", 20)
    assert types_of(api, claims["gone"]) == before["gone"] + ["run.lease_expired"]
    assert run_of(api, claims["gone"])["recoveries"] == 1
    assert types_of(api, claims["living"]) == before["living"]
    done = Client(own_server, keys["living"]).post(path_of(claims["living"], "complete"), {"result": 1}, 200)
    assert done["status"] == "completed" and done["epoch"] == 1
