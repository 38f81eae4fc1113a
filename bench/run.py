#!/usr/bin/env python3
"""Measures the hot path of a server on this machine and writes build/bench.json.

    run.py --baton build/baton --out build/bench.json [--seconds 5]

Load comes from bench/load.c, which shares the machine with the server.  Beside it stand raw limits of
the same run: the same rows written by SQLite alone (bench/raw.c) and a hello of evhttp (bench/hello.c).
"""
import argparse
import http.client
import json
import pathlib
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time

TARGETS = {"create_c64": (20000, ">="), "create_c1": (4000, ">="), "create_batch": (35000, ">="),
           "e2e": (10000, ">="), "e2e_of_limit": (50, ">="), "rss_idle_mib": (20, "<="),
           "disk_per_run_kib": (1.2, "<="),
           "cold_start_ms": (50, "<="), "claim_growth": (1.3, "<="),
           "claim_blocked_p99_ms": (5, "<="), "claim_workspaces": (1.3, "<="), "worker_workspaces": (1.3, "<="), "steps10_effect": (1500, ">="),
           "steps10_control": (5000, ">="), "start_p50_ms": (1, "<="), "start_p99_ms": (5, "<="),
           "fanout100_ms": (30, "<="), "sandbox_true_ms": (10, "<="),
           "layers": (4000, ">="), "cancel_tree_ms": (300, "<="), "cancel_tree_long_turns": (0, "<="),
           "list_status_ms": (5, "<="), "list_priority_ms": (5, "<="), "list_parent_ms": (5, "<="),
           "search_ms": (50, "<="), "search_short_ms": (50, "<="), "inspect_ms": (2, "<=")}


