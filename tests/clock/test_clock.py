"""Leases under clocks that jump, processes that stand still, slow disks and little processor time.

Of every lease: it is not over before its length has passed since its last heartbeat was sent, it is
over soon afterwards, and what its old holder still says is refused.
"""
import datetime
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from conftest import SLOW, Client, wait_until

DAY = 86400
GRACE = 10  # seconds for which leases stand still after a start or a stall
LATE = 1.5 * SLOW
numbers = itertools.count(1)


def hold(api, lease):
    """A claim on a run that only claimers with its capability may take: (capability, claim)."""
    capability = f"clock-{os.getpid()}-{next(numbers)}"
    return capability, api.claimed(capability, lease_seconds=lease)


def move(api, verb, claim, **fields):
    body = {"claim_token": claim["claim_token"], **fields}
    return api.request("POST", f"/v1/runs/{claim['run']['id']}/{verb}", body, timeout=60)


def beat(api, claim):
    """Sends a heartbeat that must be accepted; the moment before it was sent."""
    sent = time.monotonic()
    answer = move(api, "heartbeat", claim)
    assert answer.status_code == 200, answer.text
    return sent


def taken_over(api, capability, claim, seconds):
    """The moment at which another claimer gets the run; the old holder is told so."""
    deadline = time.monotonic() + seconds
    other = []
    while not other and time.monotonic() < deadline:
        other = api.claim(capabilities=[capability], wait_seconds=5, lease_seconds=60)
    at = time.monotonic()
    assert other and other[0]["run"]["id"] == claim["run"]["id"], "nobody could take the run over"
    assert other[0]["run"]["epoch"] == claim["run"]["epoch"] + 1
    for verb, fields in ("heartbeat", {}), ("complete", {"result": 1}):
        answer = move(api, verb, claim, **fields)
        assert answer.status_code == 409 and answer.json()["code"] == "stale_claim_token", answer.text
    return at


def over_in_time(api, capability, claim, sent, lease, more=0):
    took = taken_over(api, capability, claim, lease + more + LATE + 10) - sent
    assert took >= lease - 0.001, f"over after {took} s of {lease}"
    assert took <= lease + more + LATE, f"over only after {took} s of {lease}"


# ---- the wall clock ----


@pytest.mark.parametrize("jump", [1, -1, 60, -60, 3600, -3600, DAY, -DAY])
def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_lease(launch, wall, jump):
    server = launch(wall.prefix())
    api = server.client()
    capability, claim = hold(api, 2)
    silent, claim_2 = hold(api, 2)
    last = time.monotonic()
    time.sleep(0.3)
    wall.set(jump)
    shown = datetime.datetime.fromisoformat(api.task()["created_at"].replace("Z", "+00:00"))
    assert abs(shown.timestamp() - time.time() - jump) < 1, "the server has not seen the jump"
    assert api.get("/v1/runs/" + claim_2["run"]["id"])["status"] == "claimed"
    over_in_time(api, capability, claim, beat(api, claim), 2)
    over_in_time(api, silent, claim_2, last, 2, more=LATE)


def test_jumps_back_and_forth_never_end_a_lease_that_is_kept_alive(launch, wall):
    server = launch(wall.prefix())
    api = server.client()
    claims = [hold(api, 10)[1] for _ in range(5)]  # longer than any pause of a busy machine, shorter than a jump
    for jump in (1, -1, 3600, 0, -3600, DAY, -DAY, 0):
        wall.set(jump)
        time.sleep(0.4)
        for claim in claims:
            beat(api, claim)
    for claim in claims:
        assert move(api, "complete", claim, result=1).json()["epoch"] == 1


@pytest.mark.parametrize("jump", [-1, -3600, -DAY, DAY])
def test_a_start_under_another_time_of_day_makes_ids_of_its_own(launch, wall, jump):
    server = launch(wall.prefix())
    before = [t["task"]["id"] for t in (server.client().started() for _ in range(200))]
    server.kill()
    wall.set(jump)
    server.start()
    after = [t["task"]["id"] for t in (server.client().started() for _ in range(200))]
    assert sorted(before + after) == before + after and len(set(before + after)) == 400


@pytest.mark.parametrize("jump", [61, -61])
def test_the_minute_of_an_agents_operations_outlives_a_kill_and_ends_by_the_wall_clock(launch, wall, jump):
    server = launch(wall.prefix())
    api = server.client()
    key = api.key_for(workspace_id=server.workspace)["key"]
    path = f"/v1/runs/{api.started()['run']['id']}/force-release"
    for _ in range(10):
        Client(server, key).problem("POST", path, 409, "invalid_transition")
    server.kill()
    server.start()
    Client(server, key).problem("POST", path, 429, "rate_limited")
    wall.set(jump)
    Client(server, key).problem("POST", path, 409, "invalid_transition")


@pytest.mark.parametrize("offset", [100000, -300])
def test_a_start_under_another_boot_clock_gives_leases_their_grace(launch, offset):
    server = launch()
    api = server.client()
    capability, claim = hold(api, 3)
    silent, claim_2 = hold(api, 3)
    server.kill()
    server.program = ("unshare", "-T", "--boottime", str(offset), *server.program)
    server.start()
    started = time.monotonic()
    api = server.client()
    sent = beat(api, claim)
    over_in_time(api, capability, claim, sent, 3, more=GRACE)
    assert taken_over(api, silent, claim_2, 5) - started >= GRACE


