"""Execution profiles: who should work on a task, and how; channels; every filter of a claim."""
import threading
import time

import pytest

from conftest import SLOW, Client, Server, wait_until


def profile(api, task, status=200, **blocks):
    return api.request("PUT", f"/v1/tasks/{task['id']}/execution-profile", blocks, status).json()


def ready(api, profiled=None, **fields):
    """A task with a profile and a queued run; the run's id."""
    task = api.task(**fields)
    if profiled:
        profile(api, task, **profiled)
    return api.post(f"/v1/tasks/{task['id']}/runs")["id"]


def takes(api, run, **criteria):
    """Whether a claim gets the run; it is given back."""
    claims = api.claim(**criteria)
    for claim in claims:
        assert claim["run"]["id"] == run
        api.post(f"/v1/runs/{run}/release", {"claim_token": claim["claim_token"]}, 200)
    return len(claims) == 1


def waits_for(api, run):
    reasons = api.get(f"/v1/runs/{run}/explain")["reasons"]
    assert [r["code"] for r in reasons] == ["no_claimer"]
    return reasons[0]["detail"]


def refused(api, run, **criteria):
    return api.problem("POST", f"/v1/runs/{run}/claim", 403, "permission_denied", criteria)["detail"]


def events(api, task):
    return api.get(f"/v1/tasks/{task['id']}/timeline")["items"]


# ---- the resource ----


def test_a_task_without_a_profile_inherits_everything(api):
    task = api.task()
    path = f"/v1/tasks/{task['id']}/execution-profile"
    assert api.get(path) == {
        "task_id": task["id"], "coordinator": {"mode": "inherit"}, "worker": {"mode": "inherit"}, "review": {},
        "participants": {}, "sandbox": {"mode": "inherit"}, "runtime": {"mode": "default"}}
    assert api.problem("DELETE", path, 404, "not_found")["resource"] == "execution_profile"


def test_a_profile_is_stored_trimmed_sorted_and_without_doubles_and_replaced_as_a_whole(api):
    task = api.task()
    path = f"/v1/tasks/{task['id']}/execution-profile"
    told = profile(api, task, worker={"allowed_agent_names": [" smith ", "ann lee", "smith"], "provider": " p "},
                   participants={"required_capabilities": ["gpu", "cpu"], "allowed_channel_ids": ["ops"]},
                   coordinator={"guidance": "  as it is  "}, sandbox={"mode": "ref", "sandbox_ref": "box"},
                   runtime={"mode": "Evidence"}, review={"agent_name": "eve", "preferred_peer_ids": ["p.1"]})
    assert told["worker"] == {"mode": "select", "provider": "p", "allowed_agent_names": ["ann lee", "smith"]}
    assert told["participants"] == {"allowed_channel_ids": ["ops"], "required_capabilities": ["cpu", "gpu"]}
    assert told["coordinator"] == {"mode": "guided", "guidance": "  as it is  "}
    assert told["sandbox"] == {"mode": "ref", "sandbox_ref": "box"} and told["runtime"] == {"mode": "evidence"}
    assert told["review"] == {"agent_name": "eve", "preferred_peer_ids": ["p.1"]}
    assert api.get(path) == told
    again = profile(api, task, worker={"model": "m"}, task_id=task["id"])
    assert again["worker"] == {"mode": "select", "model": "m"} and again["participants"] == {}
    assert again["created_at"] == told["created_at"] and again["updated_at"] > told["updated_at"]
    api.request("DELETE", path, status=204)
    assert "created_at" not in api.get(path)


