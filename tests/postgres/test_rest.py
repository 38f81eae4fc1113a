"""A server that has nothing to do leaves PostgreSQL in peace, and misses nothing by it."""
import datetime
import time

from conftest import Client, Server, cluster, wait_until


def transactions(database):
    row = cluster().sql(database, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    return int(row[0])


def of_three_seconds(database):
    before = transactions(database)
    time.sleep(3)
    return transactions(database) - before


def rest(database):
    """Ticks alone would be four a second; the counts are told with a delay, and these questions are among them."""
    wait_until(lambda: of_three_seconds(database) <= 6, 60)


def test_what_another_server_has_left_due_ends_the_rest(server, database, tmp_path):
    other = Server(tmp_path / "other", "--store", database)
    mine, theirs = Client(server), Client(other)
    theirs.started(title="task", retry={"max_attempts": 2, "delay_ms": 8000}, max_attempts=2)
    claim = theirs.claim()[0]
    theirs.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "kind": "transient", "error": "again"}, 200)
    other.kill()
    rest(database)
    again = mine.claim(wait_seconds=20)
    assert again and again[0]["task"]["id"] == claim["task"]["id"] and again[0]["run"]["attempt"] == 2


def test_a_rest_ends_at_the_time_at_which_something_is_due(server, api, database):
    later = api.started(title="later", retry={"max_attempts": 2, "delay_ms": 9000}, max_attempts=2)
    claim = api.claim()[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail", {"claim_token": claim["claim_token"], "kind": "transient", "error": "again"}, 200)
    rest(database)
    seen = api.get("/v1/workers")["items"][0]["last_heartbeat_at"]
    assert seen <= datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # not what it has promised
    again = api.claim(wait_seconds=20)
    assert again and again[0]["task"]["id"] == later["task"]["id"]


def test_a_rest_ends_before_a_run_has_starved(database, tmp_path):
    server = Server(tmp_path / "data", "--store", database, "--attention-seconds", "10")
    api = Client(server)
    run = api.started()["run"]["id"]
    rest(database)
    wait_until(lambda: api.get("/v1/runs/" + run).get("attention") == "starved", 20)
    server.stop()


def test_a_rest_ends_when_what_is_kept_has_been_kept_long_enough(server, api, database):
    space = api.post("/v1/workspaces", {"name": "w", "slug": "w", "retention_seconds": 5})
    there = Client(server, headers={"X-Workspace-ID": space["id"]})
    task = there.task()["id"]
    there.post(f"/v1/tasks/{task}/cancel", {}, 200)
    wait_until(lambda: there.request("GET", f"/v1/tasks/{task}").status_code == 404, 20)
