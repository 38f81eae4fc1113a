from conftest import Client


def test_a_created_task_is_read_back_with_its_fields(api):
    made = api.task(title="  clean up  ", description="why", identifier="X-1", priority="high",
                    max_attempts=5, timeout_seconds=60, metadata={"x": [1, 2.5, None]},
                    required_capabilities=["b", "a"])
    read = api.get("/v1/tasks/" + made["id"])
    assert read["title"] == "clean up" and read["description"] == "why"
    assert read["priority"] == "high" and read["max_attempts"] == 5
    assert read["metadata"] == {"x": [1, 2.5, None]}
    assert read["required_capabilities"] == ["a", "b"]
    assert read["status"] == "ready" and read["runs"] == [] and read["latest_sequence"] == 1


def test_synonyms_are_understood_but_not_stored(api):
    assert api.task(priority="critical")["priority"] == "urgent"
    assert api.task(priority="normal")["priority"] == "medium"


def test_start_creates_task_and_run_together(api):
    made = api.started()
    assert made["run"]["status"] == "queued" and made["run"]["attempt"] == 1
    assert made["run"]["task_id"] == made["task"]["id"]


def test_bad_fields_are_named(api):
    for body, code, field in [
        ({}, "validation_failed", "title"),
        ({"title": " "}, "validation_failed", "title"),
        ({"title": "x", "color": 1}, "unknown_field", "color"),
        ({"title": "x", "max_attempts": 0}, "validation_failed", "max_attempts"),
        ({"title": "x", "max_attempts": 11}, "validation_failed", "max_attempts"),
        ({"title": "x", "priority": "huge"}, "validation_failed", "priority"),
        ({"title": "x", "retry": {"delay": 1}}, "unknown_field", "retry"),
        ({"title": "x", "required_capabilities": ["a", "a"]}, "validation_failed",
         "required_capabilities"),
    ]:
        assert api.problem("POST", "/v1/tasks", 400, code, body)["field"] == field
    problem = api.problem("POST", "/v1/tasks", 413, "payload_too_large",
                          {"title": "x", "metadata": {"a": "y" * 20000}})
    assert problem["limit"] == 16384 and problem["actual"] > 20000


def test_a_given_id_is_kept_and_cannot_be_taken_twice(api):
    spare = api.task()["id"]
    given = spare[:-1] + ("0" if spare[-1] != "0" else "1")
    assert api.task(id=given)["id"] == given
    api.problem("POST", "/v1/tasks", 409, "conflict", {"title": "x", "id": given})
    api.problem("POST", "/v1/tasks", 400, "validation_failed",
                {"title": "x", "id": "task_7zzzzzzzzzzzz"})


def test_patch_changes_what_it_names_and_says_so(api):
    task = api.task(description="d")
    changed = api.request("PATCH", "/v1/tasks/" + task["id"],
                          {"title": "new", "description": None}, 200).json()
    assert changed["title"] == "new" and "description" not in changed
    events = api.get(f"/v1/tasks/{task['id']}/timeline")["items"]
    assert events[-1]["type"] == "task.updated"
    assert events[-1]["payload"] == {"changed_fields": ["title", "description"], "status": "ready"}
    again = api.request("PATCH", "/v1/tasks/" + task["id"], {"title": "new"}, 200).json()
    assert again["latest_sequence"] == changed["latest_sequence"]
    api.problem("PATCH", "/v1/tasks/" + task["id"], 400, "validation_failed", {})
    api.problem("PATCH", "/v1/tasks/" + task["id"], 400, "unknown_field", {"status": "ready"})