@pytest.mark.parametrize("field, blocks", [
    ("worker.agent_name", {"worker": {"agent_name": "a", "allowed_agent_names": ["b"]}}),
    ("review.agent_name", {"review": {"agent_name": "a", "allowed_agent_names": ["b"]}}),
    ("participants.allowed_agent_names",
     {"worker": {"agent_name": "a"}, "participants": {"allowed_agent_names": ["b"]}}),
    ("worker.mode", {"worker": {"mode": "inherit", "agent_name": "a"}}),
    ("worker.mode", {"worker": {"mode": "select"}}),
    ("worker.mode", {"worker": {"mode": "none"}}),
    ("coordinator.mode", {"coordinator": {"mode": "guided"}}),
    ("sandbox.sandbox_ref", {"sandbox": {"mode": "ref"}}),
    ("sandbox.sandbox_ref", {"sandbox": {"mode": "none", "sandbox_ref": "x"}}),
    ("runtime.mode", {"runtime": {"mode": "evidence"}}),
    ("worker.allowed_agent_names", {"worker": {"allowed_agent_names": ["a\tb"]}}),
    ("worker.allowed_agent_names", {"worker": {"allowed_agent_names": ["x" * 129]}}),
    ("worker.agent_name", {"worker": {"agent_name": "x" * 129}}),
    ("worker.model", {"worker": {"model": "a\nb"}}),
    ("worker.required_capabilities", {"worker": {"required_capabilities": ["a b"]}}),
    ("participants.allowed_peer_ids", {"participants": {"allowed_peer_ids": ["Peer"]}}),
    ("review.allowed_channel_ids", {"review": {"allowed_channel_ids": ["No Channel"]}}),
    ("participants.allowed_channel_ids", {"participants": {"allowed_channel_ids": ["blue"]}}),
    ("task_id", {"task_id": "task_0000000000001"}),
])
def test_a_profile_that_contradicts_itself_is_refused_with_its_field(api, field, blocks):
    task = api.task(network_channel="red")
    problem = api.problem("PUT", f"/v1/tasks/{task['id']}/execution-profile", 400, "validation_failed", blocks)
    assert problem["field"] == field


def test_a_profile_has_limits_and_no_unknown_fields(api):
    path = f"/v1/tasks/{api.task()['id']}/execution-profile"
    api.request("PUT", path, {"coordinator": {"guidance": "x" * 8192}}, 200)
    assert api.problem("PUT", path, 413, "payload_too_large", {"coordinator": {"guidance": "x" * 8193}})["limit"] == 8192
    many = [f"{i:02d}" + "x" * 100 for i in range(60)]
    assert api.problem("PUT", path, 413, "payload_too_large", {"review": {"allowed_agent_names": many}})["limit"] == 4096
    api.problem("PUT", path, 400, "unknown_field", {"worker": {"color": "red"}})
    api.problem("PUT", path, 400, "immutable_field", {"created_at": "2026-01-01T00:00:00Z"})


def test_given_a_task_with_a_current_run_when_its_profile_is_set_or_deleted_then_409(api, capability):
    claim = api.claimed(capability)
    path = f"/v1/tasks/{claim['task']['id']}/execution-profile"
    body = {"worker": {"agent_name": "a"}}
    for _ in range(2):
        api.problem("PUT", path, 409, "invalid_transition", body)
        api.problem("DELETE", path, 409, "invalid_transition")
        api.request("POST", f"/v1/runs/{claim['run']['id']}/start", {"claim_token": claim["claim_token"]})
    api.post(f"/v1/runs/{claim['run']['id']}/release", {"claim_token": claim["claim_token"]}, 200)
    api.request("PUT", path, body, 200)
    api.request("DELETE", path, status=204)


def test_a_change_is_an_event_and_a_row_of_the_audit_log(api):
    task = api.task()
    profile(api, task, worker={"agent_name": "a"}, sandbox={"mode": "none"})
    api.request("DELETE", f"/v1/tasks/{task['id']}/execution-profile", status=204)
    told = events(api, task)[1:]
    assert [e["type"] for e in told] == ["task.execution_profile_updated", "task.execution_profile_deleted"]
    assert told[0]["payload"] == {"coordinator_mode": "inherit", "worker_mode": "select", "sandbox_mode": "none"}
    rows = api.get("/v1/audit?resource=" + task["id"])["items"]
    assert [r["action"] for r in rows] == ["task.execution_profile_deleted", "task.execution_profile_updated"]
    assert rows[1]["after"] == rows[0]["before"] and "before" not in rows[1] and "after" not in rows[0]


