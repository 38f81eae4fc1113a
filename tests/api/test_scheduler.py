"""The scheduler's switch: pause, resume, drain, backlog, on a server of its own, for it is everybody's."""
import re
import threading
import time

import pytest
import requests
from conftest import Client, wait_until
from flows import define, noop, reaches


@pytest.fixture
def api(own_server):
    return Client(own_server)


def pause(api, **body):
    return api.post("/v1/scheduler/pause", body, 200)


def resume(api, **body):
    return api.post("/v1/scheduler/resume", body, 200)


def drain(api, **body):
    return api.post("/v1/scheduler/drain", body, 200)


def status(api):
    return api.get("/v1/scheduler")


def events(api):
    return [e["type"].removeprefix("scheduler.") for e in api.get("/v1/scheduler/events")["items"]]


def finish(api, claim):
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)


def background(call, *args, **fields):
    """The thread that calls, and the list that its answer comes into."""
    got = []
    thread = threading.Thread(target=lambda: got.append(call(*args, **fields)))
    thread.start()
    return thread, got


def bound_key(api, **fields):
    space = api.post("/v1/workspaces", {"name": "tenant"})
    key = api.key_for(workspace_id=space["id"], **fields)["key"]
    return Client(api.server, key)


def test_given_the_scheduler_is_paused_when_claiming_then_nothing_even_for_urgent_runs(api):
    run = api.started(priority="urgent")["run"]
    pause(api, reason="release")
    assert api.claim(max=10) == []
    api.problem("POST", f"/v1/runs/{run['id']}/claim", 409, "invalid_transition", {})
    resume(api)
    assert [c["run"]["id"] for c in api.claim(max=10)] == [run["id"]]


def test_a_pause_says_who_when_and_why_and_is_made_once(api):
    assert not status(api)["paused"] and "paused_by" not in status(api)
    first = pause(api, reason="release 7", metadata={"ticket": 7})
    assert first["paused"] and first["paused_reason"] == "release 7" and first["paused_at"]
    assert first["paused_by"] == {"kind": "human", "ref": "admin"}
    again = pause(api, reason="another")
    assert {k: again[k] for k in again if k != "as_of"} == {k: first[k] for k in first if k != "as_of"}
    assert not resume(api, reason="done")["paused"]
    assert not resume(api)["paused"]
    assert events(api) == ["paused", "resumed"]
    page = api.get("/v1/scheduler/events")["items"]
    assert [e["sequence"] for e in page] == [1, 2] and page[0]["actor"]["ref"] == "admin"
    assert page[0]["payload"] == {"reason": "release 7", "metadata": {"ticket": 7}}


def test_explain_says_that_the_scheduler_is_paused_and_why(api):
    run = api.started()["run"]
    pause(api, reason="release")
    reasons = api.get(f"/v1/runs/{run['id']}/explain")["reasons"]
    assert [r["code"] for r in reasons] == ["scheduler_paused"] and "release" in reasons[0]["detail"]
    resume(api)
    reasons = api.get(f"/v1/runs/{run['id']}/explain")["reasons"]
    assert [r["code"] for r in reasons] == ["no_claimer"]


def test_given_the_scheduler_is_paused_then_expired_leases_are_swept_and_a_restart_keeps_the_pause(api):
    api.started()
    claim = api.claim(lease_seconds=1)[0]
    pause(api, reason="kept")
    wait_until(lambda: api.get("/v1/runs/" + claim["run"]["id"])["status"] == "queued")
    api.server.kill()
    api.server.start()
    api = Client(api.server)
    assert status(api)["paused"] and status(api)["paused_reason"] == "kept"
    assert api.claim() == []
    resume(api)
    api.server.kill()
    api.server.start()
    api = Client(api.server)
    assert not status(api)["paused"]
    assert api.claim()[0]["run"]["id"] == claim["run"]["id"]


def test_the_built_in_worker_stands_still_and_goes_on_at_once(api):
    made = define(api, noop(1))
    pause(api)
    run = api.post(f"/v1/definitions/{made['id']}/runs", {})["run"]
    time.sleep(0.7)  # some ticks
    assert api.get("/v1/runs/" + run["id"])["status"] == "queued"
    resume(api)
    reaches(api, run, "completed")


def calls_served(api):
    text = api.request("GET", "/metrics", status=200).text
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("baton_calls_total ")))


def test_waiting_claims_get_the_runs_at_the_moment_of_the_resume_first_come_first_served(api):
    pause(api)
    waiters = []
    for _ in range(3):
        before = calls_served(api)
        waiters.append(background(Client(api.server).claim, wait_seconds=60))
        wait_until(lambda: calls_served(api) > before)  # it stands in line before the next one comes
    made = [api.started()["run"]["id"] for _ in waiters]
    began = time.monotonic()
    resume(api)
    for thread, _ in waiters:
        thread.join()
    assert time.monotonic() - began < 30
    assert [got[0][0]["run"]["id"] for _, got in waiters] == made