class Server:
    def __init__(self, baton, *options, beside=None):
        # Beside the program, not in a RAM disk: the sync must be real.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=baton.parent))
        self.data = self.home / "data"
        if beside:  # another server on the same database
            self.data.mkdir(0o700)
            shutil.copy(beside.data / "secret.key", self.data)
        self.start(baton, *options)

    def start(self, baton, *options):
        began = time.perf_counter()
        self.process = subprocess.Popen([baton, "serve", "--data", self.data, "--listen",
                                         "127.0.0.1:0", *options], stdout=subprocess.DEVNULL)
        while not (self.data / "listen").exists():
            time.sleep(0.0005)
        self.port = int((self.data / "listen").read_text().rsplit(":", 1)[1])
        self.key = (self.data / "admin.key").read_text()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.call("GET", "/livez")
        self.cold_start = (time.perf_counter() - began) * 1000

    def call(self, method, path, body=None, workspace="default"):
        self.connection.request(method, path, body, {"Authorization": "Bearer " + self.key,
                                                     "X-Workspace-ID": workspace,
                                                     "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        assert answer.status < 300, (method, path, answer.status, data[:300])
        return data

    def pss_mib(self):
        """Server and spawner."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        total = 0
        for pid in [self.process.pid, *children.read_text().split()]:
            rows = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", rows, re.M)[1])
        return total / 1024

    def settle(self):
        """Until it has done what it does by itself after tasks were made: the index of their texts.  A minute at most."""
        for _ in range(240):
            before = self.cpu_ms()
            time.sleep(0.25)
            if self.cpu_ms() - before < 10:
                break

    def cpu_ms(self):
        """What its threads have used of processors: others on the machine do not add to it."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e6

    def rows(self, query):
        """Of a stopped or running server's database."""
        database = sqlite3.connect(f"file:{self.data / 'baton.db'}?mode=ro", uri=True, timeout=10)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def task(self, parent=None, **fields):
        """A new task with its run, if it is started."""
        path = f"/v1/tasks/{parent}/children" if parent else "/v1/tasks"
        return json.loads(self.call("POST", path, json.dumps({"title": "bench", **fields})))

    def define(self, name, steps):
        self.call("POST", "/v1/definitions", json.dumps({"name": name, "steps": steps}))

    def run(self, name):
        """One run, followed to its end; its id."""
        made = json.loads(self.call("POST", f"/v1/definitions/{name}/runs", "{}"))["run"]
        while True:
            run = json.loads(self.call("GET", "/v1/runs/" + made["id"]))
            if "ended_at" in run:
                assert run["status"] == "completed", run
                return run["id"]
            time.sleep(0.001)

    def finish_runs(self):
        """Waits until the built-in worker has done all there is."""
        while self.rows("SELECT 1 FROM run WHERE executor = 1 AND ended_at IS NULL LIMIT 1"):
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.remove()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def remove(self):
        shutil.rmtree(self.home)


def load(tools, server, mode, *more, connections=1, seconds=5):
    """One run of the load generator: its line."""
    target = ["-p", str(server.port)] + (["-k", server.key] if server.key else [])
    out = subprocess.run([tools / "load", mode, *target, "-c", str(connections), "-s", str(seconds),
                          *more], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(out)


ROUNDS = 3


def rates(tools, server, mode, *more, **how):
    """The best of some rounds: what shares the machine takes away, and never adds."""
    return max(load(tools, server, mode, *more, **how)["rate"] for _ in range(ROUNDS))


class Connection:
    """One for a thread of its own."""

    def __init__(self, server):
        self.http = http.client.HTTPConnection("127.0.0.1", server.port)
        self.head = {"Authorization": "Bearer " + server.key, "Content-Type": "application/json"}

    def post(self, path, body):
        self.http.request("POST", path, json.dumps(body), self.head)
        answer = self.http.getresponse()
        data = answer.read()
        assert answer.status < 300, (path, answer.status, data[:300])
        return json.loads(data) if data else None


class Hello:
    """The evhttp server that says hello."""

    key = None

    def __init__(self, tools):
        self.process = subprocess.Popen([tools / "hello"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.terminate()
        self.process.wait()


def crowd(server, n, lanes=40):
    """So many workspaces more, each with a run in so many lanes for agents and one that the worker has done."""
    items = json.dumps({"items": [{"title": "bench", "start": True, "required_capabilities": [f"c-{i}"]}
                                  for i in range(lanes)]})
    for _ in range(n):
        name = "crowd-%d" % time.monotonic_ns()
        server.call("POST", "/v1/workspaces", json.dumps({"name": name}))
        server.call("POST", "/v1/tasks/batch", items, name)
        server.call("POST", "/v1/definitions", json.dumps({"name": "d", "steps": [{"action": "noop"}]}), name)
        server.call("POST", "/v1/definitions/d/runs", "{}", name)
    server.finish_runs()


def claim_costs(server, n=200):
    """Milliseconds of a processor for an agent's claim, and for a run of the built-in worker."""
    server.call("POST", "/v1/tasks/batch", batch(n))
    server.settle()
    began = server.cpu_ms()
    claim_times(server, n)
    claimed = server.cpu_ms()
    for _ in range(n):
        server.call("POST", "/v1/definitions/one/runs", "{}")
    server.finish_runs()
    return (claimed - began) / n, (server.cpu_ms() - claimed) / n


def growth(server, workspaces, **more):
    """How many times as much both cost among so many other workspaces."""
    server.define("one", [{"action": "noop"}])
    alone = claim_costs(server)
    crowd(server, workspaces, **more)
    return [b / a for a, b in zip(alone, claim_costs(server))]


def batch(n, **fields):
    return json.dumps({"items": [{"title": "bench", "start": True, **fields}] * n})


def numbered(first):
    """A thousand tasks with titles of their own, started."""
    return json.dumps({"items": [{"title": f"nightly build {n} of service {n % 97}", "start": True}
                                 for n in range(first, first + 1000)]})


def claim(server):
    return b"claim_token" in server.call("POST", "/v1/runs/claim", "{}")


def claim_times(server, n):
    times = []
    for _ in range(n):
        began = time.perf_counter()
        assert claim(server)
        times.append((time.perf_counter() - began) * 1000)
    return times


def get_ms(server, path, n=20):
    times = []
    for _ in range(n):
        began = time.perf_counter()
        server.call("GET", path)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def page_figures(server, tasks, put):
    """First pages of a workspace that has many tasks, and as many again that wait for an approval."""
    for _ in range(tasks // 1000):
        server.call("POST", "/v1/tasks/batch", batch(1000, start=False, approval_policy="manual"))
    put("dashboard_ms", get_ms(server, "/v1/dashboard", 1), "ms")
    put("dashboard_kept_ms", get_ms(server, "/v1/dashboard"), "ms")
    put("list_ms", get_ms(server, "/v1/tasks"), "ms")
    put("inbox_ms", get_ms(server, "/v1/inbox"), "ms")
    put("inbox_search_ms", get_ms(server, "/v1/inbox?q=nothing"), "ms")
    parent = server.task()["id"]
    for _ in range(50):
        last = server.task(parent, start=True)
    for name in "status=ready", "priority=medium", "parent_task_id=" + parent:
        put(f"list_{name.split('=')[0].split('_')[0]}_ms", get_ms(server, "/v1/tasks?" + name), "ms")
    put("inspect_ms", get_ms(server, f"/v1/runs/{last['run']['id']}/inspect"), "ms")
    while server.rows("SELECT count(*) FROM (SELECT 1 FROM task WHERE id > (SELECT upto FROM searched)"
                      " LIMIT 1000)")[0][0] == 1000:
        time.sleep(0.2)
    # One of them, none, all, the oldest hundred: the slowest counts.
    put("search_ms", max(get_ms(server, "/v1/tasks?q=" + q) for q in (
        "build%20123456%20of", "no%20such%20text", "nightly", "d%2000")), "ms")
    put("search_short_ms", max(get_ms(server, "/v1/tasks?q=" + q) for q in ("zz", "7")), "ms")


def raw(tools, beside, what, seconds):
    """What SQLite alone makes of the same rows, on the same disk, now: the best of some rounds."""
    return max(raw_once(tools, beside, what, seconds) for _ in range(ROUNDS))


def raw_once(tools, beside, what, seconds):
    schema = sorted(p for p in (pathlib.Path(__file__).parents[1] / "sql").glob("*.sql")
                    if not p.name.endswith(".postgres.sql"))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=beside) as home:
        out = subprocess.run([tools / "raw", what, pathlib.Path(home) / "raw.db", str(seconds),
                              *schema], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(out)["rate"]


def life_cycles(tools, baton, seconds):
    """Life-cycles a second, and the KiB that one leaves in the database."""
    server = Server(baton)
    rate = rates(tools, server, "e2e", connections=16, seconds=seconds)
    server.stop()
    runs, ended = sqlite3.connect(server.data / "baton.db").execute(
        "SELECT count(*), count(ended_at) FROM run").fetchone()
    assert runs == ended, (runs, ended)
    size = (server.data / "baton.db").stat().st_size / 1024 / runs
    server.remove()
    return rate, size


def drained(baton, steps, n):
    """Runs a second when n queued runs of these steps meet a worker with 64 slots."""
    server = Server(baton, "--concurrency", "0")
    server.define("steps", steps)
    for _ in range(n // 500):
        server.call("POST", "/v1/tasks/batch", json.dumps(
            {"items": [{"title": "bench", "definition_id": "steps", "start": True}] * 500}))
    server.stop()
    server.start(baton, "--concurrency", "64")
    while server.rows("SELECT 1 FROM run WHERE ended_at IS NULL LIMIT 1"):
        time.sleep(0.1)
    server.stop()
    began, ended, done = server.rows(
        "SELECT min(started_at), max(ended_at), sum(status = 9) FROM run")[0]
    assert done == n, (done, n)
    server.remove()
    return n / ((ended - began) / 1e6)


def single_starts(server, n):
    """Milliseconds from queued to the first step's start, of runs that find an idle server."""
    for _ in range(n):
        server.run("one")
    return sorted(ms for ms, in server.rows(
        "SELECT (s.started_at - r.queued_at) / 1000.0 FROM run r JOIN step s ON s.run_id = r.id"
        " WHERE r.definition_id = (SELECT id FROM definition WHERE name = 'one') AND s.step_index = 0"))


def step_times(server, name, n):
    """Milliseconds of the first step of n runs, one after the other."""
    for _ in range(n):
        server.run(name)
    return [ms for ms, in server.rows(
        "SELECT (s.ended_at - s.started_at) / 1000.0 FROM run r JOIN step s ON s.run_id = r.id"
        f" WHERE r.definition_id = (SELECT id FROM definition WHERE name = '{name}')"
        " AND s.step_index = 0 AND r.kind = 0")]


def bare_true(n):
    times = []
    for _ in range(n):
        began = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


LAYERS, WIDTH, NEEDS = 50, 1000, 3


def layer(database):
    """Lets each task of a layer wait for three of the one before, straight in the file: what made them is not measured."""
    ids = [n for n, in database.execute("SELECT id FROM task ORDER BY id")]
    edges = [(ids[at], ids[at - at % WIDTH - WIDTH + (at + 37 * i) % WIDTH])
             for at in range(WIDTH, len(ids)) for i in range(NEEDS)]
    database.executemany("INSERT INTO dependency (task_id, depends_on_task_id, on_failure, created_at)"
                         " VALUES (?, ?, 0, 1)", edges)
    database.execute("UPDATE task SET status = 2, unmet_deps = ?, dependency_count = ? WHERE id >= ?",
                     [NEEDS, NEEDS, ids[WIDTH]])
    database.execute("UPDATE task SET dependent_count = (SELECT count(*) FROM dependency WHERE depends_on_task_id ="
                     " task.id)")
    database.commit()


def work_off(server, total, done):
    """Claims and completes a hundred at a time, until all that is to come is done."""
    connection = Connection(server)
    while sum(done) < total:
        claims = connection.post("/v1/runs/claim", {"max": 100, "wait_seconds": 1})
        items = [{"run_id": c["run"]["id"], "claim_token": c["claim_token"], "result": 1} for c in claims["claims"]] \
            if claims else []
        if items:
            assert all(row["ok"] for row in connection.post("/v1/runs/complete", {"items": items})["items"])
        done.append(len(items))


def layers(baton):
    """Tasks a second of 50 layers of 1,000 that wait for the layer before and are enqueued when they become ready."""
    server = Server(baton, "--concurrency", "0")
    for i in range(LAYERS):
        server.call("POST", "/v1/tasks/batch", batch(WIDTH, start=i == 0, auto_enqueue_on_ready=True))
    server.stop()
    layer(sqlite3.connect(server.data / "baton.db"))
    server.start(baton, "--concurrency", "0")
    done = []
    workers = [threading.Thread(target=work_off, args=(server, LAYERS * WIDTH, done)) for _ in range(4)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    assert server.rows("SELECT count(*) FROM task WHERE status = 5") == [(LAYERS * WIDTH,)]
    server.stop()
    server.remove()
    return LAYERS * WIDTH / took


def beats(server, claim, times, over):
    """Heartbeats, one after the other: what a lease-holder waits for the writer."""
    connection = Connection(server)
    while not over.is_set():
        began = time.perf_counter()
        connection.post(f"/v1/runs/{claim['run']['id']}/heartbeat", {"claim_token": claim["claim_token"]})
        times.append((time.perf_counter() - began) * 1000)


def long_turns(server):
    """How often the writer had a turn, and how often one held it for over 10 ms, commit included."""
    text = server.call("GET", "/metrics").decode()
    upto, all_turns = (int(re.search(rf"^baton_writer_turn_seconds_{name} (\d+)", text, re.M)[1])
                       for name in ('bucket{le="0.01"}', "count"))
    return all_turns, all_turns - upto


def cancel_figures(baton, put):
    """A tree of 4,033 tasks with a queued run each is canceled while somebody else works."""
    server = Server(baton, "--concurrency", "0")
    server.task(start=True, required_capabilities=["other"])
    other = json.loads(server.call("POST", "/v1/runs/claim", '{"capabilities": ["other"]}'))["claims"][0]
    root = server.task()["id"]
    for _ in range(64):
        below = server.task(root, start=True)["task"]["id"]
        for _ in range(62):
            server.task(below, start=True)
    times, over, before = [], threading.Event(), long_turns(server)
    holder = threading.Thread(target=beats, args=(server, other, times, over))
    began = time.perf_counter()
    server.call("POST", f"/v1/tasks/{root}/cancel", "{}")
    put("cancel_tree_answer_ms", (time.perf_counter() - began) * 1000, "ms")
    holder.start()
    while server.rows("SELECT 1 FROM cascade"):
        time.sleep(0.005)
    put("cancel_tree_ms", (time.perf_counter() - began) * 1000, "ms")
    over.set()
    holder.join()
    put("cancel_tree_beat_ms", sorted(times)[int(len(times) * 0.95)], "ms")
    turns, long = (b - a for a, b in zip(before, long_turns(server)))
    put("cancel_tree_turns", turns, "")
    put("cancel_tree_long_turns", long, "")
    assert server.rows("SELECT count(*) FROM task WHERE status NOT IN (5, 6, 7)") == [(1,)]
    server.stop()
    server.remove()


def flow_figures(baton, put):
    delays = [{"action": "delay", "parameters": {"seconds": 0}}] * 10
    put("steps10_effect", max(drained(baton, [{"action": "noop"}] * 10, 4000)
                              for _ in range(ROUNDS)), "runs/s")
    put("steps10_control", max(drained(baton, delays, 8000) for _ in range(ROUNDS)), "runs/s")
    server = Server(baton, "--concurrency", "64")
    server.define("one", [{"action": "noop"}])
    times = single_starts(server, 1000)
    put("start_p50_ms", times[len(times) // 2], "ms")
    put("start_p99_ms", times[int(len(times) * 0.99)], "ms")
    server.define("fan", [{"action": "parallel", "parameters": {
        "branches": [{"steps": [{"action": "checkpoint"}]}] * 100}}])
    put("fanout100_ms", statistics.median(step_times(server, "fan", 30)), "ms")
    server.define("true", [{"action": "execute_command", "parameters": {"argv": ["true"]}}])
    sandboxed = statistics.median(step_times(server, "true", 60)[5:])
    commit = statistics.median(step_times(server, "one", 60))
    put("sandbox_true_ms", sandboxed - commit - bare_true(60), "ms")
    server.stop()
    server.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--baton", type=pathlib.Path, default="build/baton")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench.json")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--queued", type=int, default=1000000, help="runs for the claim figures")
    options = parser.parse_args()
    baton, seconds, found = options.baton.absolute(), options.seconds, {}
    tools = baton.parent / "bench"

    def put(key, value, unit):
        target, sense = TARGETS.get(key, (None, ""))
        verdict = "" if target is None else "reached" if (
            value >= target if sense == ">=" else value <= target) else "MISSED"
        print(f"{key:22} {value:12.2f} {unit:8} {sense}{target or '':<8} {verdict}", flush=True)
        found[key] = {"value": round(value, 3), "unit": unit,
                      **({"limit": target} if target is not None else {})}

    starts = []
    for _ in range(5):
        server = Server(baton)
        starts.append(server.cold_start)
        time.sleep(0.3)
        idle = server.pss_mib()
        server.stop()
        server.remove()
    put("cold_start_ms", statistics.median(starts), "ms")
    put("rss_idle_mib", idle, "MiB")

    flow_figures(baton, put)
    put("layers", max(layers(baton) for _ in range(ROUNDS)), "tasks/s")
    cancel_figures(baton, put)

    hello = Hello(tools)
    put("hello", rates(tools, hello, "get", connections=64, seconds=seconds), "1/s")
    hello.stop()

    put("raw_creates", raw(tools, baton.parent, "creates", seconds), "1/s")
    server = Server(baton)
    put("create_c64", rates(tools, server, "create", connections=64, seconds=seconds), "1/s")
    put("create_c64_keyed", rates(tools, server, "create", "-i", connections=64, seconds=seconds),
        "1/s")
    put("raw_singles", raw(tools, baton.parent, "singles", seconds), "1/s")
    put("create_c1", rates(tools, server, "create", seconds=seconds), "1/s")
    put("create_batch", rates(tools, server, "batch", connections=2, seconds=seconds), "tasks/s")
    server.stop()
    server.remove()

    # Raw, server, raw: the limit is measured around what it is compared with.
    before = raw(tools, baton.parent, "lifecycles", seconds)
    rate, size = life_cycles(tools, baton, seconds)
    limit = (before + raw(tools, baton.parent, "lifecycles", seconds)) / 2
    put("e2e", rate, "runs/s")
    put("raw_lifecycles", limit, "runs/s")
    put("e2e_of_limit", 100 * rate / limit, "%")
    put("disk_per_run_kib", size, "KiB")

    server = Server(baton)
    server.call("POST", "/v1/tasks/batch", batch(1000))
    small = statistics.median(claim_times(server, 200))
    for i in range(options.queued // 1000):
        server.call("POST", "/v1/tasks/batch", numbered(1000 * i))
    time.sleep(1)
    put("claim_growth", statistics.median(claim_times(server, 200)) / small, "x")
    page_figures(server, options.queued // 10, put)
    server.stop()
    server.remove()

    server = Server(baton)
    for i in range(options.queued // 1000):
        server.call("POST", "/v1/tasks/batch", batch(1000, priority="urgent",
                                                     required_capabilities=[f"not-mine-{i % 40}"]))
    server.call("POST", "/v1/tasks/batch", batch(500))
    time.sleep(1)
    times = sorted(claim_times(server, 400))
    put("claim_blocked_p99_ms", times[int(len(times) * 0.99)], "ms")
    server.stop()
    server.remove()

    server = Server(baton)
    agent, worker = growth(server, 1000)
    put("claim_workspaces", agent, "x")
    put("worker_workspaces", worker, "x")
    server.stop()
    server.remove()
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print("written to", options.out)


if __name__ == "__main__":
    main()
