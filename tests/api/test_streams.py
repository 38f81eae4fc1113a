import concurrent.futures
import json

import requests


def frames(api, path, last=None, stop=None):
    """Events of a stream until it ends, or until `stop` of them came."""
    headers = {"Authorization": "Bearer " + api.server.key}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    out = []
    with requests.get(api.server.url + path, headers=headers, stream=True, timeout=20) as answer:
        if answer.status_code != 200:
            assert answer.content is not None  # read it while the connection is open
            return answer
        assert answer.headers["Content-Type"] == "text/event-stream"
        event = {}
        for line in answer.iter_lines(chunk_size=1):
            line = line.decode()
            if line.startswith(":") or line.startswith("retry:"):
                continue
            if line:
                name, value = line.split(": ", 1)
                event[name] = value
            elif event:
                out.append(event)
                event = {}
                if stop and len(out) == stop:
                    break
    return out


def finished_run(api, capability):
    claim = api.claimed(capability)
    api.post(f"/v1/runs/{claim['run']['id']}/complete",
             {"claim_token": claim["claim_token"], "result": 1}, 200)
    return claim["task"]["id"], claim["run"]["id"]


def test_a_run_stream_tells_everything_and_ends(api, capability):
    task, run = finished_run(api, capability)
    got = frames(api, f"/v1/tasks/{task}/runs/{run}/events/stream")
    assert [f["event"] for f in got] == ["run.queued", "run.claimed", "run.completed", "stream.end"]
    ids = [int(f["id"]) for f in got[:-1]]
    assert ids == sorted(set(ids))
    data = json.loads(got[0]["data"])
    assert data["run_id"] == run and data["task_id"] == task and data["sequence"] == ids[0]


def test_a_stream_resumes_after_any_event(api, capability):
    task, run = finished_run(api, capability)
    path = f"/v1/tasks/{task}/runs/{run}/events/stream"
    whole = frames(api, path)
    for i in range(len(whole) - 2):
        assert frames(api, path, last=whole[i]["id"]) == whole[i + 1:]
    assert frames(api, path, last=whole[-2]["id"]).status_code == 204
    ahead = frames(api, path, last=10000)
    assert ahead.status_code == 400 and ahead.json()["code"] == "cursor_ahead"
    assert frames(api, path, last="x").json()["code"] == "invalid_cursor"


def test_a_subscriber_hears_what_comes_after_it(api):
    task = api.task()["id"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(frames, api, f"/v1/tasks/{task}/events/stream", None, 3)
        for i in range(2):
            api.again().request("PATCH", "/v1/tasks/" + task, {"title": f"t{i}"}, 200)
        got = waiting.result(10)
    assert [f["id"] for f in got] == ["1", "2", "3"]
    assert [f["event"] for f in got] == ["task.created", "task.updated", "task.updated"]


def test_many_events_arrive_once_and_in_order(api):
    task = api.task()["id"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        path = f"/v1/tasks/{task}/events/stream"
        readers = [pool.submit(frames, api, path, None, 501) for _ in range(3)]
        for i in range(500):
            api.request("PATCH", "/v1/tasks/" + task, {"title": f"t{i}"}, 200)
        for reader in readers:
            assert [int(f["id"]) for f in reader.result(20)] == list(range(1, 502))


def test_the_timeline_pages_and_filters(api):
    task = api.task()["id"]
    for i in range(3):
        api.request("PATCH", "/v1/tasks/" + task, {"title": f"t{i}"}, 200)
    path = f"/v1/tasks/{task}/timeline"
    assert [e["sequence"] for e in api.get(path + "?limit=2")["items"]] == [1, 2]
    assert [e["sequence"] for e in api.get(path + "?after_sequence=2")["items"]] == [3, 4]
    assert [e["sequence"] for e in api.get(path + "?descending=true&limit=1")["items"]] == [4]
    assert len(api.get(path + "?event_type=task.updated")["items"]) == 3


def test_a_timeline_is_read_page_by_page_in_both_directions(api):
    task = api.started()["task"]
    api.post(f"/v1/tasks/{task['id']}/cancel", {}, 200)
    path = f"/v1/tasks/{task['id']}/timeline"
    whole = [e["sequence"] for e in api.get(path)["items"]]
    assert len(whole) > 3 and api.get(path)["next_cursor"] is None
    for query, wanted in ("", whole), ("&descending=true", whole[::-1]), ("&descending=1&after_sequence=1", whole[:0:-1]):
        found, cursor = [], ""
        while cursor is not None:
            page = api.get(f"{path}?limit=2{query}{cursor and '&cursor=' + cursor}")
            found += [e["sequence"] for e in page["items"]]
            cursor = page["next_cursor"]
        assert found == wanted
    api.problem("GET", path + "?descending=maybe", 400, "validation_failed")
    api.problem("GET", path + "?cursor=x", 400, "invalid_cursor")


def test_below_api_a_run_is_cancelled_with_two_l(api):
    made = api.started(title='"type":"run.cancel', metadata={"type": "run.canceled"})
    run, task = made["run"]["id"], made["task"]["id"]
    api.post(f"/v1/runs/{run}/cancel", {"reason": '"type":"run.canceled"'}, 200)
    told = {}
    for path in f"/v1/tasks/{task}/runs/{run}/events/stream", f"/api/tasks/{task}/runs/{run}/stream":
        told[path[:4]] = [(e["event"], json.loads(e["data"])) for e in frames(api, path)]
    here, there = told["/v1/"], told["/api"]
    assert [name for name, _ in here][-2:] == ["run.canceled", "stream.end"]
    assert [name for name, _ in there][-2:] == ["run.cancelled", "stream.end"]
    assert there[-2][1] == here[-2][1] | {"type": "run.cancelled"} and there[:-2] == here[:-2]


def test_a_stream_of_a_foreign_or_missing_run_is_404(api, capability):
    task, run = finished_run(api, capability)
    other = api.task()["id"]
    assert frames(api, f"/v1/tasks/{other}/runs/{run}/events/stream").status_code == 404
    assert frames(api, "/v1/tasks/task_0000000000001/events/stream").status_code == 404
