"""Fields of a task, its children, its dependencies: who waits for whom."""
import pathlib
import random
import sys
import threading

import pytest

from conftest import Client

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crash"))


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


def test_a_sibling_that_a_cascade_has_reached_through_a_dependency_is_canceled_once(api):
    """What its end sets off counts once too: the task behind both waits for the other one still."""
    root, other = api.task(), api.task()
    a, b = (child(api, root) for _ in range(2))
    after = api.task(auto_enqueue_on_ready=True)
    depend(api, b, a, on_failure="cancel")
    depend(api, after, b, on_failure="proceed")
    depend(api, after, other)
    api.post(f"/v1/tasks/{root['id']}/cancel", {}, 200)
    assert events(api, b).count("task.canceled") == 1
    assert events(api, after).count("task.dependency_failed") == 1
    assert status(api, after) == "blocked" and api.get(f"/v1/tasks/{after['id']}/runs")["items"] == []


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


# ---- dependencies ----


def depend(api, task, on, status=201, **fields):
    return api.post(f"/v1/tasks/{task['id']}/dependencies",
                    {"depends_on_task_id": on["id"], **fields}, status)


def status(api, task):
    return api.get("/v1/tasks/" + task["id"])["status"]


def doer(api, capability, n, **fields):
    """A task whose runs only this test claims."""
    return api.task(title=f"doer {n}", required_capabilities=[f"{capability}-{n}"], **fields)


def do(api, capability, n, task, end="complete"):
    api.post(f"/v1/tasks/{task['id']}/start")
    claim = api.claim(capabilities=[f"{capability}-{n}"])[0]
    body = {"claim_token": claim["claim_token"], **({"error": "no"} if end == "fail" else {})}
    api.post(f"/v1/runs/{claim['run']['id']}/{end}", body, 200)


def test_given_a_on_b_and_b_on_c_when_c_is_made_to_depend_on_a_then_409_and_no_edge(api):
    a, b, c = api.task(), api.task(), api.task()
    depend(api, a, b)
    depend(api, b, c)
    api.problem("POST", f"/v1/tasks/{c['id']}/dependencies", 409, "cycle_detected",
                {"depends_on_task_id": a["id"]})
    assert api.get(f"/v1/tasks/{c['id']}/dependencies")["items"] == []
    for again in (a, b):
        api.problem("POST", f"/v1/tasks/{a['id']}/dependencies", 400, "validation_failed",
                    {"depends_on_task_id": again["id"]})


def test_the_33rd_dependency_of_a_task_is_409(api):
    task = api.task()
    for _ in range(32):
        depend(api, task, api.task())
    problem = api.problem("POST", f"/v1/tasks/{task['id']}/dependencies", 409,
                          "graph_limit_exceeded", {"depends_on_task_id": api.task()["id"]})
    assert problem["limit"] == 32


def test_of_two_edges_that_close_a_cycle_at_once_one_is_made(api):
    for _ in range(20):
        a, b, other = api.task(), api.task(), api.again()
        answers = at_once(
            lambda: api.request("POST", f"/v1/tasks/{a['id']}/dependencies",
                                {"depends_on_task_id": b["id"]}),
            lambda: other.request("POST", f"/v1/tasks/{b['id']}/dependencies",
                                  {"depends_on_task_id": a["id"]}))
        assert sorted(r.status_code for r in answers) == [201, 409]


def test_given_two_prerequisites_when_both_complete_then_ready_and_blocked_again_with_one(api, capability):
    one, two = doer(api, capability, 1), doer(api, capability, 2)
    task = api.task()
    depend(api, task, one)
    shown = depend(api, task, two)
    assert shown["status"] == "blocked" and shown["unmet_dependency_count"] == 2
    do(api, capability, 1, one)
    assert status(api, task) == "blocked"
    do(api, capability, 2, two)
    assert status(api, task) == "ready"
    assert all(d["met"] for d in api.get("/v1/tasks/" + task["id"])["dependencies"])
    api.post(f"/v1/tasks/{one['id']}/runs")
    assert status(api, task) == "blocked"
    changes = [e["payload"] for e in api.get(f"/v1/tasks/{task['id']}/timeline")["items"]
               if e["type"] == "task.status_changed"]
    assert [c["to"] for c in changes] == ["blocked", "ready", "blocked"]


