"""Fields of a task, its children, its dependencies: who waits for whom."""
import threading

from conftest import wait_until


def patch(api, task, body, status=200):
    return api.request("PATCH", "/v1/tasks/" + task["id"], body, status).json()


def events(api, task):
    return [e["type"] for e in api.get(f"/v1/tasks/{task['id']}/timeline")["items"]]


def finish(api, capability):
    """Claims what there is with this capability and completes it."""
    claims = api.claim(capabilities=[capability])
    for claim in claims:
        api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    return claims


def at_once(*calls):
    """Their results; all begin at the same time."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i, call):
        gate.wait()
        results[i] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


# ---- fields ----


def test_owner_channel_and_preferred_capabilities_are_kept_and_found(api):
    task = api.task(owner={"kind": "pool", "ref": "builders"}, network_channel="ops-1",
                    preferred_capabilities=["gpu"])
    api.task(owner={"kind": "human", "ref": "eve"})
    assert task["owner"] == {"kind": "pool", "ref": "builders"}
    assert task["network_channel"] == "ops-1" and task["preferred_capabilities"] == ["gpu"]
    for query in ("owner_kind=pool", "owner_kind=pool&owner_ref=builders", "network_channel=ops-1"):
        assert [t["id"] for t in api.get("/v1/tasks?" + query)["items"]] == [task["id"]], query
    assert api.get("/v1/tasks?owner_kind=pool&owner_ref=build")["items"] == []
    api.problem("GET", "/v1/tasks?owner_ref=x", 400, "validation_failed")
    for body in ({"owner": {"kind": "robot", "ref": "x"}}, {"network_channel": "No Channel"}):
        api.problem("POST", "/v1/tasks", 400, "validation_failed", {"title": "x", **body})


def test_what_a_task_is_born_with_cannot_be_patched(api):
    task = api.task(identifier="X-1")
    for field in "id identifier scope workspace_id parent_task_id definition_id created_by".split():
        problem = api.problem("PATCH", "/v1/tasks/" + task["id"], 400, "immutable_field", {field: "x"})
        assert problem["field"] == field


def test_an_owner_is_cleared_by_null_or_by_clear_owner_but_not_set_and_cleared_at_once(api):
    owner = {"kind": "human", "ref": "eve"}
    task = api.task(owner=owner)
    api.problem("PATCH", "/v1/tasks/" + task["id"], 400, "validation_failed",
                {"owner": owner, "clear_owner": True})
    assert "owner" not in patch(api, task, {"clear_owner": True})
    assert patch(api, task, {"owner": owner})["owner"] == owner
    assert "owner" not in patch(api, task, {"owner": None})


def test_given_criteria_with_a_channel_when_the_runs_channel_differs_then_nothing(api):
    api.started(network_channel="red")
    assert api.claim(channel="blue") == []
    assert api.claim(channel="red")[0]["run"]["network_channel"] == "red"


def test_given_a_pool_owned_task_when_another_agent_claims_then_nothing_and_explicitly_denied(api):
    run = api.started(owner={"kind": "pool", "ref": "builders"})["run"]
    assert api.claim(agent_name="painter") == []
    api.problem("POST", f"/v1/runs/{run['id']}/claim", 403, "permission_denied",
                {"agent_name": "painter"})
    assert api.claim(agent_name="builders")[0]["run"]["id"] == run["id"]


def test_a_task_of_a_session_is_claimed_by_that_session_and_a_humans_by_nobody(api):
    api.started(owner={"kind": "human", "ref": "eve"})
    mine = api.started(owner={"kind": "agent_session", "ref": "s-1"})["run"]
    assert api.claim(session_id="s-2") == []
    assert api.claim(session_id="s-1")[0]["run"]["id"] == mine["id"]


def test_a_queued_run_follows_its_tasks_owner_and_priority(api):
    low, high = api.started(priority="low"), api.started()
    patch(api, low["task"], {"priority": "urgent", "owner": {"kind": "pool", "ref": "a"}})
    first = api.claim(agent_name="a", max=2)
    assert [c["run"]["id"] for c in first] == [low["run"]["id"], high["run"]["id"]]
    assert first[0]["run"]["priority"] == "urgent"
