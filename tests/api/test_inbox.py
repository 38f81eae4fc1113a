"""Triage of tasks and the inbox: lanes, reasons, what is new, pages."""
import time

from conftest import Client
from test_graph import child, depend


def mark(api, task, action):
    return api.post(f"/v1/tasks/{task['id']}/triage/{action}", {}, 200)


def inbox(api, **query):
    return api.get("/v1/inbox?" + "&".join(f"{k}={v}" for k, v in query.items()))["items"]


def lanes(api, **query):
    return {item["task"]["id"]: item["lane"] for item in inbox(api, **query)}


def touch(api, task):
    api.request("PATCH", "/v1/tasks/" + task["id"], {"description": str(time.monotonic_ns())}, 200)


ME = {"kind": "human", "ref": "admin"}


def fail_next(api):
    claim = api.claim()[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "error": "no"}, 200)
    return claim["task"]["id"]


def failed(api, **fields):
    """A task of nobody's whose latest run failed."""
    task = api.started(**fields)["task"]
    assert fail_next(api) == task["id"]
    return task


def give(api, task, owner=ME):
    """Runs of what a human owns are not handed out, so it changes hands in between."""
    api.request("PATCH", "/v1/tasks/" + task["id"], {"owner": owner}, 200)


def awaiting(api, **fields):
    return api.task(approval_policy="manual", **fields)


def other(api, ref="other", **fields):
    """Another actor in the same workspace."""
    space = api.session.headers["X-Workspace-ID"]
    key = api.key_for(actor_kind="human", ref=ref, workspace_id=space, **fields)
    return Client(api.server, key["key"])


def test_each_mark_says_that_all_is_seen(api):
    task = api.task()
    assert mark(api, task, "read") == {
        "task_id": task["id"], "actor": {"kind": "human", "ref": "admin"}, "read": True, "archived": False,
        "dismissed": False, "last_seen_activity_at": task["created_at"]}
    assert mark(api, task, "dismiss")["dismissed"]
    assert not mark(api, task, "read")["dismissed"]
    mark(api, task, "dismiss")
    shown = mark(api, task, "archive")
    assert shown["archived"] and not shown["dismissed"]
    assert mark(api, task, "read")["archived"]  # there is no way back
    touch(api, task)
    assert mark(api, task, "read")["last_seen_activity_at"] > shown["last_seen_activity_at"]


def test_a_mark_is_no_event_and_changes_nothing_of_the_task(api):
    task = api.task()
    for action in ("read", "archive", "dismiss"):
        mark(api, task, action)
    assert api.get("/v1/tasks/" + task["id"])["latest_sequence"] == 1
    assert api.get("/v1/tasks/" + task["id"])["updated_at"] == task["updated_at"]
    api.problem("POST", f"/v1/tasks/{task['id']}/triage/read", 400, "unknown_field", {"reason": "x"})
    assert api.request("POST", f"/v1/tasks/{task['id']}/triage/snooze", {}).status_code == 404


def test_given_archive_then_new_activity_then_still_archived(api):
    task = awaiting(api)
    mark(api, task, "archive")
    assert lanes(api) == {} and lanes(api, lane="archived") == {task["id"]: "archived"}
    assert lanes(api, lane="archived", unread=1) == {}
    touch(api, task)
    assert lanes(api) == {} and lanes(api, lane="archived", unread=1) == {task["id"]: "archived"}


def test_given_read_then_new_activity_then_unread(api):
    task = awaiting(api)
    assert inbox(api)[0]["unread"] and "last_seen_activity_at" not in inbox(api)[0]
    mark(api, task, "read")
    assert not inbox(api)[0]["unread"] and inbox(api, unread=1) == []
    assert inbox(api)[0]["last_seen_activity_at"] == task["created_at"]
    touch(api, task)
    assert inbox(api)[0]["unread"] and lanes(api, unread=1) == {task["id"]: "approvals"}


def test_what_was_dismissed_is_away_until_something_new_happens(api):
    task = awaiting(api)
    mark(api, task, "dismiss")
    assert inbox(api) == []
    touch(api, task)
    assert inbox(api)[0]["unread"]
    mark(api, task, "dismiss")
    mark(api, task, "read")
    assert not inbox(api)[0]["unread"]


def test_a_child_is_made_unread_by_its_own_events_alone(api):
    root = awaiting(api)
    first, second = child(api, root, approval_policy="manual"), child(api, root, approval_policy="manual")
    for task in (root, first, second):
        mark(api, task, "read")
    touch(api, first)
    assert lanes(api, unread=1) == {first["id"]: "approvals"}
    touch(api, root)
    assert set(lanes(api, unread=1)) == {first["id"], root["id"]}


def test_so_many_events_below_a_root_make_it_unread_in_any_case(api):
    root = awaiting(api)
    below = child(api, root)
    mark(api, root, "read")
    for _ in range(199):
        touch(api, below)
    assert lanes(api, unread=1) == {}
    touch(api, below)
    assert lanes(api, unread=1) == {root["id"]: "approvals"}


def test_triage_is_the_actors_own(api):
    task = awaiting(api)
    colleague = other(api)
    mark(api, task, "archive")
    assert inbox(api) == [] and inbox(colleague)[0]["unread"]
    assert mark(colleague, task, "read")["actor"] == {"kind": "human", "ref": "other"}
    assert not inbox(colleague)[0]["unread"]


def rows_of_triage(server):
    return server.count("triage")


