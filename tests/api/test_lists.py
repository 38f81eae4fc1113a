"""Lists of tasks and runs: every filter narrows, pages by key, and reads by an index or within a bound."""
import pathlib
import re
import sqlite3
import subprocess
import time
from urllib.parse import urlencode

import pytest

from conftest import SLOW, Client, wait_until

ROOT = pathlib.Path(__file__).parents[2]


def ids(api, path, **query):
    """All of a list, read one item a page, newest first."""
    found, cursor = [], {}
    while True:
        page = api.get(path + "?" + urlencode({**query, **cursor, "limit": 1}))
        found += [item["id"] for item in page["items"]]
        if not page["next_cursor"]:
            assert found == sorted(found, reverse=True)
            return found
        cursor = {"cursor": page["next_cursor"]}


def definition(api, name, **step):
    return api.post("/v1/definitions", {"name": name, "steps": [{"action": "delay", "parameters": {"seconds": 600}}]})


def special_tasks(api):
    """Filter: the only tasks that it lets through."""
    spec = definition(api, "d")
    parent = api.task(title="Äpfel und BIRNEN")
    child = api.post(f"/v1/tasks/{parent['id']}/children", {"title": "child"})
    run = api.post(f"/v1/definitions/{spec['id']}/runs", {"source_conversation_id": "c-1"})
    pool = api.task(owner={"kind": "pool", "ref": "p"}, network_channel="ops", identifier="Ticket-7")
    human = api.task(owner={"kind": "human", "ref": "p"}, priority="urgent")
    careful = api.task(approval_policy="manual")
    rejected = api.task(approval_policy="manual")
    api.post(f"/v1/tasks/{rejected['id']}/reject", {}, 200)
    canceled = api.task()
    api.post(f"/v1/tasks/{canceled['id']}/cancel", {}, 200)
    draft, starred = api.task(draft=True), api.task(title="a [B]*? z")
    return parent, {
        "status=canceled": [canceled], "status=draft": [draft], "status=blocked": [careful, rejected],
        "priority=urgent": [human], "approval_state=pending": [careful], "approval_state=rejected": [rejected],
        "owner_kind=pool": [pool], "owner_kind=human&owner_ref=p": [human], "network_channel=ops": [pool],
        f"parent_task_id={parent['id']}": [child], f"definition_id={spec['id']}": [run["task"]],
        "source_conversation_id=c-1": [run["task"]], "q=äPFEL UND b": [parent], "q=tICKET-": [pool],
        "q=[b]*?": [starred], "q=[": [starred], "q=*": [starred],
        "status=blocked&approval_state=pending": [careful], "scope=global": [],
    }


def test_every_filter_of_tasks_narrows_and_pages(api):
    parent, filters = special_tasks(api)
    plain = [api.task()["id"] for _ in range(3)]
    for text, tasks in filters.items():
        query = dict(pair.split("=", 1) for pair in text.split("&"))
        assert ids(api, "/v1/tasks", **query) == [t["id"] for t in tasks][::-1], text
    draft = filters["status=draft"][0]["id"]
    everything = ids(api, "/v1/tasks", include_drafts=1)
    assert len(everything) == 13 and draft not in ids(api, "/v1/tasks")
    assert everything[:3] == plain[::-1] and everything[-1] == parent["id"]
    for query, field in (({"owner_ref": "p"}, "owner_ref"), ({"status": "odd"}, "status"),
                         ({"q": "x" * 1001}, "q"), ({"q": "x" * 5000}, "q"), ({"parent_task_id": "run_1"}, "parent_task_id"), ({"include_drafts": "2"}, "include_drafts")):
        problem = api.problem("GET", "/v1/tasks?" + urlencode(query), 400, "validation_failed")
        assert problem["field"] == field


