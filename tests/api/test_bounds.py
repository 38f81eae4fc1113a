"""Where bounds meet: values that cannot be kept, deadlines that coincide, stops, names, sizes."""
import concurrent.futures
import json
import pathlib
import re
import socket
import subprocess
import threading
import time

import pytest
from conftest import BATON, SLOW, Client, Server, wait_until
from flows import (OVER, action, children_of, command, completed, define, definition, ended, events_of, failed,
                   launch, noop, outputs, reaches, result, run_of, steps_of)

YAML = {"Content-Type": "application/yaml"}
DAY = 86400


@pytest.fixture
def alone(own_server):
    """A client of a server that nobody else uses: it may suffer."""
    return Client(own_server)


def sub(reference, fields=None, /, **parameters):
    return action("sub_task", fields, referenced_task_id=reference, **parameters)


def each(items, *steps, **parameters):
    return action("for_each", items=items, steps=list(steps), **parameters)


def refused(api, *steps, **fields):
    return api.problem("POST", "/v1/definitions", 400, "validation_failed", definition(*steps, **fields))


def archive(api, made):
    answer = api.request("DELETE", "/v1/definitions/" + made["id"])
    assert answer.status_code in (200, 204)


def start(api, made, **body):
    return api.post(f"/v1/definitions/{made['id']}/runs", body)["run"]


def lives(api):
    assert api.server.process.poll() is None
    assert result(api, noop("alive")) == "alive"


# Many at once.

def test_runs_give_the_output_of_their_own_workspace(own_server):
    admin, over, made = Client(own_server), threading.Event(), []
    for slug in ("one", "two"):
        space = admin.post("/v1/workspaces", {"name": slug, "slug": slug})
        api = Client(own_server, headers={"X-Workspace-ID": space["id"]})
        made.append((api, api.post("/v1/definitions", {**definition(noop(slug)), "name": "same"}), slug, []))

    def disturb():
        client = Client(own_server)
        while not over.is_set():
            client.request("POST", "/v1/definitions", definition(sub("nobody")), 400)

    def load(api, same, _, runs):
        while not over.is_set() and len(runs) < 450:
            runs.append(start(api, same)["id"])

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    threads += [threading.Thread(target=load, args=one) for one in made]
    for thread in threads:
        thread.start()
    over.wait(3.5)
    over.set()
    for thread in threads:
        thread.join()
    for api, _, slug, runs in made:
        reaches(api, {"id": runs[-1]}, "completed")
        got = wait_until(lambda: [r for r in [api.get("/v1/runs?limit=500")["items"]]
                                  if all(i["status"] in OVER for i in r)])[0]
        assert sorted(r["id"] for r in got) == sorted(runs) and runs
        assert {(r["status"], json.dumps(r["result"])) for r in got} == {("completed", json.dumps(slug))}


def test_deadlines_that_meet_do_not_stop_the_clock(alone):
    child = define(alone, action("delay", seconds=DAY), timeout_seconds=2)
    parents = [launch(alone, sub(child["id"]), timeout_seconds=2) for _ in range(3)]
    for run in parents:
        ended(alone, run, 6)
    completed(alone, action("delay", seconds=0.2))


