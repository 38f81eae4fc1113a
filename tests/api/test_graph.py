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


# ---- children ----


def child(api, parent, status=201, **fields):
    return api.post(f"/v1/tasks/{parent['id']}/children", {"title": "a child", **fields}, status)


def test_a_child_lives_in_its_parents_tree_and_both_tell_of_it(api):
    root = api.task()
    below = child(api, root)
    assert below["parent_task_id"] == root["id"] and below["latest_sequence"] == 3
    assert events(api, root) == ["task.created", "task.child_created", "task.created"]
    assert events(api, below) == ["task.created"]
    shown = api.get("/v1/tasks/" + root["id"])
    assert shown["child_count"] == 1 and [c["id"] for c in shown["children"]] == [below["id"]]


def test_given_depth_8_when_adding_a_child_below_it_or_a_65th_child_then_409(api):
    root = at = api.task()
    for _ in range(7):
        at = child(api, at)
    assert at["depth"] == 8
    api.problem("POST", f"/v1/tasks/{at['id']}/children", 409, "graph_limit_exceeded", {"title": "x"})
    for _ in range(63):
        child(api, root)
    problem = api.problem("POST", f"/v1/tasks/{root['id']}/children", 409, "graph_limit_exceeded",
                          {"title": "x"})
    assert problem["limit"] == 64


def test_a_child_of_another_workspace_is_400(api, server):
    from conftest import Client
    root = api.task()
    api.problem("POST", f"/v1/tasks/{root['id']}/children", 400, "invalid_scope_binding",
                {"title": "x", "scope": "global"})
    Client(server).problem("POST", f"/v1/tasks/{root['id']}/children", 400, "invalid_scope_binding",
                           {"title": "x"})


def test_a_tree_is_listed_level_by_level_in_pages(api):
    root = api.task()
    a, b = child(api, root), child(api, root)
    deep = child(api, a)
    first = api.get(f"/v1/tasks/{root['id']}/tree?limit=3")
    assert [t["id"] for t in first["items"]] == [root["id"], a["id"], b["id"]]
    rest = api.get(f"/v1/tasks/{root['id']}/tree?limit=3&cursor={first['next_cursor']}")
    assert [t["id"] for t in rest["items"]] == [deep["id"]] and rest["next_cursor"] is None
    assert [t["id"] for t in api.get(f"/v1/tasks/{a['id']}/tree")["items"]] == [a["id"], deep["id"]]


def test_canceling_the_root_cancels_what_lives_below_and_leaves_what_has_ended(api, capability):
    root = api.task()
    running = child(api, root, start=True, required_capabilities=["nobody"])
    done = child(api, running["task"], start=True, required_capabilities=[capability])
    finish(api, capability)
    alive = child(api, done["task"])
    canceled = api.post(f"/v1/tasks/{root['id']}/cancel", {"reason": "enough"}, 200)
    assert canceled["status"] == "canceled"
    status = {t["id"]: t["status"] for t in api.get(f"/v1/tasks/{root['id']}/tree")["items"]}
    assert status[running["task"]["id"]] == "canceled" and status[done["task"]["id"]] == "completed"
    assert status[alive["id"]] == "canceled"
    assert api.get("/v1/runs/" + running["run"]["id"])["status"] == "canceled"
    told = api.get(f"/v1/tasks/{alive['id']}/timeline")["items"][-1]
    assert told["type"] == "task.canceled"
    assert told["payload"]["propagated_from_task_id"] == root["id"]
    for path in (f"/v1/tasks/{done['task']['id']}/start", f"/v1/tasks/{done['task']['id']}/children"):
        api.problem("POST", path, 409, "invalid_transition",
                    {"title": "x"} if path.endswith("children") else {})


def test_a_child_created_while_its_parent_is_canceled_is_refused_or_canceled_too(api):
    for _ in range(20):
        root, other = api.task(), api.again()
        made, _ = at_once(
            lambda: api.request("POST", f"/v1/tasks/{root['id']}/children", {"title": "x"}),
            lambda: other.post(f"/v1/tasks/{root['id']}/cancel", {}, 200))
        if made.status_code == 201:
            assert api.get("/v1/tasks/" + made.json()["id"])["status"] == "canceled"
        else:
            assert made.json()["code"] == "invalid_transition"