def test_a_claim_that_waits_while_paused_ends_with_nothing_when_its_time_is_over(api):
    pause(api)
    api.started()
    began = time.monotonic()
    assert api.claim(wait_seconds=1) == []
    assert time.monotonic() - began >= 0.9


def test_a_drain_waits_for_the_last_claim_and_leaves_the_scheduler_paused(api):
    for _ in range(3):
        api.started()
    claims = api.claim(max=2)
    thread, got = background(drain, Client(api.server), reason="release")
    wait_until(lambda: status(api)["paused"])
    assert api.claim() == [] and status(api)["active_claim_count"] == 2
    for claim in claims:
        assert not got
        finish(api, claim)
    thread.join()
    answer = got[0]
    assert answer["completed"] and not answer["timed_out"] and answer["remaining_claims"] == 0
    assert answer["completed_at"] >= answer["started_at"]
    assert answer["scheduler"]["paused"] and answer["scheduler"]["paused_reason"] == "release"
    assert status(api)["paused"] and status(api)["queued_run_count"] == 1
    assert events(api) == ["paused", "drain_started", "drain_completed"]


def test_given_a_drain_whose_time_is_over_then_it_timed_out_with_the_remaining_count(api):
    api.started()
    claim = api.claim()[0]
    answer = drain(api, timeout_seconds=1)
    assert answer["timed_out"] and not answer["completed"] and answer["remaining_claims"] == 1
    assert drain(api, timeout_seconds=0)["timed_out"]
    finish(api, claim)
    answer = drain(api, timeout_seconds=0)
    assert answer["completed"] and not answer["timed_out"] and answer["scheduler"]["paused"]


def test_given_a_drain_and_a_client_that_leaves_then_the_drain_finishes_and_the_pause_remains(api):
    api.started()
    claim = api.claim()[0]
    with pytest.raises(requests.Timeout):
        Client(api.server).request("POST", "/v1/scheduler/drain", {}, timeout=0.5)
    assert events(api) == ["paused", "drain_started"]
    finish(api, claim)
    wait_until(lambda: events(api) == ["paused", "drain_started", "drain_completed"])
    last = api.get("/v1/scheduler/events")["items"][-1]
    assert last["payload"] == {"completed": True, "timed_out": False, "remaining_claims": 0}
    assert last["actor"] == {"kind": "daemon", "ref": "baton"} and status(api)["paused"]


def test_a_drain_goes_on_after_a_restart(api):
    api.started()
    claim = api.claim(lease_seconds=600)[0]

    def cut_off():
        with pytest.raises(requests.ConnectionError):
            drain(Client(api.server))

    thread, _ = background(cut_off)
    wait_until(lambda: "drain_started" in events(api))
    api.server.kill()
    thread.join()
    api.server.start()
    api = Client(api.server)
    assert events(api) == ["paused", "drain_started"]
    finish(api, claim)
    wait_until(lambda: events(api) == ["paused", "drain_started", "drain_completed"])


def test_a_resume_ends_a_drain_that_is_under_way(api):
    api.started()
    api.claim()
    thread, got = background(drain, Client(api.server))
    wait_until(lambda: status(api)["paused"])
    resume(api)
    thread.join()
    assert not got[0]["completed"] and not got[0]["timed_out"] and got[0]["remaining_claims"] == 1
    assert not got[0]["scheduler"]["paused"]
    assert events(api) == ["paused", "drain_started", "drain_completed", "resumed"]


def test_drains_at_the_same_time_end_each_for_itself(api):
    api.started()
    claim = api.claim()[0]
    long, got = background(drain, Client(api.server), timeout_seconds=600)
    assert drain(Client(api.server), timeout_seconds=1)["timed_out"]
    assert not got
    finish(api, claim)
    long.join()
    assert got[0]["completed"]


def test_the_time_of_a_drain_has_bounds(api):
    for wrong in (-1, 86401):
        problem = api.problem("POST", "/v1/scheduler/drain", 400, "validation_failed", {"timeout_seconds": wrong})
        assert problem["field"] == "timeout_seconds"
    assert not status(api)["paused"]


def test_the_status_counts_what_waits_and_what_is_held(api):
    api.started()
    api.claim()
    held = api.started()
    api.post(f"/v1/tasks/{held['task']['id']}/pause", {"reason": "lunch"}, 200)
    api.started()
    counts = status(api)
    assert (counts["active_claim_count"], counts["queued_run_count"], counts["paused_task_count"]) == (1, 2, 1)
    assert counts["starved_run_count"] == counts["needs_attention_run_count"] == 0 and counts["as_of"]