def test_the_profile_of_another_tenants_task_is_missing(api, server):
    other = Client(server, headers={"X-Workspace-ID": Client(server).post("/v1/workspaces", {
        "name": "o", "slug": "o-%d" % time.monotonic_ns()})["id"]})
    bound = Client(server, other.key_for(workspace_id=other.session.headers["X-Workspace-ID"])["key"])
    path = f"/v1/tasks/{api.task()['id']}/execution-profile"
    missing = "/v1/tasks/task_0000000000001/execution-profile"
    for method, body in ("GET", None), ("PUT", {}), ("DELETE", None):
        theirs = bound.problem(method, path, 404, "not_found", body)
        nobodys = bound.problem(method, missing, 404, "not_found", body)
        assert {**theirs, "instance": ""} == {**nobodys, "instance": ""}


def test_a_profile_goes_with_its_task(api):
    task = api.task()
    profile(api, task, worker={"agent_name": "a"})
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    api.problem("GET", f"/v1/tasks/{task['id']}/execution-profile", 404, "not_found")


def test_a_task_that_follows_a_definition_takes_only_what_the_built_in_worker_heeds(api):
    api.post("/v1/definitions", {"name": "d", "steps": [{"action": "noop"}]})
    task = api.task(definition_id="d")
    path = f"/v1/tasks/{task['id']}/execution-profile"
    for field, blocks in (("worker.agent_name", {"worker": {"agent_name": "a"}}), ("sandbox", {"sandbox": {"mode": "none"}}),
                          ("coordinator", {"coordinator": {"guidance": "x"}}),
                          ("participants.allowed_peer_ids", {"participants": {"allowed_peer_ids": ["p"]}})):
        assert api.problem("PUT", path, 400, "validation_failed", blocks)["field"] == field
    profile(api, task, worker={"required_capabilities": ["no-worker-has-it"]})
    run = api.post(f"/v1/tasks/{task['id']}/runs")
    assert waits_for(api, run["id"]) == "waiting for a free worker with the capabilities no-worker-has-it"
    profile(api, task, worker={"preferred_capabilities": ["no-worker-has-it"]})
    wait_until(lambda: api.get("/v1/runs/" + run["id"])["status"] == "completed")


# ---- who gets a run ----


def test_given_profile_allowed_agents_when_an_unlisted_agent_or_one_with_a_blank_name_claims_then_nothing(api):
    run = ready(api, {"worker": {"allowed_agent_names": ["ann lee", "bob"]}})
    assert not takes(api, run) and not takes(api, run, agent_name="eve") and not takes(api, run, agent_name="ann")
    assert takes(api, run, agent_name="ann lee") and takes(api, run, agent_name="bob")
    assert waits_for(api, run) == ("waiting for an agent to claim it: one that names no channel;"
                                   " named one of ann lee, bob")
    assert "for one named one of ann lee, bob" in refused(api, run, agent_name="eve")


def test_a_workers_agent_name_is_the_only_one_that_claims(api):
    run = ready(api, {"worker": {"agent_name": "bob"}})
    assert not takes(api, run) and not takes(api, run, agent_name="eve") and takes(api, run, agent_name="bob")
    assert "named one of bob" in waits_for(api, run)


def test_an_agent_must_be_allowed_by_worker_and_participants_both(api):
    run = ready(api, {"worker": {"allowed_agent_names": ["a", "b"]}, "participants": {"allowed_agent_names": ["b", "c"]}})
    assert [a for a in "abc" if takes(api, run, agent_name=a)] == ["b"]


def test_the_capabilities_of_task_worker_and_participants_are_all_required(api):
    run = ready(api, {"worker": {"required_capabilities": ["x", "y"]}, "participants": {"required_capabilities": ["z"]}},
                required_capabilities=["w", "x"])
    assert api.get("/v1/runs/" + run)["required_capabilities"] == ["w", "x", "y", "z"]
    for lacking in "wxyz":
        assert not takes(api, run, capabilities=[c for c in "wxyz" if c != lacking]), lacking
    assert takes(api, run, capabilities=list("vwxyz"))
    assert "with the capabilities w, x, y, z" in waits_for(api, run)
    assert "with the capabilities w, x, y, z" in refused(api, run, capabilities=["w"])