def test_a_blocked_tasks_queued_run_is_not_claimed_until_its_dependency_completes(api, capability):
    first, task = doer(api, capability, 1), doer(api, capability, 2)
    depend(api, task, first)
    api.problem("POST", f"/v1/tasks/{task['id']}/start", 409, "invalid_transition", {})
    run = api.post(f"/v1/tasks/{task['id']}/runs")
    assert api.claim(capabilities=[f"{capability}-2"]) == []
    api.problem("POST", f"/v1/runs/{run['id']}/claim", 409, "invalid_transition",
                {"capabilities": [f"{capability}-2"]})
    reason = api.get(f"/v1/runs/{run['id']}/explain")["reasons"][0]
    assert reason["code"] == "blocked_by_dependency" and reason["resource"] == first["id"]
    do(api, capability, 1, first)
    assert api.claim(capabilities=[f"{capability}-2"])[0]["run"]["id"] == run["id"]


def test_a_run_that_is_given_back_while_its_task_is_blocked_waits(api, capability):
    first, task = api.task(), doer(api, capability, 1)
    api.post(f"/v1/tasks/{task['id']}/start")
    claim = api.claim(capabilities=[f"{capability}-1"])[0]
    depend(api, task, first)
    api.post(f"/v1/runs/{claim['run']['id']}/release", {"claim_token": claim["claim_token"]}, 200)
    assert api.claim(capabilities=[f"{capability}-1"]) == []
    answer = api.request("DELETE", f"/v1/tasks/{task['id']}/dependencies/{first['id']}", status=200)
    assert answer.json()["status"] == "ready"
    assert api.claim(capabilities=[f"{capability}-1"])
    api.problem("DELETE", f"/v1/tasks/{task['id']}/dependencies/{first['id']}", 404, "not_found")


def test_what_a_failed_or_canceled_prerequisite_means_is_for_its_edge_to_say(api, capability):
    """The source leaves dependents without a signal; ours get an event, and on_failure decides."""
    for n, end in enumerate(("fail", "cancel")):
        first = doer(api, capability, n, max_attempts=1)
        waits, goes_on, ends = api.task(), api.task(), api.task()
        below, after = child(api, ends), api.task()
        depend(api, waits, first)
        depend(api, goes_on, first, on_failure="proceed")
        depend(api, ends, first, on_failure="cancel")
        depend(api, after, below, on_failure="cancel")
        if end == "fail":
            do(api, capability, n, first, "fail")
        else:
            api.post(f"/v1/tasks/{first['id']}/cancel", {}, 200)
        assert [status(api, t) for t in (waits, goes_on, ends, below, after)] == [
            "blocked", "ready", "canceled", "canceled", "canceled"]
        for t in (waits, goes_on, ends):
            assert "task.dependency_failed" in events(api, t)
        told = api.get(f"/v1/tasks/{ends['id']}/timeline?event_type=task.canceled")["items"][0]
        assert told["payload"]["reason"] == "dependency_failed"


def test_a_long_chain_of_dependents_is_canceled_with_its_first_task(api):
    chain = [api.task() for _ in range(60)]
    for a, b in zip(chain, chain[1:]):
        depend(api, b, a, on_failure="cancel")
    api.post(f"/v1/tasks/{chain[0]['id']}/cancel", {}, 200)
    assert {status(api, t) for t in chain} == {"canceled"}


def test_given_two_prerequisites_completing_at_once_then_exactly_one_run_is_made(api, capability):
    for auto, want in ((True, 1), (False, 0)):
        first = [doer(api, capability, n) for n in (1, 2)]
        task = api.task(auto_enqueue_on_ready=auto)
        ends = []
        for n, t in enumerate(first, 1):
            depend(api, task, t)
            api.post(f"/v1/tasks/{t['id']}/start")
            ends.append(api.claim(capabilities=[f"{capability}-{n}"])[0])
        clients = [api.again(), api.again()]
        at_once(*[lambda c=c, e=e: c.post(f"/v1/runs/{e['run']['id']}/complete",
                                          {"claim_token": e["claim_token"]}, 200)
                  for c, e in zip(clients, ends)])
        assert len(api.get(f"/v1/tasks/{task['id']}/runs")["items"]) == want


def test_dependencies_stay_inside_a_workspace(api, server):
    other = Client(server).task()
    api.problem("POST", f"/v1/tasks/{api.task()['id']}/dependencies", 400, "invalid_scope_binding",
                {"depends_on_task_id": other["id"]})


# ---- deleting ----


def delete(api, task):
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)


