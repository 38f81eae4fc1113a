"""The dashboard of a workspace."""
import sqlite3
import time

from conftest import Client, wait_until
from test_graph import depend


def board(api):
    return api.get("/v1/dashboard")


def by_status(shown):
    return {s["status"]: s["count"] for s in shown["by_status"] if s["count"]}


def test_an_empty_workspace_has_a_dashboard_of_zeros(api):
    shown = board(api)
    assert [s["status"] for s in shown["by_status"]] == ["draft", "pending", "blocked", "ready", "in_progress", "completed",
                                                         "failed", "canceled", "in_review"]
    assert by_status(shown) == {} and shown["as_of"]
    assert set(shown["totals"].values()) == set(shown["cards"].values()) == {0}
    assert shown["queue"] == {"runs": 0, "oldest_seconds": 0, "warning": False}
    assert shown["stuck_runs"] == shown["active_runs"] == []


def test_the_dashboard_counts_tasks_runs_and_what_needs_a_look(api):
    api.task(draft=True)
    ready = api.task()
    depend(api, api.task(), ready)
    api.task(approval_policy="manual")
    api.post(f"/v1/tasks/{api.task()['id']}/cancel", {}, 200)
    running, claimed, failing, queued = (api.started(max_attempts=1, title=f"run {i}")["run"] for i in range(4))
    tokens = {c["run"]["id"]: {"claim_token": c["claim_token"]} for c in api.claim(max=3)}
    api.post(f"/v1/runs/{running['id']}/start", tokens[running["id"]], 200)
    api.post(f"/v1/runs/{failing['id']}/fail", {**tokens[failing["id"]], "error": "no"}, 200)
    shown = board(api)
    assert by_status(shown) == {"draft": 1, "blocked": 2, "ready": 3, "in_progress": 1, "failed": 1, "canceled": 1}
    assert shown["totals"] == {"tasks": 9, "open_tasks": 7, "ended_tasks": 2, "queued_runs": 1, "active_runs": 2}
    assert shown["cards"] == {"awaiting_approval": 1, "failed": 1, "blocked": 2, "in_progress": 1, "in_review": 0, "stuck_runs": 0}
    assert shown["queue"]["runs"] == 1 and shown["queue"]["oldest_queued_at"] == queued["queued_at"]
    assert {(r["id"], r["title"], r["status"]) for r in shown["active_runs"]} == {
        (running["id"], "run 0", "running"), (claimed["id"], "run 1", "claimed")}


def test_at_most_four_active_runs_are_shown_the_latest_claims_first(api):
    for _ in range(6):
        api.started()
    claims = [api.claim()[0]["run"]["id"] for _ in range(6)]
    shown = board(api)
    assert [r["id"] for r in shown["active_runs"]] == claims[:1:-1] and shown["totals"]["active_runs"] == 6


def test_runs_that_are_held_back_are_not_in_the_queue(api):
    task = api.started()["task"]
    api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "lunch"}, 200)
    assert board(api)["queue"]["runs"] == 0


def restarted_with(server, sql, *arguments):
    server.stop()
    db = sqlite3.connect(server.data / "baton.db")
    db.execute(sql, arguments)
    db.commit()
    db.close()
    server.start()
    return Client(server)


def make_older(server, minutes, sql):
    """As the rows would be so much later."""
    return restarted_with(server, sql, minutes * 60_000_000)


def test_a_run_that_has_waited_ten_minutes_is_a_warning(own_server):
    api = Client(own_server)
    api.started()
    for minutes, warning in ((9, False), (2, True)):
        api = make_older(own_server, minutes, "UPDATE ready SET queued_at = queued_at - ?")
        shown = board(api)["queue"]
        assert shown["warning"] is warning
    assert 660 <= shown["oldest_seconds"] < 900


def test_claimed_runs_are_stuck_after_five_minutes_and_running_ones_after_thirty(own_server):
    api = Client(own_server)
    running, claimed = api.started(title="running")["run"], api.started(title="claimed")["run"]
    claims = {c["run"]["id"]: {"claim_token": c["claim_token"]} for c in api.claim(max=2, lease_seconds=86400)}
    api.post(f"/v1/runs/{running['id']}/start", claims[running["id"]], 200)
    older = "UPDATE run SET claimed_at = claimed_at - ?"
    api = make_older(own_server, 4, older)
    assert board(api)["stuck_runs"] == []
    api = make_older(own_server, 2, older)
    assert [r["title"] for r in board(api)["stuck_runs"]] == ["claimed"]
    api = make_older(own_server, 25, older)
    shown = board(api)
    assert [r["title"] for r in shown["stuck_runs"]] == ["running", "claimed"] and shown["cards"]["stuck_runs"] == 2
    assert shown["stuck_runs"][0]["progress_at"] < shown["as_of"]


def test_another_workspace_has_a_dashboard_of_its_own(api, server):
    api.started()
    api.claim()
    space = Client(server).post("/v1/workspaces", {"name": "w", "slug": "w-%d" % time.monotonic_ns()})
    stranger = Client(server, Client(server).key_for(workspace_id=space["id"])["key"])
    shown = board(stranger)
    assert by_status(shown) == {} and shown["active_runs"] == [] and shown["totals"]["active_runs"] == 0


def test_what_takes_long_to_count_is_kept_for_a_while_and_the_rest_is_not(own_server):
    api = Client(own_server)
    api.started()
    wait_until(lambda: len({board(api)["as_of"] for _ in range(3)}) == 3)  # one that a busy machine made slow is kept too
    space = api.post("/v1/workspaces", {"name": "small"})
    api = restarted_with(own_server, "INSERT INTO ready WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                         " WHERE i < ?) SELECT lane, queued_at + i, run FROM ready, n", 1_000_000)
    first = board(api)
    assert first["queue"]["runs"] == 1_000_001 and first["totals"]["tasks"] == 1
    api.task()
    assert board(api) == first
    small = Client(own_server, headers={"X-Workspace-ID": space["id"]})
    assert board(small)["queue"]["runs"] == 0