def test_of_the_networks_peers_only_allowed_ones_claim_and_agents_are_not_asked(api, server):
    space = api.session.headers["X-Workspace-ID"]
    good, bad = (Client(server, api.key_for(actor_kind="network_peer", ref=ref, workspace_id=space)["key"])
                 for ref in ("peer-1", "peer-2"))
    run = ready(api, {"participants": {"allowed_peer_ids": ["peer-1"]}})
    assert not takes(bad, run) and takes(good, run) and takes(api, run)
    assert "that is no network peer, or one of peer-1" in refused(bad, run)


def test_each_filter_refuses_alone_and_all_together_let_one_claimer_through(api):
    run = ready(api, {"worker": {"allowed_agent_names": ["bob"], "required_capabilities": ["gpu"]}},
                priority="high", network_channel="ops", owner={"kind": "agent_session", "ref": "s1"},
                required_capabilities=["net"])
    good = {"agent_name": "bob", "capabilities": ["gpu", "net"], "channel": "ops", "session_id": "s1",
            "priority_min": "high"}
    wrong = {"agent_name": ("eve", "named one of bob"), "capabilities": (["gpu"], "capabilities gpu, net"),
             "channel": ("dev", "that names the channel ops or none"), "session_id": ("s2", "in the session s1"),
             "priority_min": ("urgent", "that takes the priority high")}
    for name, (value, words) in wrong.items():
        assert not takes(api, run, **{**good, name: value}), name
        assert words in refused(api, run, **{**good, name: value}), name
        without = {k: v for k, v in good.items() if k != name}
        assert takes(api, run, **without) == (name in ("channel", "priority_min")), name
    assert waits_for(api, run) == (
        "waiting for an agent to claim it: one that names the channel ops or none; with the capabilities gpu, net;"
        " in the session s1, which owns the task; named one of bob")
    assert takes(api, run, **good)


def test_a_run_that_nobody_may_claim_says_why(api):
    run = ready(api, owner={"kind": "human", "ref": "ann"})
    assert "its owner human:ann is none who claims" in waits_for(api, run)
    assert "its owner human:ann is none who claims" in refused(api, run, agent_name="ann")


def test_a_profile_set_while_a_run_is_queued_reaches_that_run(api):
    task = api.task()
    run = api.post(f"/v1/tasks/{task['id']}/runs")["id"]
    profile(api, task, worker={"agent_name": "bob", "required_capabilities": ["x"]})
    assert not takes(api, run, capabilities=["x"]) and not takes(api, run, agent_name="bob")
    assert takes(api, run, agent_name="bob", capabilities=["x"])
    api.request("DELETE", f"/v1/tasks/{task['id']}/execution-profile", status=204)
    assert "required_capabilities" not in api.get("/v1/runs/" + run)
    assert takes(api, run)


def test_a_profile_holds_for_every_attempt_and_across_a_restart(tmp_path, capability):
    server = Server(tmp_path / "data")
    api = Client(server)
    run = ready(api, {"worker": {"agent_name": "bob"}}, max_attempts=5)
    claim = api.claim(agent_name="bob")[0]
    api.post(f"/v1/runs/{run}/fail", {"claim_token": claim["claim_token"], "error": "no"}, 200)
    again = api.post(f"/v1/runs/{run}/retry")["run"]["id"]
    server.kill()
    server.start()
    api = Client(server)
    assert not takes(api, again) and takes(api, again, agent_name="bob")
    assert api.get(f"/v1/tasks/{claim['task']['id']}/execution-profile")["worker"]["agent_name"] == "bob"
    server.stop()


def test_preferred_agents_peers_and_capabilities_come_sooner_and_are_no_condition(api, server):
    first = ready(api)
    liked = ready(api, {"worker": {"preferred_agent_names": ["bob"]}})
    better = ready(api, {"worker": {"preferred_capabilities": ["gpu"]}, "participants": {"preferred_agent_names": ["bob"]}})
    order = [c["run"]["id"] for c in api.claim(agent_name="bob", capabilities=["gpu"], max=3)]
    assert order == [better, liked, first]
    peers = ready(api), ready(api, {"participants": {"preferred_peer_ids": ["p1"]}})
    peer = Client(server, api.key_for(actor_kind="network_peer", ref="p1",
                                      workspace_id=api.session.headers["X-Workspace-ID"])["key"])
    assert [c["run"]["id"] for c in peer.claim(max=2)] == [peers[1], peers[0]]


