import concurrent.futures
import socket
import time

from conftest import SLOW, Client, wait_until


def holder(claim, **fields):
    return {"claim_token": claim["claim_token"], **fields}


def test_a_run_goes_from_claim_to_completion(api, capability):
    claim = api.claimed(capability)
    path = "/v1/runs/" + claim["run"]["id"]
    assert claim["run"]["status"] == "claimed" and claim["run"]["epoch"] == 1
    assert api.post(path + "/start", holder(claim), 200)["status"] == "running"
    assert api.get("/v1/tasks/" + claim["task"]["id"])["status"] == "in_progress"
    beat = api.post(path + "/heartbeat", holder(claim, lease_seconds=600), 200)
    assert beat["cancel_requested"] is False and beat["lease_until"] > claim["lease_until"]
    done = api.post(path + "/complete", holder(claim, result={"n": 1}), 200)
    assert done["status"] == "completed" and done["result"] == {"n": 1}
    assert api.get("/v1/tasks/" + claim["task"]["id"])["status"] == "completed"
    types = [e["type"] for e in api.get(path + "/events")["items"]]
    assert types == ["run.queued", "run.claimed", "run.starting", "run.started", "run.completed"]


def test_a_run_is_also_a_task_run(api):
    run = api.started()["run"]["id"]
    assert api.get("/v1/task-runs/" + run) == api.get("/v1/runs/" + run)
    for verb, path in [("GET", "/v1/task-runs/run_0000000000001"), ("GET", "/v1/task-runs/x"), ("POST", "/v1/task-runs/" + run)]:
        assert api.request(verb, path, {} if verb == "POST" else None).status_code == (405 if verb == "POST" else 404)
    stranger = Client(api.server, api.key_for(workspace_id=api.post("/v1/workspaces", {"name": "stranger"})["id"])["key"])
    stranger.problem("GET", "/v1/task-runs/" + run, 404, "not_found")


def test_completion_is_repeatable_only_identically(api, capability):
    claim = api.claimed(capability)
    path = f"/v1/runs/{claim['run']['id']}/complete"
    api.post(path, holder(claim, result={"n": 1}), 200)
    assert api.post(path, holder(claim, result={"n": 1}), 200)["status"] == "completed"
    api.problem("POST", path, 409, "invalid_transition", holder(claim, result={"n": 2}))


def test_nothing_moves_without_the_current_token(api, capability):
    claim = api.claimed(capability)
    path = "/v1/runs/" + claim["run"]["id"]
    api.post(path + "/release", holder(claim), 200)
    for verb, body in [("start", {}), ("heartbeat", {}), ("complete", {"result": 1}),
                       ("fail", {"error": "x"}), ("release", {})]:
        api.problem("POST", f"{path}/{verb}", 409, "stale_claim_token", holder(claim, **body))
        api.problem("POST", f"{path}/{verb}", 409, "stale_claim_token",
                    {"claim_token": "nonsense", **body})
    second = api.claim(capabilities=[capability])[0]
    assert second["run"]["epoch"] == 2 and second["claim_token"] != claim["claim_token"]
    api.problem("POST", path + "/complete", 409, "stale_claim_token", holder(claim, result=1))
    assert api.get(path)["status"] == "claimed"


def test_a_token_works_only_for_whom_it_was_given_to(api, capability):
    claim = api.claimed(capability)
    space = api.session.headers["X-Workspace-ID"]
    thief = Client(api.server, api.key_for(ref="thief", workspace_id=space)["key"])
    path = "/v1/runs/" + claim["run"]["id"]
    for verb, body in [("start", {}), ("heartbeat", {}), ("complete", {"result": 1}),
                       ("fail", {"error": "x"}), ("release", {})]:
        thief.problem("POST", f"{path}/{verb}", 403, "foreign_run", holder(claim, **body))
    api.post(path + "/complete", holder(claim, result=1), 200)
    thief.problem("POST", path + "/complete", 403, "foreign_run", holder(claim, result=1))