def test_lists_are_paged_newest_first(api):
    ids = [api.task(title="page", priority="low")["id"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        page = api.get(f"/v1/tasks?limit=2&priority=low&q=page{cursor}")
        seen += [t["id"] for t in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = "&cursor=" + page["next_cursor"]
    assert seen[:5] == ids[::-1] and len(seen) == len(set(seen))
    api.problem("GET", "/v1/tasks?cursor=nonsense", 400, "invalid_cursor")
    api.problem("GET", "/v1/tasks?limit=501", 400, "validation_failed")


def test_search_takes_wildcards_literally(api):
    api.task(title="fifty % off")
    api.task(title="fifty x off")
    titles = [t["title"] for t in api.get("/v1/tasks?q=fifty%20%25%20o")["items"]]
    assert titles == ["fifty % off"]


def test_an_item_of_a_batch_that_is_no_task_leaves_the_others(api):
    items = [{"title": "good"}, {"title": "x", "zork": 1}, {"title": 5}, {}, 7, {"title": "x", "metadata": {"m": "x" * 20000}},
             {"title": "x", "priority": "huge"}, {"title": "good too", "start": True}]
    answer = api.post("/v1/tasks/batch", {"items": items}, 200)["items"]
    assert [item["ok"] for item in answer] == [True] + [False] * 6 + [True]
    assert [item["error"]["code"] for item in answer[1:7]] == ["unknown_field", "validation_failed", "validation_failed", "validation_failed",
                                                               "payload_too_large", "validation_failed"]
    assert answer[1]["error"]["field"] == "items[1].zork" and answer[3]["error"]["field"] == "items[3].title"
    assert [t["title"] for t in api.get("/v1/tasks")["items"]][:2] == ["good too", "good"]


def test_null_takes_a_retry_policy_and_metadata_back(api):
    task = api.task(retry={"max_attempts": 2}, metadata={"a": 1})
    patch = lambda body: api.request("PATCH", "/v1/tasks/" + task["id"], body, 200).json()
    changed = patch({"retry": None, "metadata": None})
    assert "retry" not in changed and "metadata" not in changed
    assert patch({"retry": None})["latest_sequence"] == changed["latest_sequence"]
    assert "retry" not in api.task(retry=None)


def test_the_system_workspace_holds_global_tasks_only(server, api):
    system = Client(server, headers={"X-Workspace-ID": "00000000-0000-0000-0000-000000000000"})
    problem = system.problem("POST", "/v1/tasks", 400, "invalid_scope_binding", {"title": "x"})
    assert problem["field"] == "scope"
    world = system.task(scope="global")
    system.problem("POST", f"/v1/tasks/{world['id']}/children", 400, "invalid_scope_binding", {"title": "x"})
    made = system.post(f"/v1/tasks/{world['id']}/children", {"title": "x", "scope": "global"})
    assert made["workspace_id"] == world["workspace_id"] == system.session.headers["X-Workspace-ID"]
    assert api.post(f"/v1/tasks/{world['id']}/children", {"title": "x"})["workspace_id"] == api.session.headers["X-Workspace-ID"]


def test_batch_answers_each_item_in_order(api):
    items = api.post("/v1/tasks/batch", {"items": [
        {"title": "one"}, {"title": " "}, {"title": "three", "start": True}]}, 200)["items"]
    assert [i["ok"] for i in items] == [True, False, True]
    assert items[1]["error"]["code"] == "validation_failed"
    assert items[2]["run"]["status"] == "queued"
    api.problem("POST", "/v1/tasks/batch", 400, "validation_failed", {"items": []})
    assert api.problem("POST", "/v1/tasks/batch", 422, "bulk_too_large", {"items": [{"title": "x"}] * 1001})["limit"] == 1000


def test_cancel_ends_a_task_and_its_run_for_good(api, capability):
    made = api.started(required_capabilities=[capability])
    task = api.post(f"/v1/tasks/{made['task']['id']}/cancel", {"reason": "enough"}, 200)
    assert task["status"] == "canceled" and task["closed_at"]
    last = api.get(f"/v1/tasks/{made['task']['id']}/timeline")["items"][-2:]
    assert [e["type"] for e in last] == ["run.canceled", "task.canceled"]
    assert last[0]["payload"] == {"reason": "direct", "detail": "enough"}
    assert last[1]["payload"] == {"reason": "direct", "detail": "enough", "status": "canceled",
                                  "canceled_run_ids": [made["run"]["id"]]}
    assert api.get("/v1/runs/" + made["run"]["id"])["status"] == "canceled"
    assert api.claim(capabilities=[capability]) == []
    again = api.post(f"/v1/tasks/{made['task']['id']}/cancel", {}, 200)
    assert again["latest_sequence"] == task["latest_sequence"]
    api.problem("POST", f"/v1/tasks/{made['task']['id']}/retry", 409, "invalid_transition", {})


def test_a_second_start_waits_for_the_first_run_to_end(api):
    task = api.task()
    first = api.post(f"/v1/tasks/{task['id']}/start")
    assert first["action"] == "start" and first["run"]["attempt"] == 1
    api.problem("POST", f"/v1/tasks/{task['id']}/start", 409, "invalid_transition", {})
    api.post(f"/v1/runs/{first['run']['id']}/cancel", {}, 200)
    assert api.get("/v1/tasks/" + task["id"])["status"] == "ready"
    assert api.post(f"/v1/tasks/{task['id']}/runs")["attempt"] == 2


def test_a_task_fails_when_its_attempts_are_spent_and_a_higher_bound_revives_it(api, capability):
    made = api.started(max_attempts=1, required_capabilities=[capability])
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail",
             {"claim_token": claim["claim_token"], "error": "no"}, 200)
    path = "/v1/tasks/" + made["task"]["id"]
    assert api.get(path)["status"] == "failed"
    api.problem("POST", path + "/retry", 409, "invalid_transition", {})
    assert api.request("PATCH", path, {"max_attempts": 2}, 200).json()["status"] == "ready"
    retried = api.post(path + "/retry")
    assert retried["run"]["attempt"] == 2 and retried["run"]["previous_run_id"] == claim["run"]["id"]


def test_an_automatic_retry_waits_its_delay(api, capability):
    made = api.started(retry={"delay_ms": 300, "jitter": 0}, required_capabilities=[capability])
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail",
             {"claim_token": claim["claim_token"], "error": "no"}, 200)
    runs = api.get(f"/v1/tasks/{made['task']['id']}/runs")["items"]
    assert [r["attempt"] for r in runs] == [2, 1] and runs[0]["status"] == "queued"
    reasons = api.get(f"/v1/runs/{runs[0]['id']}/explain")["reasons"]
    assert reasons[0]["code"] == "backoff" and reasons[0]["until"]
    assert api.claim(capabilities=[capability]) == []
    again = api.claim(capabilities=[capability], wait_seconds=5)
    assert again[0]["run"]["id"] == runs[0]["id"]


def test_keys_of_a_document_come_back_as_they_were_sent(api):
    document = {'a"b': 1, "c\\": 2, "d\n\u0001": {'":1,"e': 3}, "f\\\\g": "h"}
    made = api.post("/v1/tasks", {"title": "t", "metadata": document, "input": document, "start": True})
    task = api.get("/v1/tasks/" + made["task"]["id"])
    assert task["metadata"] == document and task["input"] == document
    claim = api.post(f"/v1/runs/{made['run']['id']}/claim", {}, 200)["claims"][0]
    api.post(f"/v1/runs/{made['run']['id']}/complete", {"claim_token": claim["claim_token"], "result": document}, 200)
    assert api.get("/v1/runs/" + made["run"]["id"])["result"] == document
