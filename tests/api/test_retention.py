"""Trees of tasks that have ended long ago go, where a workspace says so, and leave a row of the audit log."""
import concurrent.futures
import json
import pathlib
import re
import sqlite3
import time

import pytest
from conftest import Client, wait_until
from flows import approval_of, command, decide, launch, noop, reaches
from test_audit import log, of, sound, verify
from test_graph import child, depend
from test_streams import frames

ROOT = pathlib.Path(__file__).parents[2]
OF_TREES = ["task", "run", "step", "event", "approval", "log_line", "join_point", "dependency", "deleted_tree"]


def workspace(server, **fields):
    made = Client(server).post("/v1/workspaces", {"name": "r", "slug": "r-%d" % time.monotonic_ns(), **fields})
    return Client(server, headers={"X-Workspace-ID": made["id"]})


@pytest.fixture
def brief(server):
    """Nothing that has ended stays there for long."""
    return workspace(server, retention_seconds=1)


def end(api, task):
    return api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)


def is_gone(api, task):
    return api.request("GET", "/v1/tasks/" + task["id"]).status_code == 404


def goes(api, task):
    wait_until(lambda: is_gone(api, task), 30)


def stays(api, *tasks):
    """Others that ended later were looked at and are gone: these were looked at too, twice."""
    for _ in range(2):
        later = api.task()
        goes(api, end(api, later))
    assert not any(is_gone(api, task) for task in tasks)


def rows(server):
    return {table: server.count(table) for table in OF_TREES}


def test_it_is_off_unless_a_workspace_says_so(server, brief):
    forever = workspace(server)
    assert "retention_seconds" not in forever.get("/v1/workspaces/" + forever.session.headers["X-Workspace-ID"])
    kept = end(forever, forever.task())
    goes(brief, end(brief, brief.task()))
    stays(brief)
    assert not is_gone(forever, kept)
    for bad in (-1, 10 ** 10):
        forever.problem("POST", "/v1/workspaces", 400, "validation_failed", {"name": "x", "retention_seconds": bad})


def test_it_waits_for_its_time(server):
    api = workspace(server, retention_seconds=3)
    task = end(api, api.task())
    began = time.monotonic()
    goes(api, task)
    assert time.monotonic() - began > 2


def test_a_tree_goes_with_everything_and_a_row_of_the_audit_log_stays(own_server):
    api = workspace(own_server, retention_seconds=1)
    before = rows(own_server)
    root = api.task(title="the root")
    for i in range(3):
        depend(api, root, child(api, child(api, root), auto_enqueue_on_ready=True))
    run = launch(api, {"action": "approval", "parameters": {"message": "go?"}}, command("echo a line"), noop(1),
                 {"action": "parallel", "parameters": {"join": "all", "branches": [
                     {"name": "a", "steps": [noop(1)]}, {"name": "b", "steps": [noop(2)]}]}})
    decide(api, approval_of(api, run), "approve")
    reaches(api, run, "completed")
    assert all(count > before[table] for table, count in rows(own_server).items() if table not in ("join_point", "deleted_tree"))
    end(api, root)
    for task in (root, {"id": run["task_id"]}):
        goes(api, task)
        entry = of(api, task["id"])[-1]
        assert entry["action"] == "tree.expired" and entry["actor"] == {"kind": "daemon", "ref": "baton"}
        assert entry["before"] and "after" not in entry
    assert of(api, root["id"])[-1]["detail"] == "7 tasks" and of(api, run["task_id"])[-1]["detail"] == "1 task"
    assert rows(own_server) == before
    api.problem("GET", "/v1/runs/" + run["id"], 404, "not_found")
    assert sound(*log(api)) and verify("--data", own_server.data)["ok"]


def test_a_run_with_many_branches_and_a_long_log_goes_too(own_server):
    before = rows(own_server)
    api = workspace(own_server, retention_seconds=1)
    run = launch(api, {"action": "for_each", "parameters": {"items": list(range(120)), "steps": [noop(1)]}},
                 command("head -c 3000000 /dev/zero | tr '\\0' x"))
    reaches(api, run, "completed", 60)
    made = rows(own_server)
    assert made["run"] > before["run"] + 120 and made["log_line"] > before["log_line"] + 40
    goes(api, {"id": run["task_id"]})
    assert rows(own_server) == before


def test_what_belongs_to_runs_and_tasks_is_deleted_with_them():
    """A new table must be emptied in both places."""
    tables = re.findall(r"^CREATE TABLE (\w+) \((.*?)^\) STRICT", "".join(p.read_text() for p in (ROOT / "sql").glob("*")),
                        re.M | re.S)
    owned = {name for name, columns in tables if re.search(r"^\s*run_id\s", columns, re.M)}
    owned -= {"event", "delivery"}  # a delivery to a webhook has a time of its own
    assert {"step", "log_line", "approval", "join_point"} <= owned
    for place in ("task_sql.def", "retention_sql.def"):
        text = (ROOT / "src" / "domain" / place).read_text()
        for name in owned:
            assert f"DELETE FROM {name} WHERE" in text, (place, name)