def test_a_waiter_that_left_does_not_swallow_the_wake_up_of_another(api, capability):
    criteria = {"capabilities": [capability], "wait_seconds": 5}
    body = json.dumps(criteria)
    head = (f"POST /v1/runs/claim HTTP/1.1\r\nHost: {api.server.address}\r\n"
            f"X-Workspace-ID: {api.session.headers['X-Workspace-ID']}\r\n"
            f"Authorization: Bearer {api.server.key}\r\nContent-Length: {len(body)}\r\n\r\n")
    host, port = api.server.address.rsplit(":", 1)
    other = api.again()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for pause in (0, 0.002, 0.01, 0.03):
            leaver = socket.create_connection((host, int(port)))
            leaver.sendall((head + body).encode())
            time.sleep(0.15)
            waiting = pool.submit(other.claim, **criteria)
            time.sleep(0.15)
            leaver.close()
            time.sleep(pause)
            made, began = api.started(required_capabilities=[capability]), time.monotonic()
            claim, = waiting.result(6)
            assert claim["run"]["id"] == made["run"]["id"] and time.monotonic() - began < 2 * SLOW
            api.post(f"/v1/runs/{made['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)


# Values that cannot be kept.

@pytest.mark.parametrize("name", ["index", "input", "task", "steps", "last"])
def test_an_item_is_not_named_like_what_is_there(api, name):
    assert refused(api, each([7, 8], noop(1), **{"as": name}))["field"] == "steps[0].parameters.as"


def test_keys_that_read_the_same_fail_the_step(alone):
    run = failed(alone, noop("${{ {1: 'a', '1': 'b'} }}"), noop("${{ last.output }}"))
    assert "keys" in run["error"]
    assert steps_of(alone, run)[0]["status"] == "failed"
    lives(alone)


def test_an_output_nested_too_deep_fails_the_step(alone):
    run = failed(alone, noop(1), *[noop([["${{ last.output }}"]]) for _ in range(39)])
    assert "48" in run["error"]
    statuses = [s["status"] for s in steps_of(alone, run)]
    assert statuses[:25] == ["completed"] * 25 and statuses[25] == "failed"
    lives(alone)


def test_a_long_error_is_cut_between_characters(alone):
    for lead in range(3):
        allowed = {"enum": ["a" * lead + "\u8a9e" * 500]}
        child = define(alone, noop(1), input={"type": "object", "properties": {"v": allowed}})
        run = completed(alone, sub(child["id"], {"on_error": "continue"}, input={"v": 1}),
                        noop({"status": "${{ last.status }}", "error": "${{ last.error }}"}))
        first, second = steps_of(alone, run)
        assert first["status"] == "failed" and second["output"]["status"] == "failed"
        assert "\u8a9e" in json.dumps(second["output"]["error"], ensure_ascii=False)


# Sizes.

def peak(api):
    """MiB that the server has held at once."""
    proc = pathlib.Path(f"/proc/{api.server.process.pid}")
    if re.search(r"lib[at]san", (proc / "maps").read_text()):
        return 0  # a sanitizer keeps what was freed
    return int(re.search(r"VmHWM:\s+(\d+) kB", (proc / "status").read_text())[1]) / 1024


def test_an_output_of_many_references_is_bounded(alone):
    made = define(alone, noop("${{ input.b }}", id="a"), noop(["${{ steps.a.output }}"] * 300))
    run = reaches(alone, start(alone, made, input={"b": "w" * 245000}), "failed")
    assert "1 MiB" in run["error"] and peak(alone) < 200


def test_large_items_are_refused(alone):
    made = define(alone, each("${{ [input.b, input.b] }}", noop(1)))
    run = reaches(alone, start(alone, made, input={"b": "w" * 100000}), "failed")
    assert "64 KiB" in run["error"] and children_of(alone, run) == []


def test_inputs_of_all_branches_are_bounded_together(alone):
    child = define(alone, noop(1))
    branch = {"referenced_task_id": child["id"], "input": {"b": "${{ input.b }}"}}
    made = define(alone, action("parallel", branches=[branch] * 50))
    run = reaches(alone, start(alone, made, input={"b": "w" * 200000}), "failed")
    assert "8 MiB" in run["error"] and children_of(alone, run) == [] and peak(alone) < 200


def test_a_thousand_outputs_are_joined(tmp_path):
    server = Server(tmp_path / "data", "--concurrency", "8")
    try:
        api = Client(server)
        made = define(api, each("${{ input.items }}", noop("${{ input.t }}")))
        run = reaches(api, start(api, made, input={"items": list(range(1000)), "t": "y" * 1300}), "completed", 30)
        branches = outputs(api, run)[0]["branches"]
        assert [b["index"] for b in branches] == list(range(1000))
        assert len({b["run_id"] for b in branches}) == 1000 and all(b["run_id"].startswith("run_") for b in branches)
        assert {b["status"] for b in branches} == {"completed"}
    finally:
        server.stop()


def test_a_document_of_many_references_is_refused_soon(alone):
    names = iter(range(24000))
    branches = [[{"referenced_task_id": "zzzzzz%05d" % next(names)} for _ in range(1000)] for _ in range(24)]
    text = json.dumps(definition(*[action("parallel", branches=b) for b in branches]), separators=(",", ":"))
    assert len(text) < 1 << 20
    took = []

    def post():
        began = time.monotonic()
        answer = Client(alone.server).request("POST", "/v1/definitions", data=text,
                                              headers={"Content-Type": "application/json"})
        took.append((time.monotonic() - began, answer.json().get("code")))

    thread = threading.Thread(target=post)
    thread.start()
    slowest = 0
    while thread.is_alive():
        began = time.monotonic()
        alone.task()
        slowest = max(slowest, time.monotonic() - began)
    thread.join()
    assert took[0][1] == "validation_failed" and took[0][0] < 2 * SLOW and slowest < SLOW


def test_a_list_of_large_results_is_whole(alone):
    branch = {"steps": [noop("${{ [input.b, input.b, input.b, input.b] }}")]}
    made = define(alone, action("parallel", branches=[branch] * 70))
    run = reaches(alone, start(alone, made, input={"b": "w" * 250000}), "completed", 30)
    items = alone.get("/v1/runs?limit=500")["items"]
    branches = [i for i in items if i.get("parent_run_id") == run["id"]]
    assert len(items) == 71 and len(branches) == 70
    for branch in branches:
        assert set(branch["result"]) == {"preview", "truncated"} and branch["result"]["truncated"] is True
        assert branch["result"]["preview"].startswith('["www')
    assert len(run_of(alone, branches[0])["result"]) == 4


def test_aliases_are_bounded_by_what_they_write_out(api):
    text = "name: alias\nsteps:\n- action: noop\n  parameters:\n    output:\n"
    text += "    - &a " + "x" * 60000 + "\n" + "    - *a\n" * 40
    answer = api.request("POST", "/v1/definitions", status=400, data=text.encode(), headers=YAML).json()
    assert "1 MiB" in answer["detail"] and api.get("/v1/definitions")["items"] == []


def log_of(api, run):
    text = b""
    while piece := api.request("GET", f"/v1/runs/{run['id']}/logs?after={len(text)}", status=200).content:
        text += piece
    return text


def test_a_log_ends_at_16_mib_and_says_so(alone):
    run = ended(alone, launch(alone, command("head -c 20971520 /dev/zero | tr '\\0' 'a'")))
    text = log_of(alone, run)
    head, _, end = text[-200:].rpartition(b"a")
    assert 16 << 20 <= len(text) < (16 << 20) + 66000 and b"16 MiB" in end


# What is not there any more.

def test_a_missing_sub_task_leaves_what_was_done_before(alone):
    child = define(alone, noop(1))
    made = define(alone, noop({"x": 1}, id="a"), sub(child["id"], {"on_error": "continue"}), noop("${{ steps.a.output.x }}"))
    archive(alone, child)
    run = reaches(alone, start(alone, made), "completed")
    assert [s["status"] for s in steps_of(alone, run)] == ["completed", "failed", "completed"]
    assert outputs(alone, run)[0] == {"x": 1} and outputs(alone, run)[2] == 1


def test_two_missing_sub_tasks_in_a_row_are_passed_over(alone):
    child = define(alone, noop(1))
    made = define(alone, *[sub(child["id"], {"on_error": "continue"}) for _ in range(2)], noop("fine"))
    archive(alone, child)
    run = reaches(alone, start(alone, made), "completed")
    assert [s["status"] for s in steps_of(alone, run)] == ["failed", "failed", "completed"]


def test_a_name_used_again_closes_no_circle(alone):
    old = alone.post("/v1/definitions", {**definition(noop(1)), "name": "B"})
    a = alone.post("/v1/definitions", {**definition(sub("B")), "name": "A"})
    archive(alone, old)
    alone.post("/v1/definitions", {**definition(sub("A")), "name": "B"})
    run = reaches(alone, start(alone, a), "failed")
    assert steps_of(alone, run)[0]["status"] == "failed" and children_of(alone, run) == []


def test_a_name_given_up_and_used_again_closes_no_circle(alone):
    old = alone.post("/v1/definitions", {**definition(noop(1)), "name": "B"})
    a = alone.post("/v1/definitions", {**definition(sub("B")), "name": "A"})
    renamed = {**definition(noop(1)), "name": "C"}
    alone.request("PUT", "/v1/definitions/" + old["id"], renamed, 200, headers={"If-Match": '"1"'})
    alone.request("POST", "/v1/definitions", {**definition(sub("A")), "name": "B"})
    ended(alone, start(alone, a))
    assert len(alone.get("/v1/runs?limit=500")["items"]) <= 2


# Stops.

def test_a_stop_between_steps_interrupts_nothing(tmp_path):
    server = Server(tmp_path / "data", "--drain-seconds", "0")
    try:
        api = Client(server)
        writes = [action("write_file", {"on_interrupt": "fail"}, path=f"f{n}", content="x") for n in range(99)]
        run = launch(api, *writes, command("cat f* | wc -c"))
        wait_until(lambda: sum(s["status"] == "completed" for s in steps_of(api, run)) >= 5, every=0.001)
        server.stop()
        server.start()
        api = Client(server)
        run = reaches(api, run, "completed")
        steps = steps_of(api, run)
        assert {s["attempt"] for s in steps} == {1} and steps[-1]["output"]["stdout"].strip() == "99"
        begun = [e["payload"]["step_index"] for e in events_of(api, run) if e["type"] == "run.step_started"]
        assert begun == list(range(100))
    finally:
        if server.process.poll() is None:
            server.stop()


def test_canceling_a_held_child_lets_nobody_in(api):
    run = launch(api, each([0, 1, 2, 3], action("delay", seconds=DAY), max_concurrency=1, on_failure="wait_all"))
    first, *held = wait_until(lambda: children_of(api, run))
    reaches(api, first, "sleeping")
    api.post(f"/v1/runs/{held[2]['id']}/cancel", {}, 200)
    completed(api, noop(1))
    assert run_of(api, held[2])["status"] == "canceled"
    for child in held[:2]:
        now = run_of(api, child)
        assert now["status"] == "queued" and not now.get("started_at")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)


