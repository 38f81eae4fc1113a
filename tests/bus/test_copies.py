"""The read copies in Redis: what spec'd keys say, for how long, and that nothing depends on them."""
import json
import signal
import time

from conftest import Client, Listener, Redis, wait_until

LIVES = {"status": 7200, "result": 3600, "count": 7200, "beat": 60}


def ttl(redis, key, most):
    return most - 30 <= int(redis.command("TTL", key)[0]) <= most


def key_of(workspace, name):
    return f"workspace:ws:{workspace}:{name}"


def queue(redis, priority, prefix=""):
    """Oldest first."""
    return [json.loads(line)["task_id"] for line in redis.command("LRANGE", f"{prefix}workspace:tasks:{priority}", 0, -1)][::-1]


def status(redis, task, prefix=""):
    return redis.hash(f"{prefix}workspace:task:{task}:status")


def launched(api, *steps):
    made = api.post("/v1/definitions", {"name": "steps", "retry": {"max_attempts": 1}, "steps": list(steps)})
    return api.post(f"/v1/definitions/{made['id']}/runs", {})["run"]["task_id"]


def test_a_queued_task_is_in_the_queue_of_its_priority_and_has_a_status(redis, servers):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    words = {"urgent": "critical", "high": "high", "medium": "normal", "low": "low"}
    made = {word: [api.started(title="t", priority=ours)["task"] for _ in range(2)] for ours, word in words.items()}
    for word, tasks in made.items():
        wait_until(lambda: queue(redis, word) == [task["id"] for task in tasks])
        task = tasks[0]
        wait_until(lambda: status(redis, task["id"]).get("status") == "queued")
        said = status(redis, task["id"])
        assert said["workspace_id"] == task["workspace_id"] and said["priority"] == word
        assert said["task_type"] == "background_job" and said["submitted_at"]
        assert ttl(redis, f"workspace:task:{task['id']}:status", LIVES["status"])
        space = task["workspace_id"]
    everything = {task["id"] for tasks in made.values() for task in tasks}
    assert set(redis.command("SMEMBERS", key_of(space, "active_tasks"))) == everything
    assert redis.command("GET", key_of(space, "task_count")) == [str(len(everything))]
    assert ttl(redis, key_of(space, "task_count"), LIVES["count"])


def test_a_task_that_ends_leaves_queue_and_active_set_and_has_a_result(redis, servers):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    task = api.started(title="t")["task"]
    wait_until(lambda: queue(redis, "normal") == [task["id"]])
    claim = api.claim()[0]
    wait_until(lambda: status(redis, task["id"])["status"] == "running" and not queue(redis, "normal"))
    assert status(redis, task["id"])["worker_id"]
    run = f"/v1/runs/{claim['run']['id']}"
    api.post(f"{run}/start", {"claim_token": claim["claim_token"]}, 200)
    api.post(f"{run}/complete", {"claim_token": claim["claim_token"], "result": {"answer": 42}}, 200)
    name = f"workspace:task:{task['id']}:result"
    wait_until(lambda: redis.command("EXISTS", name) == ["1"])
    result = json.loads(redis.command("GET", name)[0])
    assert result["status"] == "completed" and result["result"] == {"answer": 42}
    assert result["execution_time_ms"] >= 0 and result["completed_at"]
    assert ttl(redis, name, LIVES["result"])
    assert status(redis, task["id"])["status"] == "completed"
    assert redis.command("EXISTS", key_of(task["workspace_id"], "active_tasks")) == ["0"]


def test_a_canceled_task_is_cancelled_and_has_no_result(redis, servers):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    task = api.started(title="t")["task"]
    wait_until(lambda: queue(redis, "normal"))
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    wait_until(lambda: status(redis, task["id"])["status"] == "cancelled" and not queue(redis, "normal"))
    assert redis.command("EXISTS", f"workspace:task:{task['id']}:result") == ["0"]