def test_every_filter_of_runs_narrows_and_pages(api, capability):
    held = api.claimed(capability, session_id=capability)["run"]
    spec = definition(api, "d")
    made = [api.post(f"/v1/definitions/{spec['id']}/runs")["run"]["id"] for _ in range(3)]
    canceled = [api.started()["run"] for _ in range(2)]
    for run in canceled:
        api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    time.sleep(0.002)
    last = api.started()["run"]
    canceled = [r["id"] for r in canceled]
    for query, want in (({"status": "canceled"}, canceled), ({"status": "claimed"}, [held["id"]]),
                        ({"task_id": held["task_id"]}, [held["id"]]), ({"session_id": capability}, [held["id"]]),
                        ({"definition_id": spec["id"]}, made), ({"created_after": last["queued_at"]}, [last["id"]]),
                        ({"created_before": last["queued_at"]}, [held["id"], *made, *canceled]),
                        ({"created_before": "2020-01-01T00:00:00Z"}, []),
                        ({"status": "canceled", "created_after": last["queued_at"]}, []),
                        ({}, [held["id"], *made, *canceled, last["id"]])):
        assert ids(api, "/v1/runs", **query) == want[::-1], query
    assert api.problem("GET", "/v1/runs?gateway_id=g", 400, "unknown_field")["field"] == "gateway_id"


def pages(api, path, member):
    """The member of every item, read two a page."""
    found, cursor = [], ""
    while True:
        page = api.get(f"{path}?limit=2{cursor}")
        assert len(page["items"]) <= 2
        found += [item[member] for item in page["items"]]
        if not page["next_cursor"]:
            return found
        cursor = "&cursor=" + page["next_cursor"]


def test_workspaces_are_paged_newest_first(own_server):
    admin = Client(own_server)
    made = [admin.post("/v1/workspaces", {"name": f"n{i}"})["id"] for i in range(4)]
    assert pages(admin, "/v1/workspaces", "id")[:4] == made[::-1]
    assert pages(admin, "/v1/workspaces", "slug")[-1] == "default"
    bound = Client(own_server, admin.key_for(workspace_id=made[1])["key"])
    assert pages(bound, "/v1/workspaces", "id") == [made[1]]
    admin.problem("GET", "/v1/workspaces?limit=0", 400, "validation_failed")
    admin.problem("GET", "/v1/workspaces?cursor=no", 400, "invalid_cursor")


def test_versions_of_a_definition_are_paged_newest_first(api):
    made = definition(api, "many")
    for version in range(1, 5):
        api.request("PUT", "/v1/definitions/many", {"name": "many", "description": str(version), "steps": made["spec"]["steps"]},
                    200, headers={"If-Match": f'"{version}"'})
    assert pages(api, "/v1/definitions/many/versions", "version") == [5, 4, 3, 2, 1]


def test_steps_checkpoints_secrets_and_dependencies_are_paged_in_their_order(api):
    steps = [{"action": "checkpoint", "label": f"c{i}"} for i in range(5)]
    spec = api.post("/v1/definitions", {"name": "long", "steps": steps})
    run = "/v1/runs/" + api.post(f"/v1/definitions/{spec['id']}/runs")["run"]["id"]
    wait_until(lambda: api.get(run)["status"] == "completed")
    assert pages(api, run + "/steps", "index") == pages(api, run + "/checkpoints", "step_index") == [0, 1, 2, 3, 4]
    for name in "bca":
        api.request("PUT", "/v1/secrets/" + name, {"value": "long enough"}, 204)
    assert pages(api, "/v1/secrets", "name") == ["a", "b", "c"]
    task, others = api.task(), [api.task()["id"] for _ in range(3)]
    for other in others:
        api.post(f"/v1/tasks/{task['id']}/dependencies", {"depends_on_task_id": other})
    assert sorted(pages(api, f"/v1/tasks/{task['id']}/dependencies", "depends_on_task_id")) == sorted(others)


def test_the_children_of_a_run_are_listed_by_it(api):
    steps = [{"action": "parallel", "parameters": {"branches": [
        {"name": n, "steps": [{"action": "delay", "parameters": {"seconds": 600}}]} for n in "ab"]}}]
    spec = api.post("/v1/definitions", {"name": "p", "steps": steps})
    run = api.post(f"/v1/definitions/{spec['id']}/runs")["run"]
    deadline = time.monotonic() + 10 * SLOW
    while len(ids(api, "/v1/runs", parent_run_id=run["id"])) < 2:
        assert time.monotonic() < deadline
    assert run["id"] not in ids(api, "/v1/runs", parent_run_id=run["id"])
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    assert len(ids(api, "/v1/runs", parent_run_id=run["id"], status="canceled")) == 2