# ---- processes that stand still ----


def test_a_server_that_stood_still_hears_the_heartbeats_that_waited(launch):
    server = launch()
    api = server.client()
    capability, claim = hold(api, 2)
    silent, claim_2 = hold(api, 2)
    server.process.send_signal(signal.SIGSTOP)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(move(server.client(), "heartbeat", claim)))
    waiting.start()
    time.sleep(5)
    server.process.send_signal(signal.SIGCONT)
    resumed = time.monotonic()
    waiting.join()
    assert answers[0].status_code == 200, answers[0].text
    over_in_time(api, capability, claim, beat(api, claim), 2, more=GRACE)
    assert taken_over(api, silent, claim_2, 5) - resumed >= GRACE - 0.5


def test_a_run_of_the_worker_survives_that_the_server_stood_still(launch):
    server = launch()
    api = server.client()
    made = api.post("/v1/definitions", {"name": "slow", "steps": [
        {"action": "execute_command", "parameters": {"command": "sleep 2; echo done"}}]})
    run = api.post(f"/v1/definitions/{made['id']}/runs", {})["run"]["id"]
    wait_until(lambda: api.get("/v1/runs/" + run)["status"] == "running")
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    server.process.send_signal(signal.SIGCONT)
    wait_until(lambda: api.get("/v1/runs/" + run)["status"] == "completed")
    assert api.get("/v1/runs/" + run)["epoch"] == 1


CLAIMER = """
import json, sys, requests
url, key, run = sys.argv[1:]
s = requests.Session(); s.headers["Authorization"] = "Bearer " + key
def post(verb, **body): return s.post(f"{url}/v1/runs/{run}/{verb}", json=body)
token = post("claim", lease_seconds=2).json()["claims"][0]["claim_token"]
print("held", flush=True); sys.stdin.readline()
for verb, more in (("heartbeat", {}), ("start", {}), ("release", {}), ("fail", {"error": "x"}), ("complete", {"result": 1})):
    answer = post(verb, claim_token=token, **more)
    print(answer.status_code, answer.json().get("code"), flush=True)
"""


def test_a_claimer_that_stood_still_changes_nothing_when_it_wakes(launch):
    server = launch()
    api = server.client()
    run = api.started(required_capabilities=[])["run"]["id"]
    claimer = subprocess.Popen([sys.executable, "-c", CLAIMER, server.url, server.key, run], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert claimer.stdout.readline() == "held\n"
        began = time.monotonic()
        claimer.send_signal(signal.SIGSTOP)
        wait_until(lambda: api.get("/v1/runs/" + run)["status"] == "queued", 5)
        assert time.monotonic() - began >= 1.9
        mine = api.post(f"/v1/runs/{run}/claim", {"lease_seconds": 60}, 200)["claims"][0]
        before = rows(server)
        claimer.send_signal(signal.SIGCONT)
        said, _ = claimer.communicate("go\n", timeout=20)
        assert said.splitlines() == ["409 stale_claim_token"] * 5
        assert rows(server) == before
        assert move(api, "complete", mine, result="mine").json()["result"] == "mine"
    finally:
        claimer.kill()
        claimer.wait()


def rows(server):
    db = sqlite3.connect(f"file:{server.data}/baton.db?mode=ro", uri=True)
    tables = "task", "run", "event", "ready"
    found = [db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]
    db.close()
    return found


# ---- a slow disk, little time ----


def test_a_heartbeat_that_waits_for_a_stalled_disk_counts(launch, slow_sync):
    prefix, slow = slow_sync
    server = launch(prefix)
    api = server.client()
    capability, claim = hold(api, 2)
    answers = []

    def ask(what):
        thread = threading.Thread(target=lambda: answers.append(what(server.client())))
        thread.start()
        return thread
    slow.touch()
    stalled = ask(lambda c: c.request("POST", "/v1/tasks", {"title": "slow"}, timeout=60))
    time.sleep(0.5)
    waiting = ask(lambda c: move(c, "heartbeat", claim))  # comes when the lease has 1.5 s left
    time.sleep(0.5)
    slow.unlink()
    stalled.join()
    waiting.join()
    assert sorted(a.status_code for a in answers) == [200, 201], [a.text for a in answers]
    over_in_time(api, capability, claim, beat(api, claim), 2, more=GRACE)


class Throttle:
    """A tenth of one processor: the process runs 10 ms and stands still for 90."""

    def __init__(self, process):
        self.process, self.over = process, False
        self.thread = threading.Thread(target=self._alternate)

    def _alternate(self):
        while not self.over:
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(0.09)
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


def test_with_a_tenth_of_a_processor_no_lease_that_is_kept_alive_ends(launch):
    server = launch()
    api = server.client()
    held = [hold(api, 4) for _ in range(10)]
    silent, lost = hold(api, 2)
    left = time.monotonic()
    with Throttle(server.process):
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for _, claim in held:
                beat(api, claim)
            api.request("POST", "/v1/tasks/batch", {"items": [{"title": "load", "start": True}] * 50})
        at = taken_over(api, silent, lost, 30)
    assert at - left >= 2
    for _, claim in held:
        assert move(api, "complete", claim, result=1).json()["epoch"] == 1