def test_the_backlog_is_in_the_order_of_urgency_and_leaves_paused_runs_out_unless_asked(api):
    low = api.started(priority="low")
    first, second = api.started(title="first"), api.started(title="second", required_capabilities=["x"])
    held = api.started(priority="high")
    api.post(f"/v1/tasks/{held['task']['id']}/pause", {"reason": "lunch"}, 200)
    urgent = api.started(priority="urgent")

    def look(query=""):
        page = api.get("/v1/scheduler/backlog" + query)
        return [i["run"]["id"] for i in page["items"]], page["total"]

    ids = [made["run"]["id"] for made in (urgent, held, first, second, low)]
    assert look() == (ids[:1] + ids[2:], 4)
    assert look("?include_paused=true") == (ids, 5)
    assert look("?limit=2") == ([ids[0], ids[2]], 4)
    item = api.get("/v1/scheduler/backlog?limit=1")["items"][0]
    assert item["task"]["id"] == item["run"]["task_id"] and item["run"]["status"] == "queued"
    api.problem("GET", "/v1/scheduler/backlog?limit=501", 400, "validation_failed")
    waits = api.task()
    api.post(f"/v1/tasks/{waits['id']}/dependencies", {"depends_on_task_id": low["task"]["id"]})
    blocked = api.post(f"/v1/tasks/{waits['id']}/runs")
    assert look() == ([urgent["run"]["id"], first["run"]["id"], second["run"]["id"], blocked["id"],
                       low["run"]["id"]], 5)
    pause(api)
    assert look()[1] == 5
    for _ in range(6):
        api.started(priority="low")
    assert look("?limit=3")[0] == [urgent["run"]["id"], first["run"]["id"], second["run"]["id"]]


def test_a_key_of_one_workspace_sees_its_own_numbers_and_moves_nothing(api):
    admin = bound_key(api, scopes=["admin", "tasks:write", "tasks:read", "runs:claim"])
    mine = admin.started()["run"]
    api.started()
    assert status(api)["queued_run_count"] == 2 and status(admin)["queued_run_count"] == 1
    other = Client(api.server, headers={"X-Workspace-ID": "tenant"})
    assert status(other)["queued_run_count"] == 1
    assert [i["run"]["id"] for i in admin.get("/v1/scheduler/backlog")["items"]] == [mine["id"]]
    assert api.get("/v1/scheduler/backlog?workspace=tenant")["items"][0]["run"]["id"] == mine["id"]
    admin.problem("GET", "/v1/scheduler/backlog?workspace=default", 404, "not_found")
    for verb in ("pause", "resume", "drain"):
        admin.problem("POST", f"/v1/scheduler/{verb}", 403, "permission_denied", {})
    admin.problem("GET", "/v1/scheduler/events", 403, "permission_denied")
    pause(api, reason="everybody rests")
    assert status(admin)["paused"] and admin.claim() == []


def test_the_scheduler_needs_the_scope_admin(api):
    agent = Client(api.server, api.key_for()["key"])
    for path in ("", "/backlog", "/events"):
        agent.problem("GET", "/v1/scheduler" + path, 403, "permission_denied")
    for verb in ("pause", "resume", "drain"):
        agent.problem("POST", f"/v1/scheduler/{verb}", 403, "permission_denied", {})
    assert events(api) == []


def test_the_metrics_say_that_it_is_paused(api):
    gauge = lambda: "\nbaton_scheduler_paused 1\n" in api.request("GET", "/metrics", status=200).text
    assert not gauge()
    pause(api)
    assert gauge()


def test_a_keyed_pause_is_answered_as_the_first_time(api):
    headers = {"Idempotency-Key": "once"}
    first = api.request("POST", "/v1/scheduler/pause", {}, 200, headers=headers).json()
    resume(api)
    assert api.request("POST", "/v1/scheduler/pause", {}, 200, headers=headers).json() == first
    assert not status(api)["paused"]


def test_pauses_and_claims_at_the_same_time_leave_no_claim_behind_a_pause(api):
    for _ in range(60):
        api.started()
    stop = threading.Event()

    def take():
        other, taken = Client(api.server), []
        while not stop.is_set():
            taken += [c["run"]["id"] for c in other.claim(max=1)]
        return taken

    threads = [background(take) for _ in range(4)]
    wait_until(lambda: status(api)["active_claim_count"] > 0)
    paused = pause(api)["active_claim_count"]
    time.sleep(0.3)
    assert status(api)["active_claim_count"] == paused
    resume(api)
    wait_until(lambda: status(api)["active_claim_count"] == 60)
    stop.set()
    for thread, _ in threads:
        thread.join()
    taken = [run for _, got in threads for run in got[0]]
    assert len(taken) == len(set(taken)) == 60


def test_the_metrics_tell_how_long_turns_held_the_writer(api):
    api.task()
    text = api.request("GET", "/metrics", status=200).text
    counts = [int(n) for n in re.findall(r'baton_writer_turn_seconds_bucket\{le="[^"]+"\} (\d+)', text)]
    assert len(counts) == 11 and counts == sorted(counts) and counts[-1] > 0
    assert f"\nbaton_writer_turn_seconds_count {counts[-1]}\n" in text
    assert float(re.search(r"\nbaton_writer_turn_seconds_sum (\S+)", text)[1]) > 0