def statements():
    """Name: text of every statement of the domain, as the compiler puts it together."""
    source = '#define SQL(name, record, ...) @name@ __VA_ARGS__ @\n#include "domain/sql_files.def"\n'
    text = subprocess.run(["gcc", "-E", "-P", f"-I{ROOT / 'src'}", "-x", "c", "-"], input=source, check=True,
                          capture_output=True, text=True).stdout
    literal = r'"((?:[^"\\]|\\.)*)"'
    first = rf"(?:\s*{literal})+"  # without the second text that PostgreSQL may have
    return {name: "".join(re.findall(literal, re.match(first, body)[0])).replace("{columns}", "*").replace("\\\\", "\\")
            for name, body in re.findall(r"@(\w+)@([^@]*)@", text)}


@pytest.mark.parametrize("name, index", [
    ("TASK_LIST", "task_priority (workspace_id=? AND priority=? AND id>? AND id<?)"),
    ("TASK_LIST_STATUS", "task_status (workspace_id=? AND status=? AND id>? AND id<?)"),
    ("TASK_LIST_PRIORITY", "task_priority (workspace_id=? AND priority=? AND id>? AND id<?)"),
    ("TASK_LIST_PARENT", "task_parent (parent_task_id=? AND id>? AND id<?)"),
    ("TASK_LIST_DEFINITION", "task_definition (definition_id=? AND id>? AND id<?)"),
    ("TASK_LIST_APPROVAL", "approval_task (task_id<?)"),
    ("TASK_LIST_OWNER", "task_owner (workspace_id=? AND owner=? AND id>? AND id<?)"),
    ("TASK_LIST_CHANNEL", "task_channel (workspace_id=? AND network_channel=? AND id>? AND id<?)"),
    ("TASK_LIST_CONVERSATION", "task_conversation (workspace_id=? AND source_conversation_id=? AND id>? AND id<?)"),
    ("TASK_LIST_OWNERS", "task_owner (workspace_id=? AND owner=?)"),
    ("RUN_LIST", "run_by_status (workspace_id=? AND status=? AND id>? AND id<?)"),
    ("RUN_LIST_STATUS", "run_by_status (workspace_id=? AND status=? AND id>? AND id<?)"),
    ("RUN_LIST_LEASED", "run_lease (lease_until>?)"),
    ("APPROVAL_LIST", "approval_of_workspace (workspace_id=? AND id<?)"),
    ("APPROVAL_LIST_OPEN", "approval_open (workspace_id=? AND id<?)"),
    ("APPROVAL_LIST_RUN", "approval_run (run_id=?)"),
    ("RUN_LIST_DEFINITION", "run_definition (definition_id=? AND id>? AND id<?)"),
    ("RUN_LIST_QUEUED", "run_open (workspace_id=? AND id>? AND id<?)"),
    ("RUN_LIST_TASK", "run_task (task_id=? AND id>? AND id<?)"),
    ("RUN_LIST_PARENT", "run_parent (parent_run_id=?)"),
    ("RUN_LIST_SESSION", "run_of_session (workspace_id=? AND session_id=? AND id>? AND id<?)"),
])
def test_a_page_is_read_by_an_index_from_its_cursor_on(server, name, index):
    text = statements()[name]
    numbers = [1] * max(int(n) for n in re.findall(r"\?(\d+)", text))
    plan = [row[3] for row in server.rows("EXPLAIN QUERY PLAN " + text, *numbers)]
    assert any(step.endswith(index) for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan
    # The children of one run and the approvals of one are few, and so are leases and the tasks of a kind of owners: they are sorted.
    assert ("USE TEMP B-TREE FOR ORDER BY" in plan) <= (name in ("RUN_LIST_PARENT", "RUN_LIST_LEASED", "APPROVAL_LIST_RUN", "TASK_LIST_OWNERS")), plan


GROWING = {"event", "run", "task", "tree", "step", "approval", "delivery", "task_input", "review", "audit", "ready", "dependency",
           "idempotency", "log_line", "triage", "join_point", "deleted_tree"}  # deleted_task shrinks by itself


def test_no_statement_reads_a_growing_table_as_a_whole(server):
    """At the most the few rows of an index with a condition."""
    partial = {row[0] for row in server.rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql LIKE '% WHERE %'")}
    asked = 0
    for name, text in statements().items():
        if "(*)" in text:  # it adds rows of a record
            continue
        aliases = {alias: table for table, alias in re.findall(r"(\w+) AS (\w+)", text)}
        numbers = [1] * max([int(n) for n in re.findall(r"\?(\d+)", text)], default=0)
        for row in server.rows("EXPLAIN QUERY PLAN " + text, *numbers):
            scan = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?$", row[3])
            if scan and aliases.get(scan[1], scan[1]) in GROWING:
                assert scan[2] in partial, (name, row[3])
        asked += 1
    assert asked > 200


def test_a_filter_without_an_index_reads_a_hundred_thousand_tasks_within_its_bound(own_server):
    """The only match is the oldest one, so each of them reads everything."""
    api = Client(own_server)
    api.task(title="needle", owner={"kind": "pool", "ref": "p"}, network_channel="ops")
    spec = definition(api, "d")
    api.post(f"/v1/definitions/{spec['id']}/runs", {"source_conversation_id": "c-1"})
    held = api.claimed("any", session_id="s")["run"]
    own_server.stop()
    db = sqlite3.connect(own_server.data / "baton.db")
    for table, changes in (("task", "title = 'hay', owner = NULL, network_channel = NULL,"
                                    " source_conversation_id = NULL, definition_id = NULL"),
                           ("run", "session_id = NULL, lease_until = NULL, wake_at = NULL, status = 11,"
                                   " ended_at = 1, parent_run_id = NULL")):
        db.execute(f"CREATE TEMP TABLE copy AS SELECT * FROM {table} ORDER BY id DESC LIMIT 1")
        db.execute(f"UPDATE copy SET {changes}")
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")][1:]
        db.execute(f"INSERT INTO {table} (id, {', '.join(columns)}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
                   f" SELECT i + 1 FROM n WHERE i < 100000) SELECT copy.id + n.i, {', '.join(columns)} FROM n, copy")
        db.execute("DROP TABLE copy")
    db.commit()
    db.close()
    own_server.start()
    api = Client(own_server)
    one, few = 1, 0.2
    for query, bound, n in (("/v1/tasks?owner_kind=pool", few, one), ("/v1/tasks?owner_kind=pool&owner_ref=p", few, one),
                            ("/v1/tasks?network_channel=ops", few, one), ("/v1/tasks?source_conversation_id=c-1", few, one),
                            (f"/v1/tasks?definition_id={spec['id']}", few, one), ("/v1/tasks?status=in_progress", few, one),
                            ("/v1/runs?session_id=s", few, one), ("/v1/runs?status=claimed", few, one),
                            ("/v1/runs?status=queued", few, 0), ("/v1/runs?status=completed", few, 0),
                            ("/v1/runs?status=failed", few, 0), ("/v1/runs?status=awaiting_input", few, 0),
                            (f"/v1/runs?task_id={held['task_id']}&status=claimed", 1, one),
                            (f"/v1/runs?created_before={held['queued_at']}&status=claimed", few, 0)):
        began = time.monotonic()
        found = api.get(query)["items"]
        took = time.monotonic() - began
        print(query, round(took * 1000, 1), "ms")
        assert took < bound * SLOW / 2, query
        assert len(found) == n, query
    other = Client(own_server, headers={"X-Workspace-ID": api.post("/v1/workspaces", {"name": "w", "slug": "w"})["id"]})
    began = own_server.cpu_seconds()
    assert other.get("/v1/runs")["items"] == []
    assert own_server.cpu_seconds() - began < few
