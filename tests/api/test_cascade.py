"""Cancels of trees that are too large for one transaction: they hold at once and end piece by piece."""
import sqlite3
import threading

import pytest

from conftest import Client, wait_until

LEAVES = 3000


def grow(server, n):
    """n more tasks like the newest one, each with its queued run, straight in the file of a stopped server."""
    db = sqlite3.connect(server.data / "baton.db")
    task, run, parent = db.execute("SELECT id, last_run_id, parent_task_id FROM task ORDER BY id DESC").fetchone()
    for table, of, shifted in (("task", task, ("id", "last_run_id")), ("run", run, ("id", "task_id"))):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(f"{c} + i" if c in shifted else c for c in columns)
        db.execute(f"INSERT INTO {table} ({', '.join(columns)}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                   f" FROM n WHERE i < {n}) SELECT {values} FROM {table}, n WHERE id = {of}")
    db.execute("INSERT INTO ready SELECT lane, queued_at, id FROM run WHERE id > ?", [run])
    db.execute("UPDATE task SET child_count = child_count + ? WHERE id = ?", [n, parent])
    db.commit()
    db.close()


def open_tasks(server):
    return server.count("task WHERE status IN (0, 1, 2, 3, 4, 8)")


class Tree:
    """A root, a task below it whose run an agent holds, and thousands below that one."""

    def __init__(self, server):
        api = Client(server)
        self.server, self.root = server, api.task(title="root")
        self.middle = api.post(f"/v1/tasks/{self.root['id']}/children",
                               {"title": "middle", "start": True, "required_capabilities": ["middle"]})["task"]
        self.held = api.claim(capabilities=["middle"])[0]
        api.post(f"/v1/tasks/{self.middle['id']}/children", {"title": "leaf", "start": True})
        server.stop()
        grow(server, LEAVES)
        server.start()
        self.api = Client(server)
        newest = self.api.get(f"/v1/tasks?limit=1&parent_task_id={self.middle['id']}")["items"][0]
        self.last = self.api.get("/v1/tasks/" + newest["id"])

    def cancel(self):
        """Canceled, and most of it is still to come."""
        assert self.api.post(f"/v1/tasks/{self.root['id']}/cancel", {"reason": "not wanted"}, 200)["status"] == "canceled"

    def all_ends(self):
        wait_until(lambda: open_tasks(self.server) == 0, 20)
        for what in ("run WHERE ended_at IS NULL", "ready", "cascade"):
            assert self.server.count(what) == 0, what
        last = self.api.get(f"/v1/tasks/{self.last['id']}/timeline?descending=1&limit=1")["items"][0]
        assert last["type"] == "task.canceled"
        assert last["payload"] | {"reason": "parent_cascade", "detail": "not wanted", "status": "canceled",
                                  "propagated_from_task_id": self.root["id"]} == last["payload"]


@pytest.fixture
def tree(own_server):
    return Tree(own_server)


def test_a_cancel_holds_for_the_whole_tree_before_it_has_come_to_every_task(tree):
    tree.cancel()
    run = tree.last["runs"][0]
    body = {"claim_token": tree.held["claim_token"], "result": 1}
    for method, path, body in (("POST", f"/v1/tasks/{tree.last['id']}/children", {"title": "born meanwhile"}),
                               ("POST", f"/v1/runs/{run['id']}/claim", {}),
                               ("POST", f"/v1/runs/{tree.held['run']['id']}/complete", body)):
        tree.api.problem(method, path, 409, "invalid_transition", body)
    assert tree.api.claim(max=100) == []
    assert open_tasks(tree.server) > 0, "too fast for this test: let the tree be larger"
    tree.all_ends()
    assert tree.server.count("event WHERE type = 11") == 1, "only what was held before"
    assert tree.server.count("event WHERE type = 3") == LEAVES + 3


def test_a_review_below_a_canceled_task_is_no_longer_judged_and_ends_with_its_task(tree):
    child = tree.api.post(f"/v1/tasks/{tree.root['id']}/children", {"title": "judged", "start": True, "review_policy": "always"})
    task, run = child["task"], f"/v1/runs/{child['run']['id']}"
    [claim] = tree.api.post(run + "/claim", {}, 200)["claims"]
    tree.api.post(run + "/complete", {"claim_token": claim["claim_token"], "result": 1}, 200)
    assert tree.api.get("/v1/tasks/" + task["id"])["status"] == "in_review"
    [review] = tree.api.get(run + "/reviews")["items"]
    tree.cancel()
    verdict = {"outcome": "rejected", "confidence": 1, "reason": "bad", "delivery_id": "d", "missing_work": ["all"]}
    tree.api.problem("POST", f"/v1/reviews/{review['id']}/bind", 409, "invalid_transition", {})
    tree.api.problem("POST", f"/v1/reviews/{review['id']}/verdict", 409, "invalid_transition", verdict)
    assert tree.api.get("/v1/reviews/" + review["id"])["status"] == "requested", "too fast for this test: let the tree be larger"
    tree.all_ends()
    assert tree.api.get("/v1/reviews/" + review["id"])["status"] == "canceled"
    shown = tree.api.get("/v1/tasks/" + task["id"])
    assert shown["status"] == "canceled" and len(shown["runs"]) == 1


def test_a_cancel_goes_on_after_the_server_was_killed(tree):
    tree.cancel()
    tree.server.kill()
    assert tree.server.count("cascade") == 1 and open_tasks(tree.server) > 0
    tree.server.start()
    tree.api = Client(tree.server)
    tree.all_ends()
    numbers = [e["sequence"] for e in tree.api.get(f"/v1/tasks/{tree.root['id']}/timeline?limit=500&after_sequence=5")["items"]]
    assert numbers == list(range(6, 506))


def test_a_claim_that_met_only_canceled_runs_gets_what_stands_behind_them(tree):
    behind = tree.api.started(title="behind")
    got = []
    waiting = threading.Thread(target=lambda: got.extend(Client(tree.server).claim(wait_seconds=20)))
    tree.cancel()
    waiting.start()
    waiting.join()
    assert [claim["run"]["id"] for claim in got] == [behind["run"]["id"]]
    tree.api.post(f"/v1/tasks/{behind['task']['id']}/cancel", {}, 200)
    tree.all_ends()


def test_what_was_deleted_on_the_way_does_not_stop_a_cancel(tree):
    tree.cancel()
    leaves = tree.api.get(f"/v1/tasks?status=canceled&parent_task_id={tree.middle['id']}&limit=500")["items"]
    for task in leaves:
        tree.api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    assert leaves
    tree.all_ends()


def test_tasks_that_wait_for_one_that_is_canceled_follow_however_many_they_are(api):
    first = api.task()
    others = [api.task() for _ in range(150)]
    for task in others:
        api.post(f"/v1/tasks/{task['id']}/dependencies", {"depends_on_task_id": first["id"], "on_failure": "cancel"})
    api.post(f"/v1/tasks/{first['id']}/cancel", {}, 200)
    wait_until(lambda: len(api.get("/v1/tasks?status=canceled&limit=500")["items"]) == 151)
    shown = api.get(f"/v1/tasks/{others[0]['id']}/timeline?event_type=task.canceled")["items"]
    assert [e["payload"]["reason"] for e in shown] == ["dependency_failed"]