def test_steps_of_a_canceled_run_are_over(api):
    for step in (command("sleep 30"), action("delay", seconds=DAY), each([1], action("delay", seconds=DAY))):
        run = launch(api, noop(1), step)
        wait_until(lambda: steps_of(api, run)[1]["status"] in ("running", "waiting"))
        api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
        reaches(api, run, "canceled", 5)
        assert [s["status"] for s in steps_of(api, run)][0] == "completed"
        assert steps_of(api, run)[1]["status"] not in ("running", "waiting")


def test_steps_of_a_run_that_needs_too_much_memory_are_over(alone):
    large = noop(["${{ steps.a.output }}"] * 300, on_error="continue")
    made = define(alone, noop("${{ input.b }}", id="a"), *[large] * 8)
    run = reaches(alone, start(alone, made, input={"b": "w" * 245000}), "failed")
    assert "256 MiB" in run["error"]
    assert "running" not in [s["status"] for s in steps_of(alone, run)]


# Inputs.

def test_the_input_of_a_sub_task_may_be_one_expression(api):
    child = define(api, noop("${{ input }}"))
    assert result(api, noop({"x": 1}, id="a"), sub(child["id"], input="${{ steps.a.output }}")) == {"x": 1}


def test_the_input_of_a_sub_task_is_no_constant_text(api):
    child = define(api, noop(1))
    assert "input" in refused(api, sub(child["id"], input="text"))["detail"]