def test_a_run_that_begins_again_starts_anew(api, capability):
    claim = api.claimed(capability)
    path = "/v1/runs/" + claim["run"]["id"]
    api.post(path + "/start", holder(claim), 200)
    assert "started_at" not in api.post(path + "/release", holder(claim), 200)
    again = api.claim(capabilities=[capability])[0]
    api.post(path + "/start", holder(again), 200)
    assert api.get(path + "/events")["items"][-1]["type"] == "run.started"


def test_the_token_may_stand_in_a_header_and_never_in_a_result(api, capability):
    claim = api.claimed(capability)
    path = f"/v1/runs/{claim['run']['id']}/complete"
    api.problem("POST", path, 400, "validation_failed",
                holder(claim, result={"a": [{"claim_token": "x"}]}))
    api.problem("POST", path, 400, "validation_failed", holder(claim, result={"a": {"Claim_Token": 1}}))
    kept = {"field": "claim_token", "text": '"claim_token":'}
    assert api.post(path, holder(claim, result=kept), 200)["result"] == kept
    claim = api.claimed(capability)
    path = f"/v1/runs/{claim['run']['id']}/complete"
    done = api.request("POST", path, {"result": 1}, 200,
                       headers={"X-Claim-Token": claim["claim_token"]})
    assert claim["claim_token"] not in done.text


def test_an_expired_lease_is_offered_again_at_its_place(own_server):
    api = Client(own_server)
    first, second = api.started(), api.started()
    claim = api.claim(lease_seconds=1)[0]
    path = "/v1/runs/" + claim["run"]["id"]
    wait_until(lambda: api.get(path)["status"] == "queued", 5)
    api.problem("POST", path + "/heartbeat", 409, "stale_claim_token", holder(claim))
    run = api.get(path)
    assert run["recoveries"] == 1 and run["queued_at"] == claim["run"]["queued_at"]
    again = api.claim()[0]
    assert again["run"]["id"] == first["run"]["id"] != second["run"]["id"]


def test_a_session_holds_one_live_lease(api, capability):
    api.started(required_capabilities=[capability])
    api.started(required_capabilities=[capability])
    claim = api.claim(capabilities=[capability], session_id=capability, max=10)
    assert len(claim) == 1
    api.problem("POST", "/v1/runs/claim", 409, "active_lease_exists",
                {"capabilities": [capability], "session_id": capability})
    api.post(f"/v1/runs/{claim[0]['run']['id']}/release", holder(claim[0]), 200)
    assert len(api.claim(capabilities=[capability], session_id=capability)) == 1


def test_capabilities_priority_and_order_decide_who_gets_what(own_server):
    api = Client(own_server)
    low, urgent = api.started(priority="low"), api.started(priority="urgent")
    needs = api.started(priority="urgent", required_capabilities=["a", "b"])
    assert [c["run"]["id"] for c in api.claim(max=10, capabilities=["a"])] == [
        urgent["run"]["id"], low["run"]["id"]]
    assert api.claim(capabilities=["a", "c"]) == []
    assert api.claim(capabilities=["a", "b", "c"])[0]["run"]["id"] == needs["run"]["id"]


def test_a_waiting_claim_is_answered_when_work_comes(api, capability):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(api.claim, capabilities=[capability], wait_seconds=10)
        time.sleep(0.2)
        made = api.again().started(required_capabilities=[capability])
        assert waiting.result(5)[0]["run"]["id"] == made["run"]["id"]