def test_with_equal_priority_more_matched_preferred_capabilities_come_first_and_urgent_before_both(api):
    low = ready(api, priority="low")
    none, one = ready(api), ready(api, preferred_capabilities=["a"])
    two = ready(api, {"participants": {"preferred_capabilities": ["b"]}}, preferred_capabilities=["a"])
    urgent = ready(api, priority="urgent")
    order = [c["run"]["id"] for c in api.claim(capabilities=["a", "b"], max=5)]
    assert order == [urgent, two, one, none, low]


def waiting(api, answers, **criteria):
    def claim():
        answers.append((criteria, api.again().claim(wait_seconds=20, **criteria)))
    thread = threading.Thread(target=claim)
    thread.start()
    return thread


def test_waiting_claims_are_woken_only_for_what_they_may_take(api):
    answers = []
    threads = [waiting(api, answers, agent_name=name, capabilities=caps)
               for name, caps in (("eve", ["x"]), ("bob", []), ("bob", ["x"]))]
    time.sleep(0.5)
    run = ready(api, {"worker": {"agent_name": "bob", "required_capabilities": ["x"]}})
    wait_until(lambda: answers)
    time.sleep(0.3)
    (criteria, claims), = answers
    assert criteria == {"agent_name": "bob", "capabilities": ["x"]} and claims[0]["run"]["id"] == run
    for name in "eve", "bob":
        ready(api, {"worker": {"agent_name": name}})
    for thread in threads:
        thread.join(20 * SLOW)
    assert sorted(c["agent_name"] for c, claims in answers if claims) == ["bob", "bob", "eve"]


def test_a_profile_that_lets_a_waiting_claim_in_wakes_it(api):
    task = api.task()
    profile(api, task, worker={"agent_name": "eve"})
    api.post(f"/v1/tasks/{task['id']}/runs")
    answers = []
    thread = waiting(api, answers, agent_name="bob")
    time.sleep(0.5)
    assert not answers
    profile(api, task, worker={"agent_name": "bob"})
    thread.join(20 * SLOW)
    assert answers[0][1][0]["task"]["id"] == task["id"]


# ---- what the holder is told ----


def test_the_profile_is_part_of_the_context_and_its_guidance_is_shortened_last(api, capability):
    run = ready(api, {"coordinator": {"guidance": "be kind"}, "worker": {"model": "m-1"}, "sandbox": {"mode": "none"}},
                required_capabilities=[capability])
    told = api.get(f"/v1/runs/{run}/context")
    assert told["execution_profile"]["coordinator"]["guidance"] == "be kind"
    assert told["execution_profile"]["worker"] == {"mode": "select", "model": "m-1"}
    assert "execution_profile" not in api.get(f"/v1/runs/{ready(api)}/context")
    answer = api.request("GET", f"/v1/runs/{ready(api, {'coordinator': {'guidance': 'x' * 8192}})}/context", status=200)
    told = answer.json()
    assert len(answer.content) <= 8192 and told["recent_events"] == []
    assert len(told["execution_profile"]["coordinator"]["guidance"]) == 4096


# ---- channels ----


def workspace(api, **fields):
    return api.request("PATCH", "/v1/workspaces/" + api.session.headers["X-Workspace-ID"], fields, 200).json()


def test_a_workspace_that_lists_its_channels_has_no_others(api):
    assert workspace(api, network_channels=["ops", "dev"])["network_channels"] == ["dev", "ops"]
    task = api.task(network_channel="ops")
    for method, path, body in (("POST", "/v1/tasks", {"title": "x", "network_channel": "red"}),
                               ("PATCH", "/v1/tasks/" + task["id"], {"network_channel": "red"}),
                               ("POST", f"/v1/tasks/{task['id']}/start", {"network_channel": "red"}),
                               ("POST", f"/v1/tasks/{task['id']}/runs", {"network_channel": "red"})):
        problem = api.problem(method, path, 400, "validation_failed", body)
        assert problem["field"] == "network_channel" and "the workspace lists its channels" in problem["detail"]
    api.task()
    assert "network_channels" not in workspace(api, network_channels=None)
    api.task(network_channel="red")
    assert workspace(api, name="n").get("network_channels") is None
    api.problem("PATCH", "/v1/workspaces/" + api.session.headers["X-Workspace-ID"], 400, "validation_failed",
                {"network_channels": ["No"]})