def test_how_many_at_once_may_be_an_expression(api):
    made = define(api, each([1, 2, 3], command("sleep 0.2"), max_concurrency="${{ input.n }}"))
    run = reaches(api, start(api, made, input={"n": 1}), "completed")
    first, second, third = sorted(children_of(api, run), key=lambda c: c["started_at"])
    assert first["ended_at"] <= second["started_at"] and second["ended_at"] <= third["started_at"]


def test_a_nested_default_must_fit_its_schema(api):
    inner = {"type": "object", "properties": {"b": {"type": "integer", "default": "x"}}}
    assert "default" in json.dumps(refused(api, noop(1), input={"type": "object", "properties": {"a": inner}}))
    listed = {"type": "object", "properties": {"a": {"type": "array", "items": inner}}}
    assert "default" in json.dumps(refused(api, noop(1), input=listed))


def test_a_default_gets_the_defaults_within_it(api):
    schema = {"type": "integer", "default": 7}
    for _ in range(4):
        schema = {"type": "object", "default": {}, "properties": {"a": schema}}
    made = define(api, noop("${{ input.a.a.a.a }}"), input=schema)
    run = reaches(api, start(api, made, input={}), "completed")
    assert outputs(api, run) == [7]


@pytest.mark.parametrize("name", ["A=B", "=", ""])
def test_names_of_variables_are_checked(api, name):
    refused(api, action("execute_command", command="true", env={name: "x"}))