def test_a_waiting_claim_that_is_refused_leaves_the_run_to_the_next(api, capability):
    """The first in line is woken, but its session has taken another run while it waited."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(api.again().problem, "POST", "/v1/runs/claim", 409, "active_lease_exists",
                            {"capabilities": [capability], "session_id": capability, "wait_seconds": 30})
        time.sleep(0.3)
        second = pool.submit(api.again().claim, capabilities=[capability], wait_seconds=20)
        time.sleep(0.3)
        other = api.started(required_capabilities=[capability + "-other"])["run"]["id"]
        api.post(f"/v1/runs/{other}/claim", {"capabilities": [capability + "-other"], "session_id": capability}, 200)
        made = api.started(required_capabilities=[capability])["run"]["id"]
        assert [c["run"]["id"] for c in second.result(5)] == [made]
        first.result(5)


def test_a_waiting_claim_that_takes_a_better_run_leaves_its_own_to_the_next(api, capability):
    """The second in line is woken for the worse run and takes the better one, for which the first was woken."""
    worse, better = capability + "-worse", capability + "-better"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = []
        for capabilities in [better], [worse, better], [worse]:
            waiting.append(pool.submit(api.again().claim, capabilities=capabilities, wait_seconds=15))
            time.sleep(0.3)
        api.post("/v1/tasks/batch", {"items": [
            {"title": "a", "start": True, "priority": "urgent", "required_capabilities": [better]},
            {"title": "b", "start": True, "priority": "low", "required_capabilities": [worse]}]}, 200)
        began = time.monotonic()
        concurrent.futures.wait([w for w in waiting[1:]], timeout=5)
        assert [w.done() for w in waiting].count(True) == 2 and time.monotonic() - began < 5
        api.started(required_capabilities=[better])
        api.started(required_capabilities=[worse])
        assert sum(len(w.result(5)) for w in waiting) == 3


def test_a_result_is_the_same_whatever_the_order_of_its_members(api, capability):
    claim = api.claimed(capability)
    path = f"/v1/runs/{claim['run']['id']}/complete"
    result = {"a": 1, "b": {"c": [1, 2], "d": None}}
    first = api.post(path, holder(claim, result=result), 200)
    assert api.post(path, holder(claim, result={"b": {"d": None, "c": [1, 2]}, "a": 1}), 200) == first
    item = {"run_id": claim["run"]["id"], "claim_token": claim["claim_token"], "result": {"b": result["b"], "a": 1}}
    assert api.post("/v1/runs/complete", {"items": [item]}, 200)["items"] == [{"ok": True, "run": first}]
    for other in ({**result, "a": 2}, {"a": 1, "b": {"c": [2, 1], "d": None}}, {"a": 1}, None):
        assert api.request("POST", path, holder(claim, result=other)).status_code == 409
    assert api.request("POST", path, holder(claim)).status_code == 409


def test_a_batch_has_one_to_a_hundred_items(api, capability):
    item = {"run_id": "run_0000000000001", "claim_token": "x"}
    for path in ("/v1/runs/complete", "/v1/runs/heartbeat"):
        api.problem("POST", path, 400, "validation_failed", {"items": []})
        problem = api.problem("POST", path, 422, "bulk_too_large", {"items": [item] * 101})
        assert (problem["limit"], problem["actual"]) == (100, 101)
        assert len(api.post(path, {"items": [item] * 100}, 200)["items"]) == 100


def test_an_item_that_is_no_completion_leaves_the_others(api, capability):
    made = [api.started(required_capabilities=[capability])["run"] for _ in range(3)]
    claims = {c["run"]["id"]: c["claim_token"] for c in api.claim(capabilities=[capability], max=3)}
    items = [{"run_id": r["id"], "claim_token": claims[r["id"]]} for r in made]
    items[1]["result"] = "x" * 70000
    answer = api.post("/v1/runs/complete", {"items": [*items, {"run_id": "zzz"}, {"claim_token": "x"}]}, 200)["items"]
    assert [item["ok"] for item in answer] == [True, False, True, False, False]
    assert [item["error"]["code"] for item in answer if not item["ok"]] == ["payload_too_large", "validation_failed", "validation_failed"]
    assert [api.get("/v1/runs/" + r["id"])["status"] for r in made] == ["completed", "claimed", "completed"]
    beats = api.post("/v1/runs/heartbeat", {"items": [items[1] | {"result": 1}, {"run_id": made[1]["id"], "claim_token": items[1]["claim_token"]}]}, 200)
    assert [item["ok"] for item in beats["items"]] == [False, True]


def test_a_claim_names_a_workspace_by_id_or_slug(api, capability):
    api.started(required_capabilities=[capability])
    for wrong in "nope", "01234567-89ab-cdef-0123-456789abcdef":
        api.problem("POST", "/v1/runs/claim", 404, "not_found", {"capabilities": [capability], "workspace_id": wrong})
    slug = api.get("/v1/workspaces/" + api.session.headers["X-Workspace-ID"])["slug"]
    assert len(api.claim(capabilities=[capability], workspace_id=slug)) == 1


def test_a_waiting_claim_ends_with_204(api, capability):
    began = time.monotonic()
    api.request("POST", "/v1/runs/claim", {"capabilities": [capability], "wait_seconds": 1}, 204)
    assert 0.9 < time.monotonic() - began < 2 + SLOW


def raw_claim(api, capability):
    """A waiting claim as bytes, for clients that leave."""
    body = '{"capabilities":["%s"],"wait_seconds":30,"lease_seconds":3600}' % capability
    head = (f"POST /v1/runs/claim HTTP/1.1\r\nHost: {api.server.address}\r\n"
            f"X-Workspace-ID: {api.session.headers['X-Workspace-ID']}\r\n"
            f"Authorization: Bearer {api.server.key}\r\nContent-Length: {len(body)}\r\n\r\n")
    return (head + body).encode()


def connection(api):
    host, port = api.server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def test_a_vanished_waiter_takes_nothing_with_it(api, capability):
    assert api.server.raw(raw_claim(api, capability), seconds=0.3) == b""
    time.sleep(0.2)
    made = api.started(required_capabilities=[capability])
    assert api.claim(capabilities=[capability])[0]["run"]["id"] == made["run"]["id"]


def test_a_claim_whose_answer_was_not_read_goes_back(api, capability):
    run = api.started(required_capabilities=[capability])["run"]["id"]
    with connection(api) as s:
        s.sendall(raw_claim(api, capability))
        assert s.recv(1, socket.MSG_PEEK) == b"H"
        assert api.get(f"/v1/runs/{run}")["status"] == "claimed"
    got = api.claim(capabilities=[capability], wait_seconds=5)
    assert [c["run"]["id"] for c in got] == [run] and got[0]["run"]["recoveries"] == 0


def test_a_claim_whose_answer_was_read_stays(api, capability):
    run = api.started(required_capabilities=[capability])["run"]["id"]
    with connection(api) as s:
        s.sendall(raw_claim(api, capability))
        assert b"claim_token" in s.recv(65536)
    assert api.claim(capabilities=[capability], wait_seconds=1) == []
    assert api.get(f"/v1/runs/{run}")["status"] == "claimed"


def test_a_claim_that_could_not_be_delivered_goes_back(api, capability):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(30):
            with connection(api) as s:
                s.sendall(raw_claim(api, capability))
                made = pool.submit(api.again().started, required_capabilities=[capability])
            run = made.result(5)["run"]["id"]
            got = api.claim(capabilities=[capability], wait_seconds=5)
            assert [c["run"]["id"] for c in got] == [run] and got[0]["run"]["recoveries"] == 0
            api.post(f"/v1/runs/{run}/complete", holder(got[0]), 200)


def test_each_run_is_handed_out_once(api, capability):
    items = [{"title": "x", "start": True, "required_capabilities": [capability]}] * 200
    api.post("/v1/tasks/batch", {"items": items}, 200)

    def drain(_):
        client, ids = api.again(), []
        while claims := client.claim(capabilities=[capability], max=7):
            ids += [c["run"]["id"] for c in claims]
        return ids

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = sum(pool.map(drain, range(8)), [])
    assert len(ids) == 200 == len(set(ids))


def test_batches_of_holders_answer_each_item(api, capability):
    for _ in range(2):
        api.started(required_capabilities=[capability])
    claims = api.claim(capabilities=[capability], max=2)
    items = [{"run_id": c["run"]["id"], "claim_token": c["claim_token"]} for c in claims]
    beats = api.post("/v1/runs/heartbeat", {"items": items}, 200)["items"]
    assert all(b["ok"] and b["lease_until"] for b in beats)
    items[1]["claim_token"] = "wrong"
    done = api.post("/v1/runs/complete", {"items": items}, 200)["items"]
    assert done[0]["run"]["status"] == "completed"
    assert done[1]["error"]["code"] == "stale_claim_token"


def test_claim_by_id_obeys_the_same_rules(api, capability):
    made = api.started(required_capabilities=[capability])
    path = f"/v1/runs/{made['run']['id']}/claim"
    api.problem("POST", path, 403, "permission_denied", {})
    assert api.post(path, {"capabilities": [capability]}, 200)["claims"][0]["claim_token"]
    api.problem("POST", path, 409, "lease_already_held", {"capabilities": [capability]})


def test_retry_of_a_run_makes_a_new_row(api, capability):
    claim = api.claimed(capability)
    path = "/v1/runs/" + claim["run"]["id"]
    api.problem("POST", path + "/retry", 409, "invalid_transition", {})
    api.post(path + "/fail", holder(claim, error="broken", kind="transient"), 200)
    both = api.post(path + "/retry")
    assert both["previous_run"]["failure_kind"] == "transient"
    assert both["run"]["attempt"] == 2 and both["run"]["status"] == "queued"
    api.problem("POST", path + "/retry", 409, "invalid_transition", {})


def test_explain_says_why_a_run_does_not_run(api, capability):
    one = api.started(required_capabilities=[capability])
    two = api.started(required_capabilities=[capability])
    codes = [r["code"] for r in api.get(f"/v1/runs/{two['run']['id']}/explain")["reasons"]]
    assert codes == ["queued_behind", "no_claimer"]
    api.post(f"/v1/runs/{one['run']['id']}/cancel", {}, 200)
    codes = [r["code"] for r in api.get(f"/v1/runs/{one['run']['id']}/explain")["reasons"]]
    assert codes == ["terminal"]


def test_the_deadline_of_a_task_times_its_run_out(api, capability):
    made = api.started(timeout_seconds=1, max_attempts=1, required_capabilities=[capability])
    path = "/v1/runs/" + made["run"]["id"]
    assert "due_at" not in api.get(path)  # it counts from the start
    api.post("/v1/runs/claim", {"capabilities": [capability]}, 200)
    wait_until(lambda: api.get(path)["status"] == "timed_out", 5)
    assert api.get(path)["failure_kind"] == "timed_out"
    assert api.get("/v1/tasks/" + made["task"]["id"])["status"] == "failed"


def test_heartbeats_wait_for_news(api, capability):
    for _ in range(2):
        api.started(required_capabilities=[capability])
    claims = api.claim(capabilities=[capability], max=2)
    items = [{"run_id": c["run"]["id"], "claim_token": c["claim_token"], "lease_seconds": 600} for c in claims]
    began = time.monotonic()
    quiet = api.post("/v1/runs/heartbeat", {"items": items, "wait_seconds": 1}, 200)["items"]
    assert 0.9 < time.monotonic() - began < 2 + 2 * SLOW and all(i["ok"] for i in quiet)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(api.again().post, "/v1/runs/heartbeat", {"items": items, "wait_seconds": 20}, 200)
        time.sleep(0.3)
        began = time.monotonic()
        api.post(f"/v1/runs/{items[1]['run_id']}/cancel", {}, 200)
        told = waiting.result(5)["items"]
    assert time.monotonic() - began < 2 * SLOW
    assert told[0]["ok"] and not told[1]["ok"] and told[1]["error"]["code"] in ("invalid_transition", "stale_claim_token")
    api.problem("POST", "/v1/runs/heartbeat", 400, "validation_failed", {"items": items, "wait_seconds": 61})


def test_an_answer_arrives_although_the_body_is_still_being_sent(server):
    host, port = server.url.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + server.key.encode() +
                  b"\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n")
        for _ in range(20):
            s.sendall(b"x" * 65536)
        assert b"413" in s.recv(100)