def test_given_a_task_with_children_or_with_an_open_run_when_deleted_then_400(api):
    root, busy = api.task(), api.started()
    below = child(api, root)
    for task in (root, busy["task"]):
        api.problem("DELETE", "/v1/tasks/" + task["id"], 400, "validation_failed")
    delete(api, below)
    api.problem("GET", "/v1/tasks/" + below["id"], 404, "not_found")
    assert events(api, root)[-1] == "task.deleted" and status(api, root) == "ready"
    assert "child_count" not in api.get("/v1/tasks/" + root["id"])
    api.post(f"/v1/runs/{busy['run']['id']}/cancel", {}, 200)
    delete(api, busy["task"])
    api.problem("GET", "/v1/runs/" + busy["run"]["id"], 404, "not_found")
    api.problem("POST", "/v1/tasks", 409, "conflict", {"title": "x", "id": busy["task"]["id"]})


def test_given_a_blocking_task_is_deleted_then_the_dependent_is_ready_in_the_same_transaction(api):
    first, task, auto = api.task(), api.task(), api.task(auto_enqueue_on_ready=True)
    before = api.task()
    depend(api, first, before)
    depend(api, task, first)
    depend(api, auto, first)
    delete(api, first)
    assert status(api, task) == "ready" and len(api.get(f"/v1/tasks/{auto['id']}/runs")["items"]) == 1
    assert api.get(f"/v1/tasks/{task['id']}/dependencies")["items"] == []
    delete(api, before)


def test_a_canceled_task_canceled_again_is_200_without_an_event_and_a_completed_one_409(api, capability):
    task, done = api.task(), doer(api, capability, 1)
    first = api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    again = api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    assert again["latest_sequence"] == first["latest_sequence"]
    do(api, capability, 1, done)
    api.problem("POST", f"/v1/tasks/{done['id']}/cancel", 409, "invalid_transition", {})


# ---- everything together ----


@pytest.mark.parametrize("seed", [1, 2])
def test_after_random_operations_every_count_hold_and_status_is_what_the_rows_say(
        own_server, tmp_path, seed):
    import database
    import invariants
    api, dice, tasks = Client(own_server), random.Random(seed), []

    def some():
        return dice.choice(tasks)["id"]

    def work():
        for claim in api.claim(max=3):
            end = dice.choice(["complete", "complete", "fail", "release"])
            body = {"claim_token": claim["claim_token"], **({"error": "no"} if end == "fail" else {})}
            api.request("POST", f"/v1/runs/{claim['run']['id']}/{end}", body)

    def create():
        parent = f"/v1/tasks/{some()}/children" if tasks and dice.random() < .4 else "/v1/tasks"
        made = api.request("POST", parent, {
            "title": "x", "max_attempts": dice.choice([1, 2]), "auto_enqueue_on_ready": dice.random() < .5,
            "draft": dice.random() < .1, "approval_policy": dice.choice(["none", "none", "manual"])})
        tasks.extend([made.json()] if made.status_code == 201 else [])

    def move(verb, **body):
        return lambda: api.request("POST", f"/v1/tasks/{some()}/{verb}", body)

    moves = [create] * 6 + [work] * 6 + [move("start")] * 4 + [
        move("runs"), move("publish"), move("approve"), move("reject"), move("cancel"),
        move("pause", reason="x"), move("resume"), move("resume"),
        lambda: api.request("DELETE", "/v1/tasks/" + some()),
        lambda: api.request("PATCH", "/v1/tasks/" + some(), {"max_attempts": dice.choice([1, 3])})] + [
        lambda: api.request("POST", f"/v1/tasks/{some()}/dependencies", {
            "depends_on_task_id": some(),
            "on_failure": dice.choice(["block", "proceed", "cancel"])})] * 8
    create()
    for _ in range(800):
        assert (dice.choice(moves)() or api.request("GET", "/livez")).status_code < 500
    snapshot = database.load(database.copy_live(own_server.data, str(tmp_path / "copy")))
    world = invariants.World(snapshot=snapshot)
    found = [v for check in (invariants.check_i7, invariants.check_i8, invariants.check_i22,
                             invariants.check_i24, invariants.check_i27) for v in check(world)]
    assert found == []
    assert len(snapshot.dependency) > 20 and len(snapshot.run) > 20
    for task in snapshot.task:
        above = [t for t in snapshot.task if t["id"] == task["parent_task_id"]]
        assert task["paused_n"] == task["paused"] + sum(t["paused_n"] for t in above)
        assert task["child_count"] == sum(t["parent_task_id"] == task["id"] for t in snapshot.task)
        assert task["dependent_count"] == sum(
            d["depends_on_task_id"] == task["id"] for d in snapshot.dependency)
