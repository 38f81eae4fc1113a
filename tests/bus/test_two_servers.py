"""Two servers on one PostgreSQL database hear of each other's commits, by NOTIFY and by Redis."""
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from conftest import Client, Cluster, Redis, cluster, wait_until

KINDS = ["notify", "redis"]


class Pair:
    def __init__(self, make, kind, redis, database=None):
        self.database = database or cluster().database()
        options = ["--store", self.database, "--concurrency", "0"]
        if kind == "redis":
            options += ["--redis", redis.url]
        self.a, self.b = (Client(make(*options)) for _ in range(2))
        for api in (self.a, self.b):
            wait_until(lambda: "baton_bus_up 1" in api.request("GET", "/metrics").text)


@pytest.fixture(params=KINDS)
def pair(request, servers, redis):
    return Pair(servers, request.param, redis)


class Stream(threading.Thread):
    """What a stream of a task's events says, with the time of each."""

    def __init__(self, api, task):
        super().__init__(daemon=True)
        self.frames = []
        self.answer = api.request("GET", f"/v1/tasks/{task}/events/stream", status=200, stream=True, timeout=120)
        self.start()

    def run(self):
        try:
            for line in self.answer.iter_lines(chunk_size=1):
                if line.startswith(b"id: "):
                    self.frames.append((int(line[4:]), time.monotonic()))
        except requests.RequestException:  # its server has ended
            pass

    @property
    def ids(self):
        return [number for number, _ in self.frames]


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def test_a_stream_sees_what_is_committed_through_another_server_soon_and_in_order(pair):
    task = pair.a.task(title="t")["id"]
    stream = Stream(pair.b, task)
    wait_until(lambda: stream.ids)
    times = {}
    for n in range(200):
        pair.a.request("PATCH", f"/v1/tasks/{task}", {"title": f"t{n}"}, 200)
        times[n + 2] = time.monotonic()  # the answer comes after the commit
        time.sleep(0.005)
    wait_until(lambda: len(stream.ids) == 201)
    assert stream.ids == list(range(1, 202))
    late = [came - times[number] for number, came in stream.frames if number in times]
    print("p50 %.1f ms, p99 %.1f ms" % (percentile(late, .5) * 1000, percentile(late, .99) * 1000))
    assert percentile(late, .5) < 0.1 and percentile(late, .99) < 0.5  # a look would take that long


def test_a_claim_that_waits_is_served_by_what_another_server_creates(pair):
    """In lanes that are known there and in new ones."""
    late, waiting = [], Client(pair.b.server)

    def claim(capability):
        claims = waiting.claim(capabilities=[capability], wait_seconds=20)
        return claims[0], time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        for n in range(20):
            capability = f"c{n % 10}"
            waiter = pool.submit(claim, capability)
            time.sleep(0.15)  # it waits
            made = pair.a.started(required_capabilities=[capability])["run"]["id"]
            created = time.monotonic()
            claimed, at = waiter.result()
            assert claimed["run"]["id"] == made
            late.append(at - created)
            pair.b.post(f"/v1/runs/{made}/complete", {"claim_token": claimed["claim_token"]}, 200)
    print("claims: p50 %.1f ms, most %.1f ms" % (percentile(late, .5) * 1000, max(late) * 1000))
    assert percentile(late, .5) < 0.1


def test_each_run_of_many_goes_to_one_of_those_who_wait_on_both_servers(pair):
    taken, over = [], threading.Event()

    def claimer(api):
        while not over.is_set():
            for claim in api.claim(wait_seconds=1):
                taken.append(claim["run"]["id"])
                api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)

    with ThreadPoolExecutor(8) as pool:
        for api in 4 * (pair.a, pair.b):
            pool.submit(claimer, Client(api.server))
        made = [api.started(title="t")["run"]["id"] for _ in range(60) for api in (pair.a, pair.b)]
        wait_until(lambda: len(taken) >= len(made), 30)
        over.set()
    assert sorted(taken) == sorted(made)