def test_given_a_channel_removed_when_starting_then_409_and_a_rejected_event_and_the_run_still_claimed(api):
    workspace(api, network_channels=["ops", "dev"])
    run = ready(api, network_channel="ops")
    claim = api.claim(channel="ops")[0]
    workspace(api, network_channels=["dev"])
    start = {"claim_token": claim["claim_token"]}
    before = api.get("/v1/runs/" + run)["claim_token_hash"]
    assert "the workspace no longer lists" in api.problem("POST", f"/v1/runs/{run}/start", 409, "stale_network_channel", start)["detail"]
    still = api.get("/v1/runs/" + run)
    assert still["status"] == "claimed" and still["claim_token_hash"] == before
    last = events(api, claim["task"])[-1]
    assert last["type"] == "run.rejected"
    assert last["payload"] == {"operation": "start", "reason": "stale_network_channel"}
    workspace(api, network_channels=["ops"])
    assert api.post(f"/v1/runs/{run}/start", start, 200)["status"] == "running"


def test_a_session_is_not_attached_to_a_run_whose_channel_is_gone(api):
    run = ready(api, network_channel="ops", required_capabilities=["x"])
    workspace(api, network_channels=["dev"])
    path = f"/v1/runs/{run}/attach-session"
    api.problem("POST", path, 403, "permission_denied", {"session_id": "s"})  # not for this claimer: nothing is told
    api.problem("POST", path, 409, "stale_network_channel", {"session_id": "s", "capabilities": ["x"]})
    assert api.get("/v1/runs/" + run)["status"] == "queued"
    workspace(api, network_channels=None)
    assert api.post(path, {"session_id": "s", "capabilities": ["x"]}, 200)["claims"][0]["run"]["id"] == run
    types = [e["type"] for e in api.get(f"/v1/runs/{run}/events")["items"]]
    assert types == ["run.queued", "run.rejected", "run.claimed", "run.session_bound"]


def test_a_profile_may_narrow_the_channels_of_its_tasks_runs(api):
    task = api.task()
    profile(api, task, participants={"allowed_channel_ids": ["ops"]})
    path = f"/v1/tasks/{task['id']}/runs"
    assert "execution profile" in api.problem("POST", path, 400, "validation_failed", {"network_channel": "dev"})["detail"]
    api.problem("PATCH", "/v1/tasks/" + task["id"], 400, "validation_failed", {"network_channel": "dev"})
    run = api.post(path, {"network_channel": "ops"})["id"]
    profile(api, task, participants={"allowed_channel_ids": ["red"]})
    claim = api.claim(channel="ops")[0]
    api.problem("POST", f"/v1/runs/{run}/start", 409, "stale_network_channel", {"claim_token": claim["claim_token"]})


# ---- what the operator forbids ----


def test_a_server_may_let_no_profile_choose_provider_or_sandbox(tmp_path):
    server = Server(tmp_path / "data", "--profile-refuse", "provider, sandbox-none")
    api = Client(server)
    path = f"/v1/tasks/{api.task()['id']}/execution-profile"
    for field, blocks in (("worker.provider", {"worker": {"provider": "p"}}),
                          ("coordinator.provider", {"coordinator": {"model": "m"}}),
                          ("sandbox.mode", {"sandbox": {"mode": "none"}})):
        problem = api.problem("PUT", path, 400, "validation_failed", blocks)
        assert problem["field"] == field and "--profile-refuse" in problem["detail"]
    api.request("PUT", path, {"sandbox": {"mode": "ref", "sandbox_ref": "box"}}, 200)
    server.stop()