def test_a_channel_hears_of_each_step_and_of_the_end(redis, servers):
    listener = Listener(redis, "p:workspace:task:*:events")
    api = Client(servers("--redis", redis.url, "--redis-prefix", "p:"))
    task = launched(api, {"action": "noop"}, {"action": "execute_command", "parameters": {"argv": ["/bin/false"]}})
    wait_until(lambda: [e for _, e in listener.heard if e["data"].get("status") == "failed"], 30)
    listener.stop()
    assert {channel for channel, _ in listener.heard} == {f"p:workspace:task:{task}:events"}
    assert all(event["task_id"] == task and event["timestamp"] for _, event in listener.heard)
    told = [(event["event_type"], event["data"]) for _, event in listener.heard]
    kinds = [(kind, data.get("status", data.get("step"))) for kind, data in told]
    assert kinds == [("status_changed", "queued"), ("status_changed", "running"), ("progress_update", 1),
                     ("progress_update", 2), ("error", 2), ("status_changed", "failed")]
    assert told[2][1] == {"step": 1, "total_steps": 2, "description": "Step 1: noop"}
    assert told[4][1]["error"]
    assert json.loads(redis.command("GET", f"p:workspace:task:{task}:result")[0])["error"]
    assert status(redis, task, "p:")["worker_id"] == "daemon:worker"
    assert all(key.startswith("p:") for key in redis.command("KEYS", "*"))


def test_the_worker_has_a_heartbeat_and_a_set_of_what_it_does(redis, servers):
    api = Client(servers("--redis", redis.url))
    beat = "workspace:worker:daemon:worker:heartbeat"
    wait_until(lambda: redis.command("EXISTS", beat) == ["1"])
    assert abs(int(redis.command("GET", beat)[0]) - time.time()) < 30 and ttl(redis, beat, LIVES["beat"])
    task = launched(api, {"action": "execute_command", "parameters": {"argv": ["/bin/sleep", "2"]}})
    working = "workspace:worker:daemon:worker:tasks"
    wait_until(lambda: redis.command("SMEMBERS", working) == [task])
    assert ttl(redis, working, LIVES["beat"])
    wait_until(lambda: redis.command("EXISTS", working) == ["0"], 20)


def test_copies_that_were_flushed_are_written_anew(redis, servers):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    tasks = [api.started(title="t")["task"]["id"] for _ in range(250)]
    wait_until(lambda: queue(redis, "normal") == tasks)
    redis.command("FLUSHALL")
    wait_until(lambda: queue(redis, "normal") == tasks)
    assert status(redis, tasks[-1])["status"] == "queued"
    redis.stop()
    more = api.started(title="t")["task"]["id"]
    redis.start()
    wait_until(lambda: queue(redis, "normal") == [*tasks, more], 20)


def test_without_redis_or_with_a_wrong_password_the_server_serves_and_says_so(servers):
    redis = Redis("--requirepass", "secret word")
    redis.stop()
    wrong = servers("--redis", redis.url)
    right = servers("--redis", f"redis://:secret%20word@127.0.0.1:{redis.port}/0")
    for server in (wrong, right):
        Client(server).started(title="t")
        assert server.is_ready()
        wait_until(lambda: "event=bus_away" in open(server.log.name).read())
        assert "baton_bus_up 0" in Client(server).request("GET", "/metrics", status=200).text
    redis.start()
    wait_until(lambda: "baton_bus_up 1" in Client(right).request("GET", "/metrics").text, 20)
    assert "baton_bus_up 0" in Client(wrong).request("GET", "/metrics").text
    assert "secret" not in open(right.log.name).read()
    redis.remove()


def test_a_stopped_redis_blocks_nobody(redis, servers):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    wait_until(lambda: redis.command("EXISTS", "baton:copied") == ["1"])
    redis.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    tasks = [api.started(title="t")["task"]["id"] for _ in range(50)]
    assert len(api.claim()) == 1
    assert time.monotonic() - began < 3 * 2  # far from a patience of two seconds for each call
    time.sleep(3)
    assert api.server.is_ready()
    redis.process.send_signal(signal.SIGCONT)
    wait_until(lambda: queue(redis, "normal") == tasks[1:], 20)