def test_a_tree_with_something_open_in_it_stays_whole(brief, capability):
    root = brief.task()
    closed, queued = child(brief, root), child(brief, root, required_capabilities=[capability])
    brief.post(f"/v1/tasks/{queued['id']}/runs")
    end(brief, closed)
    [claim] = brief.claim(capabilities=[capability])
    brief.post(f"/v1/tasks/{root['id']}/runs")
    done = brief.claim()[0]
    assert done["task"]["id"] == root["id"]
    brief.post(f"/v1/runs/{done['run']['id']}/complete", {"claim_token": done["claim_token"]}, 200)
    draft = brief.task(draft=True)
    stays(brief, root, closed, queued, draft)
    brief.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    for task in (queued, closed, root):
        goes(brief, task)
    stays(brief, draft)


def test_a_tree_that_others_wait_for_stays_until_they_go(brief):
    first, waiting = brief.task(), brief.task()
    depend(brief, waiting, first)
    end(brief, first)
    stays(brief, first, waiting)
    end(brief, waiting)
    goes(brief, waiting)
    goes(brief, first)


def test_a_tree_that_waited_for_others_leaves_them_in_order(brief):
    first, waiting = brief.task(), brief.task()
    depend(brief, waiting, first)
    goes(brief, end(brief, waiting))
    brief.request("DELETE", "/v1/tasks/" + first["id"], status=204)


def test_what_was_started_again_in_time_stays(brief):
    task = brief.task(start=True)["task"]
    claim = brief.claim()[0]
    brief.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    brief.post(f"/v1/tasks/{task['id']}/runs")
    stays(brief, task)


def test_the_id_of_a_tree_that_went_is_not_given_again(brief):
    task = end(brief, brief.task())
    goes(brief, task)
    brief.problem("POST", "/v1/tasks", 409, "conflict", {"title": "x", "id": task["id"]})


def test_who_follows_a_tree_that_goes_hears_its_end(brief):
    task = end(brief, brief.task())
    seen = frames(brief, f"/v1/tasks/{task['id']}/events/stream")
    assert seen[0]["event"] == "task.created" and seen[-1]["event"] == "stream.end"
    assert is_gone(brief, task)


def test_the_events_of_a_tree_that_somebody_deleted_go_too(own_server):
    before = rows(own_server)
    api = workspace(own_server, retention_seconds=1)
    task = api.task()
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    assert rows(own_server)["deleted_tree"] == 1 and rows(own_server)["event"] > before["event"]
    wait_until(lambda: rows(own_server) == before, 30)
    api.problem("POST", "/v1/tasks", 409, "conflict", {"title": "x", "id": task["id"]})
    assert [e["action"] for e in of(api, task["id"])] == ["task.deleted"]


def test_a_stream_says_where_events_are_gone(own_server):
    """A large tree loses its oldest events first: for some moments that can be seen."""
    api = workspace(own_server)
    task = api.task()
    for _ in range(5):
        api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "x"}, 200)
        api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)
    own_server.stop()
    with sqlite3.connect(own_server.data / "baton.db") as db:
        assert db.execute("DELETE FROM event WHERE seq <= 4 AND tree_id = (SELECT max(id) FROM task)").rowcount == 4
    own_server.start()
    path = f"/v1/tasks/{task['id']}/events/stream"
    for last in (None, 0, 2):
        gap, *rest = frames(api, path, last=last, stop=8)
        assert gap == {"event": "gap", "data": json.dumps({"first_sequence": 5}, separators=(",", ":"))}
        assert [int(f["id"]) for f in rest] == list(range(5, 12))
    assert [int(f["id"]) for f in frames(api, path, last=4, stop=7)] == list(range(5, 12))


def churn(api, n):
    """Tasks that are begun and done, a hundred at a time."""
    for _ in range(n):
        made = api.post("/v1/tasks/batch", {"items": [{"title": "x", "start": True, "input": {"text": "y" * 500}}] * 100},
                        200)["items"]
        assert all(item["ok"] for item in made)
        claims = api.claim(max=100)
        done = api.post("/v1/runs/complete", {"items": [{"run_id": c["run"]["id"], "claim_token": c["claim_token"]}
                                                        for c in claims]}, 200)["items"]
        assert len(done) == 100 and all(item["ok"] for item in done)


def test_the_database_does_not_grow_for_ever(own_server):
    """As many pages after five rounds as after two, but for the rows of the audit log."""
    api, used = workspace(own_server, retention_seconds=1), []
    before = rows(own_server)
    for _ in range(5):
        churn(api, 5)
        wait_until(lambda: rows(own_server) == before, 120)
        pages, free = (own_server.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count"))
        used.append((pages, pages - free))
    told = 500 * 1000 // 4096  # five hundred trees a round, within 1,000 bytes each
    assert used[-1][0] <= used[1][0] + 3 * told and used[-1][1] <= used[1][1] + 3 * told
    assert verify("--data", own_server.data)["rows"] > 2500


def test_a_large_tree_goes_in_pieces_and_kill_9_between_them_loses_nothing(own_server):
    api = workspace(own_server, retention_seconds=2)
    before = rows(own_server)
    root = api.task()
    below = [child(api, root) for _ in range(20)]

    def grow(i):
        client = api.again()
        for _ in range(60):
            child(client, below[i])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(grow, range(20)))
    end(api, root)
    whole = rows(own_server)["task"]
    wait_until(lambda: rows(own_server)["task"] < whole, 60)
    own_server.kill()
    left = rows(own_server)["task"]
    own_server.start()
    if left > before["task"]: # it was cut in the middle
        assert not is_gone(Client(own_server), root)
    wait_until(lambda: rows(own_server) == before, 60)
    told = [e["action"] for e in of(Client(own_server), root["id"])]
    assert 1 <= told.count("tree.expired") <= 2 and verify("--data", own_server.data)["ok"]