def test_triage_rows_go_with_a_deleted_task(api, server):
    before, task = rows_of_triage(server), awaiting(api)
    mark(api, task, "archive")
    mark(other(api), task, "read")
    assert rows_of_triage(server) == before + 2
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    assert rows_of_triage(server) == before and inbox(api, lane="archived") == []
    api.problem("POST", f"/v1/tasks/{task['id']}/triage/read", 404, "not_found", {})


def test_another_workspace_sees_neither_task_nor_inbox(api, server):
    task = awaiting(api)
    space = Client(server).post("/v1/workspaces", {"name": "w", "slug": "w-%d" % time.monotonic_ns()})
    key = Client(server).key_for(workspace_id=space["id"])["key"]
    stranger = Client(server, key)
    for action in ("read", "archive", "dismiss"):
        stranger.problem("POST", f"/v1/tasks/{task['id']}/triage/{action}", 404, "not_found", {})
    assert inbox(stranger) == []
    reader = other(api, "reader", scopes=["tasks:read"])
    reader.problem("POST", f"/v1/tasks/{task['id']}/triage/read", 403, "permission_denied", {})
    assert len(inbox(reader)) == 1
    no_reader = other(api, "claimer", scopes=["runs:claim"])
    no_reader.problem("GET", "/v1/inbox", 403, "permission_denied")


def test_each_task_is_in_the_first_lane_that_fits_and_says_why_it_is_blocked(api):
    prerequisite = api.task()
    waiting = awaiting(api, owner=ME)
    again = failed(api)
    give(api, again)
    over = failed(api, max_attempts=1)
    both = failed(api)
    depend(api, both, prerequisite)
    held = api.task(owner=ME)
    depend(api, held, prerequisite)
    rejected = awaiting(api)
    api.post(f"/v1/tasks/{rejected['id']}/reject", {}, 200)
    mine = api.task(owner=ME)
    api.task(owner={"kind": "human", "ref": "somebody"})
    api.task(owner=ME, draft=True)
    done = api.task(owner=ME)
    api.post(f"/v1/tasks/{done['id']}/cancel", {}, 200)
    seen = [(i["lane"], i["task"]["id"], i.get("blocking_reason")) for i in inbox(api)]
    assert seen == [
        ("approvals", waiting["id"], "awaiting_approval"),
        ("failed_runs", both["id"], "latest_run_failed"),
        ("failed_runs", over["id"], "latest_run_failed"),
        ("failed_runs", again["id"], "latest_run_failed"),
        ("blocked", rejected["id"], "approval_rejected"),
        ("blocked", held["id"], "awaiting_dependencies"),
        ("my_work", mine["id"], None)]
    for lane in ("approvals", "failed_runs", "blocked", "my_work"):
        assert [(lane, i["task"]["id"]) for i in inbox(api, lane=lane)] == [s[:2] for s in seen if s[0] == lane]
    assert inbox(api, unread="true") == inbox(api, unread="false") == inbox(api)
    for query in ("lane=attic", "unread=2"):
        api.problem("GET", "/v1/inbox?" + query, 400, "validation_failed")


def test_a_failed_task_leaves_its_lane_when_it_is_tried_again(api):
    task = failed(api)
    give(api, task)
    assert lanes(api) == {task["id"]: "failed_runs"}
    api.post(f"/v1/tasks/{task['id']}/retry")
    assert lanes(api) == {task["id"]: "my_work"}
    give(api, task, None)
    assert lanes(api) == {}
    fail_next(api)
    assert lanes(api) == {task["id"]: "failed_runs"}
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    assert lanes(api) == {}


def test_what_an_actor_holds_by_a_claim_is_its_work(api):
    agent = other(api, "worker")
    task = api.started()["task"]
    assert lanes(agent) == {}
    claim = agent.claim()[0]
    assert lanes(agent) == {task["id"]: "my_work"} and lanes(api) == {}
    agent.post(f"/v1/runs/{claim['run']['id']}/release", {"claim_token": claim["claim_token"]}, 200)
    assert lanes(agent) == {}


def test_the_inbox_is_searched_by_title_and_identifier(api):
    first = awaiting(api, title="Check the 100% links")
    second = awaiting(api, title="other", identifier="LINK-7")
    assert set(lanes(api, q="link")) == {first["id"], second["id"]}
    assert set(lanes(api, q="0%25 l")) == {first["id"]}
    assert lanes(api, q="nothing") == {}


def test_pages_go_through_all_lanes_without_a_gap_or_a_repetition(api):
    prerequisite = api.task()
    for i in range(5):
        awaiting(api, title=f"a {i}")
        depend(api, api.task(title=f"b {i}"), prerequisite)
        api.task(owner=ME)
    whole = [i["task"]["id"] for i in inbox(api)]
    assert len(whole) == len(set(whole)) == 15
    for limit in (1, 4, 5, 15):
        paged, cursor = [], ""
        while cursor is not None:
            answer = api.get(f"/v1/inbox?limit={limit}&cursor={cursor}")
            paged += [i["task"]["id"] for i in answer["items"]]
            cursor = answer["next_cursor"]
            assert cursor is None or len(answer["items"]) == limit
        assert paged == whole
    cursor = api.get("/v1/inbox?limit=1")["next_cursor"]
    for query in ("cursor=" + cursor + "&lane=blocked", "cursor=cur_0000000000001", "cursor=x", "limit=0", "limit=501"):
        assert api.request("GET", "/v1/inbox?" + query).status_code == 400


def test_triage_survives_a_restart(own_server):
    api = Client(own_server)
    read, away = awaiting(api), awaiting(api)
    mark(api, read, "read")
    mark(api, away, "archive")
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert [(i["task"]["id"], i["unread"]) for i in inbox(api)] == [(read["id"], False)]
    assert lanes(api, lane="archived") == {away["id"]: "archived"}
