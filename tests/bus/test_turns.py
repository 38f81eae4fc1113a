"""Servers that write to one PostgreSQL database in turn: what one alone would do, each thing once."""
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from conftest import BATON, SANITIZED, Client, cluster, wait_until

TURN = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
JOINS, RUNS = (int(os.environ.get(name, few)) for name, few in (("JOINS", "40"), ("RUNS", "2000")))


@pytest.fixture
def database():
    return cluster().database()


def two(servers, database, *options):
    return [Client(servers("--store", database, *options)) for _ in range(2)]


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def rows(database, query):
    return [row.split("|") for row in cluster().sql(database, query)]


def test_sixteen_claimers_over_two_servers_get_each_run_once(servers, database):
    a, b = two(servers, database, "--concurrency", "0")
    for made in range(0, RUNS, 1000):
        a.post("/v1/tasks/batch", {"items": [{"title": "t", "start": True}] * min(1000, RUNS - made)}, 200)

    def take(n):
        api, got = Client((a, b)[n % 2].server), []
        while claims := api.claim(max=7):
            got += [(claim["run"]["id"], claim["run"]["task_id"]) for claim in claims]
            api.post("/v1/runs/complete", {"items": [{"run_id": claim["run"]["id"], "claim_token": claim["claim_token"],
                                                      "result": 1} for claim in claims]}, 200)
        return got

    with ThreadPoolExecutor(16) as pool:
        got = [pair for each in pool.map(take, range(16)) for pair in each]
    assert len(got) == len(set(got)) == len({task for _, task in got}) == RUNS
    assert rows(database, "SELECT count(*), max(epoch) FROM run WHERE status = 9") == [[str(RUNS), "1"]]


def test_a_run_resumes_once_when_its_last_branches_end_at_once_on_two_servers(servers, database):
    a, b = two(servers, database, "--concurrency", "4")
    a.post("/v1/definitions", {"name": "fork", "steps": [
        {"action": "parallel", "parameters": {"branches": [{"name": name, "steps": [{"action": "noop"}]}
                                                           for name in ("one", "two")]}},
        {"action": "noop"}]})
    made = [(a, b)[n % 2].post("/v1/definitions/fork/runs", {})["run"]["id"] for n in range(JOINS)]
    for run in made:
        wait_until(lambda: b.get("/v1/runs/" + run)["status"] == "completed", 120)
    resumed = rows(database, "SELECT count(*), count(DISTINCT run_id) FROM event WHERE type = 24")
    assert resumed == [[str(JOINS)] * 2]
    assert len(rows(database, "SELECT DISTINCT claimed_by FROM run")) == 2  # both workers had some of it


def test_a_pause_through_one_server_holds_the_claims_of_the_other(servers, database):
    a, b = two(servers, database, "--concurrency", "0")
    b.started()
    a.post("/v1/scheduler/pause", {"reason": "maintenance"}, 200)
    assert b.claim() == []
    a.post("/v1/scheduler/resume", {}, 200)
    assert len(b.claim()) == 1


def test_what_the_worker_of_a_killed_server_held_is_done_by_the_other(servers, database, tmp_path):
    working = ("--store", database, "--concurrency", "1", "--workspaces", str(tmp_path / "shared"))
    a, b = two(servers, database, "--concurrency", "0")
    c = Client(servers(*working))
    c.post("/v1/definitions", {"name": "long", "steps": [{"action": "execute_command",
                                                          "parameters": {"command": "sleep 4"}}]})
    run = c.post("/v1/definitions/long/runs", {})["run"]["id"]
    wait_until(lambda: a.get("/v1/runs/" + run)["status"] == "running", 30)
    c.server.process.send_signal(signal.SIGKILL)
    c.server.process.wait()
    for n in range(10):  # nobody waits for the dead
        began = time.monotonic()
        (a, b)[n % 2].started(title="meanwhile")
        assert time.monotonic() - began < 5
    d = Client(servers(*working))
    wait_until(lambda: d.get("/v1/runs/" + run)["status"] == "completed", 90)
    wait_until(lambda: len(rows(database, "SELECT number FROM server")) == 3, 60)
    assert len({row[0] for row in rows(database, "SELECT actor FROM event WHERE type = 11")}) == 2


def stopped_in_its_turn(server, database):
    """Stops a busy server while it holds the turn."""
    for _ in range(500):
        server.process.send_signal(signal.SIGSTOP)
        holder = cluster().sql(database, TURN)
        time.sleep(0.2)  # for PostgreSQL to end what it was sent, and for the other's tick
        if holder and cluster().sql(database, TURN) == holder:
            return
        server.process.send_signal(signal.SIGCONT)
        time.sleep(0.003)
    raise AssertionError("it was never in its turn")


def test_a_server_that_is_stopped_in_its_turn_does_not_stop_the_others(servers, database):
    a, b = two(servers, database, "--concurrency", "0")
    over, refused = threading.Event(), []

    def load():
        api = Client(a.server)
        while not over.is_set():
            answer = api.request("POST", "/v1/tasks", {"title": "t"}, timeout=60)
            if answer.status_code != 201:
                refused.append(answer.status_code)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            stopped_in_its_turn(a.server, database)
            began = time.monotonic()
            made = b.task()["id"]
            assert time.monotonic() - began < 10
            a.server.process.send_signal(signal.SIGCONT)
            wait_until(lambda: a.request("POST", "/v1/tasks", {"title": "after"}).status_code == 201, 20)
            assert a.get("/v1/tasks/" + made)["id"] == made
    finally:
        a.server.process.send_signal(signal.SIGCONT)
        over.set()
        thread.join()
    assert set(refused) <= {503}  # what was in the turn that it lost; that may have been its tick alone


def test_a_webhook_delivery_is_made_by_one_of_the_servers(servers, database, tmp_path):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    a, b = two(servers, database, "--concurrency", "0", "--egress-allow", "127.0.0.1")
    a.post("/v1/webhooks", {"url": f"http://127.0.0.1:{receiver.server_port}/", "events": ["task.created"]})
    made = {(a, b)[n % 2].task()["id"] for n in range(20)}
    wait_until(lambda: len(got) >= 20, 30)
    time.sleep(3)  # longer than the look of the one that only follows
    assert len(got) == 20 and len(made) == 20
    receiver.shutdown()


@pytest.mark.skipif(SANITIZED, reason="the shim comes before one sanitizer, and hides from the other that a wait gives its lock back")
@pytest.mark.parametrize("apart", [-5, 5])
def test_servers_whose_clocks_are_apart_hold_leases_alike(servers, database, apart):
    shim = ["env", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", f"FAKETIME={apart:+d}",
            "DONT_FAKE_MONOTONIC=1"]
    a = Client(servers("--store", database, "--concurrency", "0"))
    b = Client(servers("--store", database, "--concurrency", "0", program=(*shim, BATON)))
    made = b.started()
    claim = b.claim(lease_seconds=15)[0]
    began = time.monotonic()
    shown = a.get("/v1/runs/" + made["run"]["id"])["lease_until"]
    assert abs(instant(shown) - instant(claim["run"]["lease_until"])) < 1
    wait_until(lambda: a.get("/v1/runs/" + made["run"]["id"])["status"] == "queued", 60)
    assert time.monotonic() - began > 14
    assert a.claim()[0]["run"]["id"] == made["run"]["id"]
    times = rows(database, "SELECT max(at) - min(at) FROM event")
    assert 14e6 < int(times[0][0]) < 60e6