def test_a_definition_is_not_named_like_an_id(api):
    api.problem("POST", "/v1/definitions", 400, "validation_failed", {**definition(noop(1)), "name": "def_x"})


def test_a_key_is_bound_to_the_query_too(api):
    body, key = {"steps": [noop(1)]}, {"Idempotency-Key": "k"}
    first = api.post("/v1/definitions?name=one", body, headers=dict(key))
    api.problem("POST", "/v1/definitions?name=two", 422, "idempotency_mismatch", body, headers=dict(key))
    assert api.post("/v1/definitions?name=one", body, headers=dict(key)) == first
    assert [d["name"] for d in api.get("/v1/definitions")["items"]] == ["one"]


def test_a_retry_without_a_number_tries_three_times(api):
    run = failed(api, command("echo x >> tries; exit 1", retry={"delay_ms": 10}, on_error="continue"),
                 command("cat tries; exit 1"))
    first, second = steps_of(api, run)
    assert first["attempt"] == 3 and log_of(api, run).count(b"x\n") == 3


@pytest.mark.parametrize("option, value", [
    ("--drain-seconds", "100000"), ("--http-threads", "17"), ("--concurrency", "300")])
def test_options_out_of_range_are_refused(tmp_path, option, value):
    ended = subprocess.run([BATON, "serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0", option, value],
                           capture_output=True, text=True, timeout=10)
    assert ended.returncode == 2 and option[2:] in ended.stderr


# Lists and streams.

def test_the_runs_of_a_definition_are_its_root_runs(api):
    made = define(api, each([1, 2, 3], noop(1)))
    run = reaches(api, start(api, made), "completed")
    for path in (made["id"], made["name"]):
        assert [i["id"] for i in api.get(f"/v1/definitions/{path}/runs")["items"]] == [run["id"]]
    assert len(children_of(api, run)) == 3


def test_a_stream_of_an_ended_run_is_over_at_the_head_of_its_tree(api):
    child = define(api, noop(1))
    run = completed(api, sub(child["id"]))
    kid, = children_of(api, run)
    last, head = events_of(api, kid)[-1]["sequence"], api.get("/v1/tasks/" + run["task_id"])["latest_sequence"]
    assert last < head
    path = f"/v1/tasks/{run['task_id']}/runs/{kid['id']}/events/stream?after_sequence="
    for cursor in (last, last + 1, head):
        api.request("GET", path + str(cursor), status=204, timeout=3)
    assert api.request("GET", path + str(head + 1), timeout=3).status_code == 400