def test_a_revoked_key_is_refused_by_the_other_server(pair):
    key = pair.a.key_for()
    other = Client(pair.b.server, key=key["key"])
    other.get("/v1/tasks")
    pair.a.request("DELETE", f"/v1/keys/{key['id']}", status=204)
    wait_until(lambda: other.request("GET", "/v1/tasks").status_code == 401, 3)


def test_hints_that_are_lost_cost_a_look(servers):
    """A Redis that was never there: nobody tells the other server anything."""
    redis = Redis()
    redis.stop()
    options = ("--store", cluster().database(), "--concurrency", "0", "--redis", redis.url)
    a, b = (Client(servers(*options)) for _ in range(2))
    task = a.task(title="t")["id"]
    stream = Stream(b, task)
    wait_until(lambda: stream.ids)
    got = []
    waiter = threading.Thread(target=lambda: got.append(Client(b.server).claim(wait_seconds=20)))
    waiter.start()
    time.sleep(0.2)
    a.request("PATCH", f"/v1/tasks/{task}", {"title": "u"}, 200)
    run = a.started(title="t")["run"]["id"]
    wait_until(lambda: stream.ids == [1, 2], 3)
    waiter.join()
    assert got[0][0]["run"]["id"] == run
    redis.home.cleanup()


def test_nothing_is_lost_while_redis_is_flushed_stopped_and_started_again(servers, redis):
    pair = Pair(servers, "redis", redis)
    task = pair.a.task(title="t")["id"]
    streams = [Stream(Client(api.server), task) for api in (pair.a, pair.b)]
    over, taken, made = threading.Event(), [], []

    def trouble():
        while not over.is_set():
            redis.command("FLUSHALL")
            over.wait(1)
            redis.process.send_signal(signal.SIGSTOP)
            over.wait(5)
            redis.process.send_signal(signal.SIGCONT)
            redis.stop()
            over.wait(0.5)
            redis.start()
            over.wait(0.5)

    def claimer(api):
        while not over.is_set():
            for claim in api.claim(wait_seconds=1):
                api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
                taken.append(claim["run"]["id"])

    threads = [threading.Thread(target=trouble)] + [threading.Thread(target=claimer, args=(Client(api.server),))
                                                    for api in (pair.a, pair.b)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for api in (pair.a, pair.b):
            api.request("PATCH", f"/v1/tasks/{task}", {"title": f"t{time.monotonic()}"}, 200)
            made.append(api.started(title="t")["run"]["id"])
            assert api.server.is_ready()
        time.sleep(0.05)
    last = pair.a.get(f"/v1/tasks/{task}")["latest_sequence"]
    wait_until(lambda: all(stream.ids[-1:] == [last] for stream in streams))
    wait_until(lambda: sorted(taken) == sorted(made))
    over.set()
    for thread in threads:
        thread.join()
    assert [stream.ids for stream in streams] == [list(range(1, last + 1))] * 2


def test_servers_hear_of_each_other_again_after_the_database_was_restarted(servers):
    own = Cluster()
    try:
        pair = Pair(servers, "notify", None, own.database())
        task = pair.a.task(title="t")["id"]
        own.stop()
        wait_until(lambda: "event=bus_away" in open(pair.b.server.log.name).read(), 20)
        own.start()
        for api in (pair.a, pair.b):
            wait_until(api.server.is_ready, 30)
            wait_until(lambda: "baton_bus_up 1" in api.request("GET", "/metrics").text, 20)
        stream = Stream(pair.b, task)
        wait_until(lambda: stream.ids)
        pair.a.request("PATCH", f"/v1/tasks/{task}", {"title": "u"}, 200)
        wait_until(lambda: stream.ids == [1, 2])
        for api in (pair.a, pair.b):
            api.server.kill()  # before its database
    finally:
        own.remove()
