"""Who holds a run, until when, and what is left of it."""
import concurrent.futures
import datetime
import time

from conftest import SLOW, Client, wait_until


def holder(claim, **fields):
    return {"claim_token": claim["claim_token"], **fields}


def path_of(claim):
    return "/v1/runs/" + claim["run"]["id"]


def until(run):
    return datetime.datetime.fromisoformat(run["lease_until"]).timestamp()


def test_given_the_run_of_a_workspace_when_a_claimer_of_another_or_of_global_tasks_asks_then_nothing(api, capability):
    api.started(required_capabilities=[capability])
    other = api.post("/v1/workspaces", {"name": "other " + capability})["id"]
    stranger = Client(api.server, api.key_for(ref="stranger", workspace_id=other)["key"])
    everybody = Client(api.server, headers={"X-Workspace-ID": "00000000-0000-0000-0000-000000000000"})
    assert stranger.claim(capabilities=[capability]) == [] == everybody.claim(capabilities=[capability])
    assert len(api.claim(capabilities=[capability])) == 1


def test_given_a_lease_when_a_heartbeat_shows_another_token_then_the_lease_ends_when_it_would_have(api, capability):
    claim = api.claimed(capability)
    api.problem("POST", path_of(claim) + "/heartbeat", 409, "stale_claim_token", {"claim_token": "x", "lease_seconds": 600})
    assert abs(until(api.get(path_of(claim))) - until(claim)) < 1


def test_given_a_heartbeat_with_two_minutes_then_the_lease_ends_then_even_if_it_would_have_ended_later(api, capability):
    claim = api.claimed(capability, lease_seconds=3600)
    before = time.time()
    beat = api.post(path_of(claim) + "/heartbeat", holder(claim, lease_seconds=120), 200)
    assert before + 119 <= until(beat) <= time.time() + 121
    assert abs(until(api.get(path_of(claim))) - until(beat)) < 1


def test_given_a_session_whose_lease_is_over_when_it_claims_again_then_it_may(api, capability):
    first = api.claimed(capability, session_id=capability, lease_seconds=1)
    api.started(required_capabilities=[capability + "-b"])
    claim = {"capabilities": [capability + "-b"], "session_id": capability}
    api.problem("POST", "/v1/runs/claim", 409, "active_lease_exists", claim)
    wait_until(lambda: api.request("POST", "/v1/runs/claim", claim).status_code == 200, 10)
    wait_until(lambda: api.get(path_of(first))["status"] == "queued", 10)


def test_given_release_complete_and_fail_at_once_then_one_wins_and_a_later_heartbeat_fails(api, capability):
    clients = [api.again() for _ in range(3)]
    bodies = ("release", {}), ("complete", {"result": 1}), ("fail", {"error": "no"})
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            claim = api.claimed(capability)
            answers = list(pool.map(lambda n: clients[n].request(
                "POST", f"{path_of(claim)}/{bodies[n][0]}", holder(claim, **bodies[n][1]), timeout=20 * SLOW), range(3)))
            assert sorted(a.status_code for a in answers) == [200, 409, 409], [a.text for a in answers]
            assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"stale_claim_token", "invalid_transition"}
            late = api.request("POST", path_of(claim) + "/heartbeat", holder(claim))
            assert late.status_code == 409
            if answers[0].status_code == 200:
                api.post(path_of(claim) + "/cancel", {}, 200)


def test_given_a_completed_run_then_its_token_is_nowhere_in_the_store_and_its_hash_still_is(own_server):
    api = Client(own_server)
    claim = api.claimed("keeps")
    done = api.request("POST", path_of(claim) + "/complete", holder(claim, result=1), 200)
    assert claim["claim_token"] not in done.text + api.request("GET", path_of(claim)).text
    assert api.get(path_of(claim))["claim_token_hash"]
    own_server.stop()
    for file in own_server.data.iterdir():
        assert not file.is_file() or claim["claim_token"].encode() not in file.read_bytes(), file


def test_given_a_failed_run_with_attempts_left_then_its_task_is_ready_and_not_closed(api, capability):
    claim = api.claimed(capability)
    api.post(path_of(claim) + "/fail", holder(claim, error="no"), 200)
    task = api.get("/v1/tasks/" + claim["task"]["id"])
    assert task["status"] == "ready" and "closed_at" not in task
